package chat

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"outrider/mesh/identity"
)

// L01: a live share is kept over a restart, ends by itself, and can be stopped.
func TestL01LiveShares(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s, bob := p.da.session(), p.bob.id
		for name, err := range map[string]error{
			"too short":       second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: MinLive - 1, Every: time.Minute})),
			"too long":        second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: MaxLive + 1, Every: time.Minute})),
			"too often":       second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: MinLiveEvery - 1})),
			"too rare":        second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: MaxLiveEvery + 1})),
			"oneself":         second(s.ShareLive(t.Context(), LiveDraft{To: p.alice.id, Span: time.Hour, Every: time.Minute})),
			"no such source":  second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: time.Minute, Source: LiveEntered + 1})),
			"typed, no place": second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: time.Minute, Source: LiveEntered})),
			"place, untyped":  second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: time.Minute, Place: &Location{}})),
			"off Earth":       second(s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: time.Minute, Source: LiveEntered, Place: &Location{Lat: 91}})),
			"nobody":          second(s.ShareLive(t.Context(), LiveDraft{To: identity.UserID{}, Span: time.Hour, Every: time.Minute})),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		l, err := s.ShareLive(t.Context(), LiveDraft{To: bob, Span: 30 * time.Minute, Every: time.Minute})
		if err != nil || l.To.Name != "Bob" || l.Every != time.Minute {
			t.Fatalf("%+v, %v", l, err)
		}
		p.da.node.restart()
		s = p.da.session()
		got, err := s.LiveShares(t.Context())
		if err != nil || len(got) != 1 || got[0].To.ID != bob || got[0].Every != time.Minute || !got[0].Until.Equal(l.Until) {
			t.Fatalf("after a restart: %+v, %v", got, err)
		}
		p.rest(31 * time.Minute)
		if got, _ = s.LiveShares(t.Context()); len(got) != 0 {
			t.Errorf("still there after its time: %+v", got)
		}
		if _, ok := s.recs.vals[recLive+bob.String()]; ok {
			t.Error("an ended share is kept")
		}
		if _, err := s.StopLive(t.Context(), bob); !errors.Is(err, ErrNotFound) {
			t.Errorf("stopping nothing: %v", err)
		}
		for i := range MaxLiveShares {
			if _, err := s.ShareLive(t.Context(), LiveDraft{To: identity.UserID{byte(i + 1), 0xee}, Span: time.Hour, Every: time.Minute}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.ShareLive(t.Context(), LiveDraft{To: bob, Span: time.Hour, Every: time.Minute}); !errors.Is(err, ErrInvalid) {
			t.Errorf("one more than the most: %v", err)
		}
		if n, err := s.StopLive(t.Context(), identity.UserID{1, 0xee}); n != 1 || err != nil {
			t.Errorf("stop one: %d, %v", n, err)
		}
		if n, err := s.StopLive(t.Context(), identity.UserID{}); n != MaxLiveShares-1 || err != nil {
			t.Errorf("stop all: %d, %v", n, err)
		}
	})
}

