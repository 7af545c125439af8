package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"outrider/store/internal/kv"
	"outrider/store/internal/segment"
)

// A state is what the store knows of itself: counters and the fill of the
// payload segments. It is written in the same batch as what it counts, so it
// needs no scan at start.
type state struct {
	count    counters
	segments map[uint32]segmentState
	current  uint32 // the segment that is appended to; 0 before the first
}

type counters struct {
	bundles, payload uint64 // number, bytes of payload
	purges, rows     uint64
	lastSeq          uint64
}

// bytes is what counts against Options.MaxBytes.
func (c counters) bytes() uint64 { return c.payload + (c.bundles+c.purges)*RecordCost }

type segmentState struct {
	end  uint32 // bytes that count
	live uint32 // bytes of frames that records name
}

func newState() state { return state{segments: make(map[uint32]segmentState)} }

func (st state) clone() state {
	st.segments = maps.Clone(st.segments)
	return st
}

func (st state) segmentBytes() (sum uint64) {
	for _, seg := range st.segments {
		sum += uint64(seg.end)
	}
	return sum
}

// garbage is what segments occupy for nothing, the current one aside.
func (st state) garbage() (sum uint64) {
	for n, seg := range st.segments {
		if n != st.current {
			sum += uint64(seg.end - seg.live)
		}
	}
	return sum
}

// seal makes sure that nothing is appended to segment n any more.
func (st *state) seal(n uint32) {
	if n == st.current {
		st.current++
	}
}

// allot returns the place for a frame, and counts it as live.
func (st *state) allot(frame, segmentBytes uint32) segment.Place {
	if st.current == 0 {
		st.current = 1
	}
	seg := st.segments[st.current]
	if seg.end > 0 && uint64(seg.end)+uint64(frame) > uint64(segmentBytes) {
		st.current++
		seg = segmentState{}
	}
	p := segment.Place{Segment: st.current, Offset: seg.end}
	seg.end += frame
	seg.live += frame
	st.segments[st.current] = seg
	return p
}

// release says that a frame is no longer wanted.
func (st *state) release(p segment.Place, frame uint32) {
	seg, ok := st.segments[p.Segment]
	if !ok || seg.live < frame {
		return // a damaged segment that is gone
	}
	seg.live -= frame
	st.segments[p.Segment] = seg
}

// dropDead forgets segments nothing lives in and returns their numbers.
func (st *state) dropDead() (dead []uint32) {
	for n, seg := range st.segments {
		if seg.live == 0 && n != st.current {
			dead = append(dead, n)
			delete(st.segments, n)
		}
	}
	return dead
}

// put adds to b what must be written for st to be found again.
func (st state) put(b *kv.Batch) {
	b.Set(keyCounters, st.count.encode())
	for n, seg := range st.segments {
		b.Set(keySegment(n), seg.encode())
	}
}

// putChanged adds what differs from old.
func (st state) putChanged(b *kv.Batch, old state) {
	if st.count != old.count {
		b.Set(keyCounters, st.count.encode())
	}
	for n, seg := range st.segments {
		if was, ok := old.segments[n]; !ok || was != seg {
			b.Set(keySegment(n), seg.encode())
		}
	}
	for n := range old.segments {
		if _, ok := st.segments[n]; !ok {
			b.Delete(keySegment(n))
		}
	}
}

func (s segmentState) encode() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, s.end), s.live)
}

func parseSegmentState(raw []byte) (segmentState, error) {
	c := cutter{rest: raw}
	s := segmentState{end: c.uint32(), live: c.uint32()}
	if !c.ended() || s.live > s.end {
		return segmentState{}, fmt.Errorf("store: read state of a segment: %w", ErrCorrupt)
	}
	return s, nil
}

func (c counters) encode() []byte {
	var b []byte
	for _, v := range []uint64{c.bundles, c.payload, c.purges, c.rows, c.lastSeq} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func parseCounters(raw []byte) (counters, error) {
	c := cutter{rest: raw}
	n := counters{bundles: c.uint64(), payload: c.uint64(), purges: c.uint64(), rows: c.uint64(), lastSeq: c.uint64()}
	if !c.ended() {
		return counters{}, fmt.Errorf("store: read counters: %w", ErrCorrupt)
	}
	return n, nil
}

func readState(db *kv.DB) (state, error) {
	st := newState()
	raw, err := db.Get(keyCounters)
	if err != nil {
		return st, fmt.Errorf("read counters: %w", errors.Join(err, ErrCorrupt))
	}
	if st.count, err = parseCounters(raw); err != nil {
		return st, err
	}
	for p, err := range db.Scan(kv.Range{Prefix: []byte{prefixSegment}}) {
		if err != nil {
			return st, err
		}
		seg, err := parseSegmentState(p.Value)
		if err != nil || len(p.Key) != 5 {
			return st, fmt.Errorf("store: read state of a segment: %w", ErrCorrupt)
		}
		n := binary.BigEndian.Uint32(p.Key[1:])
		st.segments[n] = seg
		st.current = max(st.current, n)
	}
	return st, nil
}
