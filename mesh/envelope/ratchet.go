package envelope

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A ratchet is one chain as its readers hold it: the key of the first message
// nobody has shown yet, and the keys of earlier ones that are missing.
//
// Counters are the lower 31 bits of indexes.
type ratchet struct {
	key  key
	next uint32
	gaps map[uint32]*gap
	lost []Range // given up: asked for again by need-rekey, ascending
}

// A gap is a message below next that has not been accepted.
type gap struct {
	key    key // zero if it is only in the vault
	stored bool
	since  int64 // by the keyring's own age, seconds
	// opened: shown to the caller, not accepted yet. seen are the digests of
	// the payloads that opened under this key: more than one means a clone.
	opened bool
	seen   []digest
}

// A Range is a stretch of indexes, both ends included.
type Range struct{ From, To uint32 }

// seek derives the keys up to a counter that is not below next.
func (r *ratchet) seek(counter uint32) (passed []key, message, next key) {
	next = r.key
	for c := r.next; c < counter; c++ {
		var m key
		m, next = next.step()
		passed = append(passed, m)
	}
	message, next = next.step()
	return passed, message, next
}

// advance moves the ratchet behind a message that proved authentic; the
// messages it overtook become gaps, the oldest of too many are lost.
func (r *ratchet) advance(counter uint32, passed []key, next key, now int64) {
	if r.gaps == nil {
		r.gaps = map[uint32]*gap{}
	}
	if over := len(passed) - MaxGaps; over > 0 {
		r.lose(Range{r.next, r.next + uint32(over) - 1})
		r.next += uint32(over)
		passed = passed[over:]
	}
	for i, k := range passed {
		r.gaps[r.next+uint32(i)] = &gap{key: k, since: now}
	}
	r.key, r.next = next, counter+1
}

// evictable returns the counters of gaps that may be given up, oldest first.
func (r *ratchet) evictable() []uint32 {
	var cs []uint32
	for c, g := range r.gaps {
		if !g.opened {
			cs = append(cs, c)
		}
	}
	slices.Sort(cs)
	return cs
}

// expired returns the counters of gaps older than age.
func (r *ratchet) expired(now int64, age time.Duration) []uint32 {
	limit := now - int64(age/time.Second)
	return slices.DeleteFunc(r.evictable(), func(c uint32) bool { return r.gaps[c].since > limit })
}

// lose remembers that indexes were given up, at most maxLost ranges of them.
func (r *ratchet) lose(add Range) {
	r.lost = append(r.lost, add)
	slices.SortFunc(r.lost, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	merged := r.lost[:1]
	for _, l := range r.lost[1:] {
		if last := &merged[len(merged)-1]; l.From <= last.To+1 {
			last.To = max(last.To, l.To)
		} else {
			merged = append(merged, l)
		}
	}
	r.lost = merged[max(0, len(merged)-maxLost):]
}

func (r *ratchet) isLost(c uint32) bool {
	return slices.ContainsFunc(r.lost, func(l Range) bool { return l.From <= c && c <= l.To })
}

// received returns the counters accepted so far as ranges.
func (r *ratchet) received() []Range {
	missing := slices.Clone(r.lost)
	for _, c := range slices.Sorted(maps.Keys(r.gaps)) {
		missing = append(missing, Range{c, c})
	}
	slices.SortFunc(missing, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	var out []Range
	at := uint32(0)
	for _, m := range missing {
		if m.From > at {
			out = append(out, Range{at, m.From - 1})
		}
		at = max(at, m.To+1)
	}
	if at < r.next {
		out = append(out, Range{at, r.next - 1})
	}
	return out
}
