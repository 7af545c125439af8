package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"outrider/field-tests/scenario"
	"outrider/media"
	"outrider/media/agree"
	"outrider/media/rtc/rtctest"
	"outrider/media/sframe"
)

// callee is a second user of Alpha: calls are within one node so far.
const callee = "dave"

// callFrames is how many frames each end must open: more than a second of
// speech.
const callFrames = 60

// sealedCall: alice calls dave, both at Alpha. Two clients in Go stand for
// their browsers, which a newcomer may not have: they agree on keys, seal and
// open as the page does.
func sealedCall() step {
	return step{title: "A call: rings, is accepted, sealed between its two ends", prepare: prepareCall, play: playCall}
}

func prepareCall(ctx context.Context, s *scenario.Story) error {
	ports, err := scenario.FreePorts("127.0.0.1", 1)
	if err != nil {
		return err
	}
	if err := s.Alpha.HostUser(ctx, callee); err != nil {
		return err
	}
	return s.Alpha.Append(fmt.Sprintf("[calls]\nlisten = \"127.0.0.1:%d\"\n", ports[0]))
}

// callView is a call in the node's answers.
type callView struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Commit  string `json:"commit"`
	PeerKey string `json:"peer_key"`
}

// A party is one end of the call.
type party struct {
	name   string
	api    *scenario.Client
	key    agree.Key
	sender int
	*rtctest.Client
}

var keyText = base64.RawURLEncoding

func playCall(ctx context.Context, s *scenario.Story) error {
	a, b, err := parties(ctx, s)
	if err != nil {
		return err
	}
	id, secrets, err := ringAndAgree(ctx, s, a, b)
	if err != nil {
		return err
	}
	for _, p := range []*party{a, b} {
		if err := p.connect(ctx, id, secrets); err != nil {
			return err
		}
	}
	err = speak(ctx, a, b)
	for _, p := range []*party{a, b} {
		c := p.Counts()
		s.Say("alpha", "%s by %s: %d frames sealed, %d opened, %d failed", p.name, p.Transport(), c.Sealed, c.Opened, c.Failed)
		err = errors.Join(err, failedFrames(c))
	}
	if err = errors.Join(err, tellForwarded(ctx, s), a.step(ctx, id, "/end", map[string]string{}, nil), a.Close(), b.Close()); err != nil {
		return err
	}
	return tellRecord(ctx, s, b)
}

func failedFrames(c rtctest.Counts) error {
	if c.Failed != 0 {
		return fmt.Errorf("%d frames did not open", c.Failed)
	}
	return nil
}

// parties are alice, who is logged in, and dave, who logs in now.
func parties(ctx context.Context, s *scenario.Story) (a, b *party, err error) {
	a, b = &party{name: s.People[0], api: s.Alpha.API, sender: agree.Caller}, &party{name: callee, api: scenario.NewClient(s.Alpha.Socket()), sender: agree.Callee}
	if _, err := b.api.Login(ctx, callee, scenario.UserPassword); err != nil {
		return nil, nil, err
	}
	for _, p := range []*party{a, b} {
		if p.key, err = agree.NewKey(); err != nil {
			return nil, nil, err
		}
	}
	return a, b, scenario.Poll(ctx, callee+"'s keys", func() (bool, error) { // published with the first login
		users, err := a.api.Users(ctx)
		return slices.ContainsFunc(users, func(u scenario.Person) bool { return u.Name == callee && u.HasKeys }), err
	})
}

// step says one step of the call to the node.
func (p *party) step(ctx context.Context, id agree.Call, path string, body, out any) error {
	return p.api.Do(ctx, "POST", "/v1/calls/"+media.CallID(id).String()+path, body, out)
}

// sees waits until the node shows the party its call like that.
func (p *party) sees(ctx context.Context, what string, like func(callView) bool) (c callView, err error) {
	err = scenario.Poll(ctx, p.name+" to see "+what, func() (bool, error) {
		var out struct{ Calls []callView }
		if err := p.api.Do(ctx, "GET", "/v1/calls", nil, &out); err != nil || len(out.Calls) != 1 {
			return false, err
		}
		c = out.Calls[0]
		return like(c), nil
	})
	return c, err
}

