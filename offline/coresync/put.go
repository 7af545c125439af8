package coresync

import (
	"context"
	"errors"
	"math/rand/v2"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

// Put implements Core.
func (e *Edge) Put(ctx context.Context, it Item) (Fate, error) {
	switch {
	case it.Chunk != nil:
		return e.putChunk(ctx, *it.Chunk)
	case it.Purge != nil:
		return e.putPurge(ctx, *it.Purge, it.Aged)
	case it.Bundle != nil:
		return e.putBundle(ctx, *it.Bundle, it.Aged)
	}
	return 0, errors.New("coresync: put: nothing")
}

func aged(h bundle.Hop, age func() uint32) bundle.Hop {
	if age != nil {
		h.Age = max(h.Age, age())
	}
	return h
}

// putBundle puts a bundle under its own subject, and under another when
// somebody has filed something else there.
func (e *Edge) putBundle(ctx context.Context, b bundle.Bundle, age func() uint32) (Fate, error) {
	if err := take(ctx, e.parcels); err != nil {
		return 0, err
	}
	defer release(e.parcels)
	id := b.ID()
	fate, err := e.putUnder(ctx, boxSubject(b.Header.Tag, id), b, age)
	if err != nil || fate == Stored {
		return e.stored(fate, err)
	}
	forged := false
	err = e.again(ctx, func(s *session) error {
		a, err := s.ask(ctx, question{Ask: askCheck, Tag: b.Header.Tag[:], ID: id[:]})
		forged = a.Verdict == deskForged
		return err
	})
	if err != nil || !forged {
		return e.stored(fate, err)
	}
	e.count(func(st *Status) { st.Squatted++ })
	e.log.Warn("somebody has filed something else under a bundle's name; it goes under another", "bundle", id)
	return e.stored(e.putUnder(ctx, retrySubject(b.Header.Tag, id, rand.Uint64()), b, age))
}

func (e *Edge) putUnder(ctx context.Context, subject string, b bundle.Bundle, age func() uint32) (fate Fate, err error) {
	hop := b.Hop
	err = e.send(ctx, func(s *session) error {
		b.Hop = aged(hop, age)
		present, err := s.publish(ctx, streamBox, subject, b.Append(nil))
		fate = fateOf(present)
		return err
	})
	return fate, err
}

func (e *Edge) putPurge(ctx context.Context, r bundle.PurgeRecord, age func() uint32) (Fate, error) {
	if err := take(ctx, e.parcels); err != nil {
		return 0, err
	}
	defer release(e.parcels)
	hop := r.Hop
	var fate Fate
	err := e.send(ctx, func(s *session) error {
		r.Hop = aged(hop, age)
		present, err := s.publish(ctx, streamBox, purgeSubject(r), r.Append(nil))
		fate = fateOf(present)
		return err
	})
	return e.stored(fate, err)
}

// putChunk puts a chunk, and behind the last one what the file is.
func (e *Edge) putChunk(ctx context.Context, c Chunk) (Fate, error) {
	if err := take(ctx, e.chunks); err != nil {
		return 0, err
	}
	defer release(e.chunks)
	data := c.append(nil)
	var fate Fate
	err := e.send(ctx, func(s *session) error {
		present, err := s.publish(ctx, streamFiles, chunkSubject(e.seed.Node, c.Blob.Root, c.Index), data)
		fate = fateOf(present)
		return err
	})
	return e.stored(fate, err)
}

// PutManifest says what a file is whose chunks are all there: its size and
// its root.
func (e *Edge) PutManifest(ctx context.Context, d blob.Descriptor) error {
	raw, err := d.MarshalBinary()
	if err != nil {
		return err
	}
	return e.send(ctx, func(s *session) error {
		_, err := s.publish(ctx, streamFiles, manifestSubject(e.seed.Node, d.Root), raw)
		return err
	})
}

func fateOf(present bool) Fate {
	if present {
		return Present
	}
	return Stored
}

func (e *Edge) stored(f Fate, err error) (Fate, error) {
	if err != nil {
		return 0, err
	}
	e.count(func(st *Status) {
		st.Full = false
		if f == Stored {
			st.Stored++
		} else {
			st.Present++
		}
	})
	return f, nil
}

func take(ctx context.Context, window chan struct{}) error {
	select {
	case window <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func release(window chan struct{}) { <-window }

// Have implements Core.
func (e *Edge) Have(ctx context.Context, d blob.Descriptor) (list []Holding, err error) {
	err = e.again(ctx, func(s *session) error {
		a, err := s.ask(ctx, question{Ask: askHave, Root: d.Root[:]})
		if err != nil {
			return err
		}
		list = nil
		for _, h := range a.Holders {
			list = append(list, Holding{Node: h.Node, Own: h.Node == e.seed.Node, Chunks: chunksOf(h.Chunks, d.Geometry().Groups())})
		}
		return nil
	})
	return list, err
}

// Get implements Core. What one holder has put wrongly another may have
// right.
func (e *Edge) Get(ctx context.Context, d blob.Descriptor, group int, from []Holding) (c Chunk, err error) {
	for _, h := range from {
		if !has(h.Chunks, group) {
			continue
		}
		var data []byte
		err := e.again(ctx, func(s *session) error {
			a, err := s.ask(ctx, question{Ask: askChunk, Root: d.Root[:], Node: h.Node, Index: uint32(group)})
			data = a.Data
			return err
		})
		if err != nil {
			return c, err
		}
		if c, err = openChunk(d, group, data); err == nil {
			return c, nil
		}
		e.count(func(st *Status) { st.Malformed++ })
	}
	return c, ErrAbsent
}
