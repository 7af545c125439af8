package coresync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

func has(list []int, v int) bool {
	_, ok := slices.BinarySearch(list, v)
	return ok
}

// Watch tells the core which mailboxes this node reads. The core delivers what
// came into one after it was told of it, but nothing from before since, by its
// own clock: if that is another time than at the last Watch, there is a gap.
func (e *Edge) Watch(ctx context.Context, m Mailboxes) (since time.Time, err error) {
	if len(m.Tags) > MaxTags || len(m.Purges) > MaxTags {
		return since, ErrTooMany
	}
	q := question{Ask: askBoxes, Tags: packTags(slices.Clone(m.Tags)), Purges: packTags(slices.Clone(m.Purges)), Again: m.Again}
	s, err := e.session(ctx)
	if err != nil {
		return since, err
	}
	a, err := s.ask(ctx, q)
	return time.Unix(0, a.Since), err
}

// Pull implements Core.
func (e *Edge) Pull(ctx context.Context, take func(Parcel) error) error {
	s, err := e.session(ctx)
	if err != nil {
		return err
	}
	js, err := jetstream.New(s.nc)
	if err != nil {
		return fmt.Errorf("coresync: pull: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	return e.drain(ctx, s, js, consumerOf(e.seed.Node), take)
}

// drain takes what one consumer delivers, until ctx ends or the consumer is
// made anew.
func (e *Edge) drain(ctx context.Context, s *session, js jetstream.JetStream, name string, take func(Parcel) error) error {
	for ctx.Err() == nil {
		c, err := js.Consumer(ctx, streamBox, name)
		if err != nil {
			if !pause(ctx, s.ctx, retryWait) {
				break
			}
			continue // the desk is making it
		}
		if err := e.drainOne(ctx, s, c, take); err != nil {
			return err
		}
	}
	return nil
}

func (e *Edge) drainOne(ctx context.Context, s *session, c jetstream.Consumer, take func(Parcel) error) error {
	it, err := c.Messages(jetstream.PullMaxMessages(pullWindow), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		pause(ctx, s.ctx, retryWait)
		return nil
	}
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	defer it.Stop()
	for {
		msg, err := it.Next()
		if err != nil {
			pause(ctx, s.ctx, retryWait)
			return nil // ended, or the consumer was made anew: look again
		}
		if err := e.receive(s, msg, take); err != nil {
			return err
		}
	}
}

// receive opens one message. What is not what it was filed as is dropped for
// good: it will not become better.
func (e *Edge) receive(s *session, msg jetstream.Msg, take func(Parcel) error) error {
	p, err := openParcel(msg.Subject(), msg.Data())
	if err != nil {
		e.count(func(st *Status) { st.Malformed++ })
		_ = msg.Term()
		return nil
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil // it is delivered again
	}
	p.msg = msg
	p.grow(s.coreTime().Sub(meta.Timestamp))
	e.count(func(st *Status) { st.Pulled++ })
	return take(p)
}

// grow adds the time that a parcel lay at the core, by the core's own clock.
// A core that lies can make it die early, as it can lose it, and never makes
// it younger than it was when it came there.
func (p *Parcel) grow(lay time.Duration) {
	if lay <= 0 {
		return
	}
	older := func(h bundle.Hop) bundle.Hop { return h.Older(lay) }
	if p.Bundle != nil {
		p.Bundle.Hop = older(p.Bundle.Hop)
	} else {
		p.Purge.Hop = older(p.Purge.Hop)
	}
}

// Ack implements Core. An acknowledgement that gets lost costs a second
// delivery. What was fetched from a list has none.
func (e *Edge) Ack(p Parcel) {
	if p.msg != nil {
		_ = p.msg.Ack()
	}
}

// Later implements Core.
func (e *Edge) Later(p Parcel, after time.Duration) {
	if p.msg != nil {
		_ = p.msg.NakWithDelay(after)
	}
}

// List implements Core.
func (e *Edge) List(ctx context.Context, m Mailboxes) (names []Name, err error) {
	for _, q := range listQuestions(m) {
		for more := true; more; {
			var page []Name
			err := e.again(ctx, func(s *session) error {
				a, err := s.ask(ctx, q)
				if err == nil {
					page, err = readNames(a.Data)
					more = a.More && len(page) > 0
				}
				return err
			})
			if err != nil {
				return nil, err
			}
			if names = append(names, page...); more {
				q.Name = []byte(page[len(page)-1].raw)
			}
		}
	}
	return names, nil
}

func readNames(data []byte) (names []Name, err error) {
	for raw := range slices.Chunk(data, nameBytes) {
		_, id, purge, err := unpackName(raw)
		if err != nil {
			return nil, err
		}
		names = append(names, Name{Tag: identity.Tag(raw[1:][:tagBytes]), ID: id, Purge: purge, raw: string(raw)})
	}
	return names, nil
}

// listQuestions asks for so many mailboxes at a time.
func listQuestions(m Mailboxes) (list []question) {
	for tags := range slices.Chunk(m.Tags, listTags) {
		list = append(list, question{Ask: askList, Tags: packTags(slices.Clone(tags))})
	}
	for tags := range slices.Chunk(m.Purges, listTags) {
		list = append(list, question{Ask: askList, Purges: packTags(slices.Clone(tags))})
	}
	return list
}

// Fetch implements Core.
func (e *Edge) Fetch(ctx context.Context, n Name) (p Parcel, err error) {
	subject, _, _, err := unpackName([]byte(n.raw))
	if err != nil {
		return p, err
	}
	err = e.again(ctx, func(s *session) error {
		a, err := s.ask(ctx, question{Ask: askBox, Name: []byte(n.raw)})
		if err != nil {
			return err
		}
		if a.Verdict == deskAbsent {
			return ErrAbsent
		}
		if p, err = openParcel(subject, a.Data); err != nil {
			e.count(func(st *Status) { st.Malformed++ })
			return err
		}
		p.grow(s.coreTime().Sub(time.Unix(0, a.Stored)))
		e.count(func(st *Status) { st.Pulled++ })
		return nil
	})
	return p, err
}