// ringAndAgree goes from the invitation to the keys: commitment, answer,
// reveal.
func ringAndAgree(ctx context.Context, s *scenario.Story, a, b *party) (id agree.Call, secrets agree.Secrets, err error) {
	rand.Read(id[:])
	commit := agree.Commit(id, a.key.Public())
	start := time.Now()
	body := map[string]string{"to": callee, "id": media.CallID(id).String(), "commit": keyText.EncodeToString(commit[:])}
	if err = a.api.Do(ctx, "POST", "/v1/calls", body, nil); err != nil {
		return id, secrets, err
	}
	if _, err = b.sees(ctx, "it ring", func(c callView) bool { return c.State == "ringing" }); err != nil {
		return id, secrets, err
	}
	s.Say("alpha", "it rings at %s, %d ms after %s called", callee, time.Since(start).Milliseconds(), a.name)
	if err = b.step(ctx, id, "/answer", map[string]string{"key": keyText.EncodeToString(b.key.Public())}, nil); err != nil {
		return id, secrets, err
	}
	if _, err = a.sees(ctx, "the answer", func(c callView) bool { return c.PeerKey != "" }); err != nil {
		return id, secrets, err
	}
	if err = a.step(ctx, id, "/key", map[string]string{"key": keyText.EncodeToString(a.key.Public())}, nil); err != nil {
		return id, secrets, err
	}
	c, err := b.sees(ctx, "the caller's key", func(c callView) bool { return c.PeerKey != "" })
	if err != nil {
		return id, secrets, err
	}
	return id, secrets, agreed(s, id, a, b, c, &secrets)
}

// agreed lets both ends derive their keys and compares what people would read
// to each other.
func agreed(s *scenario.Story, id agree.Call, a, b *party, c callView, out *agree.Secrets) error {
	shown, err1 := keyText.DecodeString(c.PeerKey)
	commit, err2 := keyText.DecodeString(c.Commit)
	if err := errors.Join(err1, err2); err != nil || len(commit) != agree.CommitSize {
		return fmt.Errorf("the node shows no key: %w", err)
	}
	if err := agree.CheckCommit(id, [agree.CommitSize]byte(commit), shown); err != nil {
		return err
	}
	hers, err1 := a.key.Agree(id, a.key.Public(), b.key.Public())
	his, err2 := b.key.Agree(id, shown, b.key.Public())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if hers != his {
		return errors.New("the two ends have different keys")
	}
	*out = hers
	s.Say("alpha", "accepted; both ends read the code %s", hers.Code())
	return nil
}

// connect lets a party's media reach the node.
func (p *party) connect(ctx context.Context, id agree.Call, secrets agree.Secrets) error {
	other := agree.Callee - p.sender
	sealer, err := sframe.NewSealer(secrets.Base(p.sender), uint64(p.sender))
	opener := sframe.NewOpener()
	if err = errors.Join(err, opener.Add(uint64(other), secrets.Base(other))); err != nil {
		return err
	}
	if p.Client, err = rtctest.New(rtctest.Options{Sealer: sealer, Opener: opener}); err != nil {
		return err
	}
	offer, err := p.Offer()
	if err != nil {
		return err
	}
	var answer struct{ SDP string }
	if err := p.step(ctx, id, "/media", map[string]string{"sdp": offer}, &answer); err != nil {
		return err
	}
	return p.Accept(ctx, answer.SDP)
}

// speak lets both talk until both have heard enough.
func speak(ctx context.Context, ends ...*party) error {
	talk, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, p := range ends {
		wg.Go(func() { p.Talk(talk, func() []byte { return bytes.Repeat([]byte{0x78}, 80) }) })
	}
	defer wg.Wait()
	defer stop()
	return scenario.Poll(ctx, "the two to hear each other", func() (bool, error) {
		return ends[0].Counts().Opened >= callFrames && ends[1].Counts().Opened >= callFrames, nil
	})
}

func tellForwarded(ctx context.Context, s *scenario.Story) error {
	var h struct {
		Calls struct {
			Running   int    `json:"running"`
			Forwarded uint64 `json:"forwarded_packets"`
		}
	}
	if err := s.Alpha.API.Do(ctx, "GET", "/v1/health", nil, &h); err != nil {
		return err
	}
	s.Say("alpha", "calls %d, %d packets forwarded, no key of them here", h.Calls.Running, h.Calls.Forwarded)
	return nil
}

// tellRecord waits for what stays of the call at the callee.
func tellRecord(ctx context.Context, s *scenario.Story, p *party) error {
	return scenario.Poll(ctx, "the record of the call", func() (bool, error) {
		inbox, err := p.api.Inbox(ctx)
		for _, m := range inbox {
			if m.Type == "call" {
				s.Say("alpha", "%s has the record of the call from %s, %s", p.name, m.From.Name, m.State)
				return true, nil
			}
		}
		return false, err
	})
}
