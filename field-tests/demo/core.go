package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"path/filepath"

	"outrider/field-tests/core"
	"outrider/field-tests/scenario"
)

const (
	coreText  = "Brigade, this came over the satellite. No node between us."
	coreReply = "Received by the same way."
	coreFile  = "sector-map.bin"
	coreBytes = 2 << 20
)

// throughCore: Alpha and Charlie, with no node between them, find a backhaul:
// what Alpha sends lies at a core of three servers until Charlie takes it.
func throughCore() step {
	c := &coreStep{}
	return step{title: "a backhaul appears: a message and a file cross by the core's three servers", prepare: c.prepare, play: c.play}
}

// coreStep's backhauls are cut until the step is played.
type coreStep struct{ alpha, charlie *core.Backhaul }

func (c *coreStep) prepare(ctx context.Context, s *scenario.Story) error {
	k, err := core.Start(ctx, s.Alpha.Bin, filepath.Join(filepath.Dir(s.Alpha.Dir), "core"))
	if err != nil {
		return fmt.Errorf("%w (the NATS server of go.mod must be there: make bin/nats-server)", err)
	}
	s.AtClose(k.Stop)
	for _, x := range []struct {
		box *scenario.Box
		way **core.Backhaul
	}{{s.Alpha, &c.alpha}, {s.Charlie, &c.charlie}} {
		settings, err := k.Add(ctx, x.box.Name)
		if err != nil {
			return err
		}
		if *x.way, err = core.NewBackhaul(settings.Servers); err != nil {
			return err
		}
		s.AtClose((*x.way).Close)
		(*x.way).Cut()
		settings.Servers = (*x.way).Addrs
		if err := x.box.Append(settings.TOML()); err != nil {
			return err
		}
	}
	return nil
}

func (c *coreStep) play(ctx context.Context, s *scenario.Story) error {
	if err := s.Hears(ctx, ""); err != nil {
		return err
	}
	body := make([]byte, coreBytes)
	_, _ = rand.Read(body)
	s.Count(scenario.Tally{Sent: 2})
	text, err := s.Alpha.API.Send(ctx, s.People[2], coreText)
	if err != nil {
		return err
	}
	if _, err := s.Alpha.API.SendFile(ctx, s.People[2], coreFile, bytes.NewReader(body)); err != nil {
		return err
	}
	c.alpha.Restore()
	if err := reached(ctx, s, s.Alpha, text.ID, "at-core"); err != nil {
		return err
	}
	c.alpha.Cut() // the two are never there at the same time
	c.charlie.Restore()
	err = scenario.Poll(ctx, "the message from the core", func() (bool, error) {
		_, ok, err := fromAlice(ctx, s, func(m scenario.Message) bool { return m.Text == coreText })
		return ok, err
	})
	if err != nil {
		return err
	}
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	s.Say("charlie", "from the core: %q", coreText)
	c.alpha.Restore()
	if err := c.fileArrives(ctx, s, sha256.Sum256(body)); err != nil {
		return err
	}
	if err := reached(ctx, s, s.Alpha, text.ID, "delivered"); err != nil {
		return err
	}
	s.Count(scenario.Tally{Sent: 1})
	reply, err := s.Charlie.API.Send(ctx, s.People[0], coreReply)
	if err != nil {
		return err
	}
	if err := reached(ctx, s, s.Charlie, reply.ID, "delivered"); err != nil {
		return err
	}
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	c.alpha.Cut()
	c.charlie.Cut()
	return nil
}

func (c *coreStep) fileArrives(ctx context.Context, s *scenario.Story, want [32]byte) error {
	var id string
	err := scenario.Poll(ctx, "the file from the core", func() (bool, error) {
		m, ok, err := fromAlice(ctx, s, func(m scenario.Message) bool {
			return m.File != nil && m.File.Name == coreFile && m.File.Complete
		})
		id = m.ID
		return ok, err
	})
	if err != nil {
		return err
	}
	h := sha256.New()
	if err := s.Charlie.API.File(ctx, id, h); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), want[:]) {
		return fmt.Errorf("the file that came from the core is another one")
	}
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	s.Say("charlie", "from the core: %s, %d bytes, SHA-256 as sent", coreFile, coreBytes)
	return nil
}

// reached waits until a message is in a state, and tells.
func reached(ctx context.Context, s *scenario.Story, b *scenario.Box, id, state string) error {
	err := scenario.Poll(ctx, "the state "+state, func() (bool, error) {
		m, err := b.API.Message(ctx, id)
		return m.State == state, err
	})
	if err == nil {
		s.Say(b.Name, "its message is %s", state)
	}
	return err
}

func fromAlice(ctx context.Context, s *scenario.Story, is func(scenario.Message) bool) (m scenario.Message, ok bool, err error) {
	inbox, err := s.Charlie.API.Inbox(ctx)
	for _, m := range inbox {
		if m.From.Name == s.People[0] && is(m) {
			return m, true, nil
		}
	}
	return m, false, err
}
