package store

import (
	"context"
	"errors"

	"outrider/mesh/bundle"
	"outrider/store/internal/segment"
)

// Tidying moves the payloads that are still wanted out of segments that are
// mostly garbage, so that these can be removed. It begins when garbage exceeds
// both tidyMin and half of what lives, and works on segments at most half
// alive, the emptiest first: so the disk holds at most about one and a half
// times what is stored, and a moved byte frees at least one other.
const (
	tidyMin   = 8 << 20
	tidyBatch = 64 // frames moved in one Commit
)

// tidySoon starts tidying in the background if it is due and not under way.
func (s *Store) tidySoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tidying || s.closing || s.broken != nil {
		return
	}
	if _, ok := s.state.victim(s.untidy); !ok {
		return
	}
	s.tidying = true
	s.tidied.Go(s.tidy)
}

func (s *Store) tidy() {
	for {
		n, ok := s.nextVictim()
		if !ok {
			return
		}
		err := s.evacuate(n)
		if errors.Is(err, ErrClosed) || errors.Is(err, ErrFull) {
			s.stopTidying()
			return
		}
		s.leave(n, err)
	}
}

// leave marks a segment that could not be emptied, because a payload in it is
// damaged or something else is wrong: it is not tried again before the next
// Open.
func (s *Store) leave(n uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.state.segments[n]; ok {
		s.untidy[n] = true
		s.o.Log.Warn("store: cannot tidy a payload segment", "segment", n, "err", err)
	}
}

func (s *Store) nextVictim() (n uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		n, ok = s.state.victim(s.untidy)
	}
	s.tidying = ok
	return n, ok
}

func (s *Store) stopTidying() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidying = false
}

// victim returns the segment to tidy next, none of those to be left alone.
func (st state) victim(leave map[uint32]bool) (best uint32, ok bool) {
	if g := st.garbage(); g < tidyMin || g < st.count.payload/2 {
		return 0, false
	}
	for n, seg := range st.segments {
		if n == st.current || leave[n] || seg.live > seg.end/2 {
			continue
		}
		if b := st.segments[best]; !ok || uint64(seg.live)*uint64(b.end) < uint64(b.live)*uint64(seg.end) {
			best, ok = n, true
		}
	}
	return best, ok
}

// evacuate moves what lives in a segment. When the last frame has moved, the
// commit that moves it removes the segment.
func (s *Store) evacuate(n uint32) error {
	s.mu.Lock()
	end := s.state.segments[n].end
	s.mu.Unlock()
	var ops []Op
	for fr, err := range s.log.Frames(n, end) {
		if gone(err) {
			return nil // its last bundle was deleted meanwhile
		}
		if err != nil {
			return err
		}
		if ops = append(ops, movePayload{bundle.ID(fr.ID), fr.Place, nil}); len(ops) < tidyBatch {
			continue
		}
		if err := s.move(ops); err != nil {
			return err
		}
		ops = ops[:0]
	}
	return s.move(ops)
}

// move commits those of the moves whose frames still live.
func (s *Store) move(ops []Op) error {
	var live []Op
	for _, op := range ops {
		m := op.(movePayload)
		r, err := s.Bundle(m.id)
		if errors.Is(err, ErrNotFound) || err == nil && r.place != m.from {
			continue
		}
		if err != nil {
			return err
		}
		if m.payload, err = s.log.Read(m.from, r.PayloadLen); gone(err) {
			continue
		} else if err != nil {
			return err
		}
		if r.verify(m.payload) != nil {
			continue // leave it where it is, with its error
		}
		live = append(live, m)
	}
	return s.Commit(context.Background(), live...)
}

// movePayload is an Op that puts a copy of a payload in the place of the one
// at from, if that is still the one.
type movePayload struct {
	id      bundle.ID
	from    segment.Place
	payload []byte
}

func (movePayload) need() need           { return bookkeeping }
func (m movePayload) check() (Op, error) { return m, nil }
func (m movePayload) payloadBytes() int  { return len(m.payload) }

func (m movePayload) apply(t *tx) error {
	old, err := t.bundle(m.id)
	if errors.Is(err, ErrNotFound) || err == nil && old.place != m.from {
		return nil
	}
	if err != nil {
		return err
	}
	r := old
	t.state.release(old.place, old.frame())
	r.place = t.addPayload(m.id, m.payload)
	t.changeBundle(old, r)
	return nil
}
