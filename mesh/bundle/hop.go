package bundle

import (
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A Hop is the part of a bundle that each node rewrites. Nothing in it is
// authenticated beyond the link it came over, so nothing in it may cause a
// loss: see decisions on age in mesh/DESIGN.md.
type Hop struct {
	Age    uint32 // seconds since the bundle was made, by the clocks that ran
	Count  uint8  // links crossed, saturating
	Budget uint8  // replicas this copy may still make, at most MaxBudget

	extra []cbor.RawMessage // fields of later versions, kept byte for byte
}

// AgeDuration returns the age as a duration.
func (h Hop) AgeDuration() time.Duration { return time.Duration(h.Age) * time.Second }

// Older returns h after d more at this node, saturating.
func (h Hop) Older(d time.Duration) Hop {
	h.Age = uint32(min(uint64(h.Age)+uint64(max(d, 0)/time.Second), math.MaxUint32))
	return h
}

// Next returns h as it goes over a link with the given budget.
func (h Hop) Next(budget uint8) Hop {
	if h.Count < math.MaxUint8 {
		h.Count++
	}
	h.Budget = min(budget, MaxBudget)
	return h
}

// Append appends the CBOR array to dst.
func (h Hop) Append(dst []byte) []byte {
	fields := make([]any, 3, 3+len(h.extra))
	fields[0], fields[1], fields[2] = h.Age, h.Count, h.Budget
	for _, e := range h.extra {
		fields = append(fields, e)
	}
	b, err := encMode.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("bundle: encode hop part: %v", err)) // integers and bytes that were parsed before
	}
	return append(dst, b...)
}

// ParseHop reads a hop part. A budget above MaxBudget is read as MaxBudget, an
// age or count beyond its range as the largest value.
func ParseHop(raw []byte) (Hop, error) {
	if len(raw) > MaxHop {
		return Hop{}, fmt.Errorf("bundle: parse hop part: %d bytes exceed %d: %w", len(raw), MaxHop, ErrMalformed)
	}
	var fields []cbor.RawMessage
	if err := decMode.Unmarshal(raw, &fields); err != nil {
		return Hop{}, fmt.Errorf("bundle: parse hop part: %v: %w", err, ErrMalformed)
	}
	if len(fields) < 3 {
		return Hop{}, fmt.Errorf("bundle: parse hop part: %d fields, want at least 3: %w", len(fields), ErrMalformed)
	}
	var v [3]uint64
	for i := range v {
		// Major type 0 only (RFC 8949, section 3.1): the library reads simple
		// values as numbers too.
		if err := decMode.Unmarshal(fields[i], &v[i]); err != nil || fields[i][0]>>5 != 0 {
			return Hop{}, fmt.Errorf("bundle: parse hop part: field %d is no unsigned integer: %w", i, ErrMalformed)
		}
	}
	return Hop{
		Age: uint32(min(v[0], math.MaxUint32)), Count: uint8(min(v[1], math.MaxUint8)), Budget: uint8(min(v[2], MaxBudget)),
		extra: fields[3:],
	}, nil
}
