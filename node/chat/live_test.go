package chat

import (
	"errors"
	"testing"
	"time"

	"outrider/mesh/identity"
)

// L01: a live share is kept over a restart, ends by itself, and can be stopped.
func TestLiveShares(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s, bob := p.da.session(), p.bob.id
		for name, err := range map[string]error{
			"too short": second(s.ShareLive(t.Context(), bob, MinLive-1, time.Minute)),
			"too long":  second(s.ShareLive(t.Context(), bob, MaxLive+1, time.Minute)),
			"too often": second(s.ShareLive(t.Context(), bob, time.Hour, MinLiveEvery-1)),
			"too rare":  second(s.ShareLive(t.Context(), bob, time.Hour, MaxLiveEvery+1)),
			"oneself":   second(s.ShareLive(t.Context(), p.alice.id, time.Hour, time.Minute)),
			"nobody":    second(s.ShareLive(t.Context(), identity.UserID{}, time.Hour, time.Minute)),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		l, err := s.ShareLive(t.Context(), bob, 30*time.Minute, time.Minute)
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
			if _, err := s.ShareLive(t.Context(), identity.UserID{byte(i + 1), 0xee}, time.Hour, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.ShareLive(t.Context(), bob, time.Hour, time.Minute); !errors.Is(err, ErrInvalid) {
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