// L01: a share of a typed position keeps the position, over a restart too.
func TestL01TypedLiveShare(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		draft := LiveDraft{To: p.bob.id, Span: time.Hour, Every: time.Minute, Source: LiveEntered, Place: &Location{Lat: 48.5, Lon: -11.25, AccuracyM: 20}}
		if _, err := p.da.session().ShareLive(t.Context(), draft); err != nil {
			t.Fatal(err)
		}
		p.da.node.restart()
		got, err := p.da.session().LiveShares(t.Context())
		if err != nil || len(got) != 1 || got[0].Source != LiveEntered || got[0].Place == nil || got[0].Place.Lat != 48.5 || got[0].Place.Lon != -11.25 || got[0].Place.AccuracyM != 20 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// L01: a map gets the newest live position of another and those of the last
// day, not what the user has sent, nor what is old.
func TestL01Places(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		send := func(s *Session, to identity.UserID, lat float64, live bool) {
			t.Helper()
			if _, err := s.SendLocation(t.Context(), LocationDraft{To: to, Location: Location{Lat: lat, Lon: 2, Live: live, Fix: &Fix{}}}); err != nil {
				t.Fatal(err)
			}
			p.settle()
		}
		a, b := p.da.session(), p.db.session()
		send(a, p.bob.id, 1, false)
		p.rest(25 * time.Hour)
		send(a, p.bob.id, 2, true)
		send(a, p.bob.id, 3, false)
		send(a, p.bob.id, 4, true)
		send(b, p.alice.id, 5, false)
		for range placesPage + 1 { // texts do not hide what is behind them
			if _, err := a.Send(t.Context(), Draft{To: p.bob.id, Text: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		p.settle()
		got, err := b.Places(t.Context())
		if err != nil || len(got) != 2 || got[0].Location.Lat != 4 || !got[0].Location.Live || got[1].Location.Lat != 3 {
			t.Errorf("%d places, %v: %+v", len(got), err, got)
		}
	})
}

// The act "where the node is" is the same wherever that is by then.
func TestHereRepeated(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		d := LocationDraft{To: p.bob.id, Location: Location{Lat: 1, Lon: 2, Note: "n", Fix: &Fix{}}, Here: true, Once: "o"}
		first, err := p.da.session().SendLocation(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		d.Location.Lat, d.Location.AccuracyM, d.Location.Fix = 3, 9, &Fix{SpeedMS: 4}
		again, err := p.da.session().SendLocation(t.Context(), d)
		if err != nil || again.ID != first.ID || again.Location.Lat != 1 {
			t.Errorf("%+v, %v", again, err)
		}
		d.Location.Note = "other"
		if _, err := p.da.session().SendLocation(t.Context(), d); !errors.Is(err, ErrRepeat) {
			t.Errorf("another act under one name: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// shares begins a live share with Bob, sends one position of it, and returns it.
func (p *pair) shares(span time.Duration, lat float64) (LiveShare, error) {
	s, ok := p.a.svc.Session(p.alice.id)
	if !ok {
		return LiveShare{}, ErrLocked
	}
	l, err := s.ShareLive(context.Background(), LiveDraft{To: p.bob.id, Span: span, Every: time.Minute})
	if err != nil {
		return l, err
	}
	_, err = s.SendLive(context.Background(), l, Location{Lat: lat, Lon: 2, Fix: &Fix{Until: l.Until}})
	p.settle()
	return l, err
}

// seen is the live position that Bob has of Alice, and whether it goes on.
func (p *pair) seen() (at *Location, on bool) {
	p.world.t.Helper()
	for _, m := range p.db.with(p.alice) {
		if m.Location != nil && m.Location.Live {
			if at != nil {
				p.world.t.Errorf("Bob has two live positions")
			}
			at = m.Location
		}
	}
	return at, at != nil && at.Fix.Until.After(time.Now())
}

// wantEnded fails unless Bob has a live position, at a latitude, that has ended.
func (p *pair) wantEnded(lat float64) {
	p.world.t.Helper()
	p.settle()
	if at, on := p.seen(); at == nil || on || at.Lat != lat {
		p.world.t.Errorf("Bob has %+v, it goes on: %v", at, on)
	}
	if left := slices.Collect(maps.Keys(p.da.session().liveRecords())); len(left) > 0 {
		p.world.t.Errorf("a share is left: %v", left)
	}
}

// L01: whoever has read a share before it was stopped, or was replaced, sends
// nothing more of it: the end is the last that its reader hears.
func TestL01NothingAfterTheEnd(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		l, err := p.shares(time.Hour, 1)
		if err != nil {
			t.Fatal(err)
		}
		s := p.da.session()
		if n, err := s.StopLive(t.Context(), p.bob.id); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		late := Location{Lat: 3, Lon: 2, Fix: &Fix{Until: l.Until}}
		if _, err := s.SendLive(t.Context(), l, late); !errors.Is(err, ErrNotFound) {
			t.Errorf("a position after the end: %v", err)
		}
		p.wantEnded(1)
		again, err := p.shares(time.Minute, 4)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.SendLive(t.Context(), l, late); !errors.Is(err, ErrNotFound) || again.ID == l.ID {
			t.Errorf("a position of the share before: %v", err)
		}
		if at, on := p.seen(); at == nil || at.Lat != 4 || !on {
			t.Errorf("Bob has %+v, it goes on: %v", at, on)
		}
	})
}

// L01: the end is told whatever happened since the last position went.
func TestL01EndIsTold(t *testing.T) {
	stop := func(t *testing.T, p *pair) {
		t.Helper()
		if n, err := p.da.session().StopLive(t.Context(), identity.UserID{}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	for name, then := range map[string]func(t *testing.T, p *pair){
		"after a restart": func(t *testing.T, p *pair) {
			p.da.node.restart()
			stop(t, p)
		},
		"when the store has room again": func(t *testing.T, p *pair) {
			p.a.change(func() { p.a.full = true })
			stop(t, p)
			p.settle()
			if _, on := p.seen(); !on {
				t.Fatal("a full store took it")
			}
			p.a.change(func() { p.a.full = false })
			p.rest(2 * time.Minute)
		},
		"of a share in place of a longer one": func(t *testing.T, p *pair) {
			if _, err := p.da.session().ShareLive(t.Context(), LiveDraft{To: p.bob.id, Span: time.Minute, Every: time.Minute}); err != nil {
				t.Fatal(err)
			}
			p.rest(2 * time.Minute)
			if _, err := p.da.session().LiveShares(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.rest(2 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, p *pair) {
				if _, err := p.shares(time.Hour, 1); err != nil {
					t.Fatal(err)
				}
				then(t, p)
				p.wantEnded(1)
			})
		})
	}
}

// What was recalled is not sent again as an end, nor is a position brought back
// that another has replaced.
func TestL01EndBringsNothingBack(t *testing.T) {
	for name, then := range map[string]func(t *testing.T, s *Session, p *pair){
		"recalled": func(t *testing.T, s *Session, p *pair) {
			if _, err := s.Recall(t.Context(), p.da.with(p.bob)[0].ID); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, s *Session, p *pair) {
			if _, err := s.SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: Location{Lat: 7, Live: true, Fix: &Fix{}}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, p *pair) {
				if _, err := p.shares(time.Hour, 1); err != nil {
					t.Fatal(err)
				}
				s := p.da.session()
				then(t, s, p)
				if n, err := s.StopLive(t.Context(), p.bob.id); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				p.settle()
				if at, _ := p.seen(); at != nil && at.Lat != 7 || len(p.da.with(p.bob)) != 1 || len(s.liveRecords()) != 0 {
					t.Errorf("Bob has %+v, Alice %d messages, left %v", at, len(p.da.with(p.bob)), s.liveRecords())
				}
			})
		})
	}
}
