package store

import (
	"context"
	"errors"
	"fmt"

	"outrider/store/internal/kv"
	"outrider/store/internal/segment"
)

// Commit makes all the changes or none, and returns nil when they are on the
// disk. Changes of one call are made in order and see each other. When ctx
// ends before the disk has been asked, nothing was changed and the error is
// the context's; after that Commit waits for the outcome.
func (s *Store) Commit(ctx context.Context, ops ...Op) error {
	if len(ops) == 0 {
		return nil
	}
	c, err := newCall(ops)
	if err != nil {
		return err
	}
	return s.group.Submit(ctx, c)
}

// CommitEach is a Commit for each of txns, in their order, and returns what
// each of them would. One that fails leaves the others alone; those that fit
// together share one sync of the disk. When ctx ends before the disk has been
// asked, nothing was changed and every error is the context's.
func (s *Store) CommitEach(ctx context.Context, txns [][]Op) []error {
	errs := make([]error, len(txns))
	calls := make([]*call, len(txns)) // nil: not even a transaction
	list := &call{}
	for i, ops := range txns {
		if len(ops) == 0 {
			continue
		}
		if calls[i], errs[i] = newCall(ops); errs[i] == nil {
			list.each = append(list.each, calls[i])
		}
	}
	if len(list.each) == 0 {
		return errs
	}
	err := s.group.Submit(ctx, list)
	for i, c := range calls {
		switch {
		case c == nil || errs[i] != nil:
		case err != nil:
			errs[i] = err // nothing was asked of the disk
		default:
			errs[i] = c.err
		}
	}
	return errs
}

// A call is one Commit, or one CommitEach.
type call struct {
	ops    []Op
	each   []*call // CommitEach: in place of ops
	last   bool    // Close: nothing is committed after it
	err    error
	failed bool
}

// single returns the calls that stand for themselves.
func single(calls []*call) []*call {
	list := make([]*call, 0, len(calls))
	for _, c := range calls {
		if c.each != nil {
			list = append(list, c.each...)
		} else {
			list = append(list, c)
		}
	}
	return list
}

func newCall(ops []Op) (*call, error) {
	if len(ops) > MaxOps {
		return nil, fmt.Errorf("store: commit of %d ops (at most %d): %w", len(ops), MaxOps, ErrTooLarge)
	}
	c := &call{ops: make([]Op, len(ops))}
	for i, op := range ops {
		var err error
		if c.ops[i], err = op.check(); err != nil {
			return nil, err
		}
	}
	if payload := c.payload(); payload > maxPlan {
		return nil, fmt.Errorf("store: commit of %d bytes of payload (at most %d): %w", payload, maxPlan, ErrTooLarge)
	}
	return c, nil
}

func (c *call) fail(err error) { c.err, c.failed = err, true }

// payload is the number of payload bytes the call brings.
func (c *call) payload() (sum int) {
	for _, op := range c.ops {
		if p, ok := op.(interface{ payloadBytes() int }); ok {
			sum += p.payloadBytes()
		}
	}
	return sum
}

func (c *call) need() (n need) {
	for _, op := range c.ops {
		n = max(n, op.need())
	}
	return n
}

// commitBatch is run by one goroutine at a time, with everything that has
// queued up.
func (s *Store) commitBatch(calls []*call) []error {
	list := single(calls)
	for _, c := range list {
		if s.ended {
			c.fail(fmt.Errorf("store: commit: %w", ErrClosed))
		}
		s.ended = s.ended || c.last
	}
	for rest := list; len(rest) > 0; {
		rest = rest[s.commitSome(rest):]
	}
	errs := make([]error, len(calls))
	for i, c := range calls {
		errs[i] = c.err
	}
	s.tidySoon()
	return errs
}

// commitSome commits as many of the calls as fit into one batch and returns
// their number, at least 1. Payloads go first: the index never names one that
// could be lost. If they find no space, the calls without any still succeed.
func (s *Store) commitSome(calls []*call) int {
	t, n := s.gather(calls)
	taken := calls[:n]
	if err := s.appendPayloads(t); err != nil {
		for _, c := range taken {
			if !c.failed && c.payload() > 0 {
				c.fail(err)
			}
		}
		t, _ = s.gather(taken)
	}
	if err := s.write(t); err != nil {
		for _, c := range taken {
			if !c.failed {
				c.fail(err)
			}
		}
		return n
	}
	s.count(taken)
	return n
}

