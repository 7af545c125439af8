package chat

import (
	"errors"
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