// gather applies calls one after the other, leaving out those that fail, until
// the batch is full.
func (s *Store) gather(calls []*call) (t *tx, n int) {
	t = s.newTx()
	room := s.room()
	for n < len(calls) {
		c := calls[n]
		if !c.failed {
			child, err := s.try(t, c, room)
			if err != nil {
				c.fail(err)
			} else if n > 0 && !fits(t, child) {
				break
			} else {
				t.merge(child)
			}
		}
		n++
	}
	return t, n
}

// stateRoom is what the counters and segment states may add to a batch.
const stateRoom = 16 << 10

func fits(t, child *tx) bool {
	return t.batch.Size()+child.batch.Size() <= kv.MaxBatch-stateRoom && t.batch.Len()+child.batch.Len() <= kv.MaxBatchOps-64 &&
		t.planned()+child.planned() <= 2*maxPlan
}

// try applies a call on top of t.
func (s *Store) try(t *tx, c *call, room func(need) error) (*tx, error) {
	if err := room(c.need()); err != nil {
		return nil, err
	}
	child := t.child()
	for _, op := range c.ops {
		if err := op.apply(child); err != nil {
			return nil, err
		}
	}
	if child.batch.Size() > maxIndex {
		return nil, fmt.Errorf("store: commit of %d bytes of index (at most %d): split it: %w", child.batch.Size(), maxIndex, ErrTooLarge)
	}
	return child, nil
}

// room asks the disk once how much is free, and returns a judge of needs.
func (s *Store) room() func(need) error {
	free, err := s.o.FS.Free(s.dir)
	return func(n need) error {
		floor := s.o.FreeFloor
		if n == bookkeeping {
			floor /= 4
		}
		switch {
		case err != nil:
			return fmt.Errorf("store: commit: %w", err)
		case free < floor:
			return fmt.Errorf("store: commit: %d MiB free on the disk, %d are kept free: %w", free>>20, floor>>20, ErrFull)
		}
		return nil
	}
}

func (s *Store) appendPayloads(t *tx) error {
	if err := s.usable(); err != nil {
		return err
	}
	err := s.log.Append(t.items, t.places)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("store: commit: %w", translate(err))
	if errors.Is(err, segment.ErrUnsynced) {
		s.breakDown(err)
	}
	return err
}

// write puts a batch into the index and adopts its state.
func (s *Store) write(t *tx) error {
	if err := s.usable(); err != nil {
		return err
	}
	dead := t.state.dropDead()
	s.mu.Lock()
	t.state.putChanged(&t.batch, s.state)
	s.mu.Unlock()
	if t.batch.Len() == 0 {
		return nil
	}
	if err := s.kv.Write(&t.batch); err != nil {
		err = fmt.Errorf("store: commit: %w", translate(err))
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrClosed) {
			s.breakDown(err)
		}
		return err
	}
	s.adopt(t.state)
	for _, n := range dead {
		if err := s.log.Remove(n); err != nil { // the next Open tries again
			s.o.Log.Warn("store: cannot remove a dead segment", "err", err)
		}
	}
	return nil
}

func (s *Store) adopt(st state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = st
	s.batches++
}

func (s *Store) count(calls []*call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range calls {
		if !c.failed {
			s.calls++
		}
	}
}

// usable returns why nothing can be written any more, if that is so.
func (s *Store) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// breakDown refuses all later writes: the disk may hold less than it seems,
// until a new start reads what is really there.
func (s *Store) breakDown(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf("store: %w (%v)", ErrBroken, cause)
		s.o.Log.Error("store: a sync of the disk failed; nothing more is accepted until a restart", "err", cause)
	}
}

// Check returns the ops as Commit would apply them: examined, and with what
// follows from them filled in. Commit does it first; other implementations of
// a store can have it done here.
func Check(ops ...Op) ([]Op, error) {
	c, err := newCall(ops)
	if err != nil {
		return nil, err
	}
	return c.ops, nil
}
