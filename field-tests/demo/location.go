package main

import (
	"context"
	"fmt"
	"time"

	"outrider/field-tests/gpsd"
	"outrider/field-tests/scenario"
	"outrider/node/position"
)

// Where Alpha's receiver is when the share begins, and where it is carried.
const (
	liveLatFrom, liveLonFrom = 48.21050, 16.36340
	liveLatTo, liveLonTo     = 48.21570, 16.36920
)

// Alice shares for liveForS seconds, a position each liveEveryS: in between other steps
// are played, so nobody waits for it.
const (
	liveForS   = 15
	liveEveryS = 10
)

// A liveStep is a live share of a position from Alpha's receiver, behind a
// gpsd: it begins in one step, and in a later one it has moved and ends by
// itself.
type liveStep struct {
	receiver *gpsd.Server
}

func (l *liveStep) begins() step {
	return step{title: "location: a live share for a set time, from Alpha's receiver", prepare: l.prepare, play: l.begin}
}

func (l *liveStep) ends() step {
	return step{title: "location: the share has moved, and ends by itself", play: l.end}
}

func (l *liveStep) prepare(_ context.Context, s *scenario.Story) (err error) {
	if l.receiver, err = gpsd.Listen(); err != nil {
		return err
	}
	s.AtClose(l.receiver.Close)
	l.receiver.Move(liveLatFrom, liveLonFrom)
	return s.Alpha.Append(fmt.Sprintf("[position]\nsource = %q\n", l.receiver.Source()))
}

// A placed is a message with a position, as a node's API shows it.
type placed struct {
	ID       string
	From     scenario.Person
	State    string
	Location *struct {
		Lat, Lon  float64
		MGRS      string
		Live      bool
		Time      time.Time
		StaleAt   time.Time `json:"stale_at"`
		LiveUntil time.Time `json:"live_until"`
	}
}

// place returns the newest live position that a user's node has of somebody,
// and false when it has none.
func place(ctx context.Context, b *scenario.Box, of string) (p placed, ok bool, err error) {
	var convs struct{ Conversations []struct{ ID string } }
	if err := b.API.Do(ctx, "GET", "/v1/conversations", nil, &convs); err != nil {
		return p, false, err
	}
	for _, c := range convs.Conversations {
		var page struct{ Messages []placed }
		if err := b.API.Do(ctx, "GET", "/v1/conversations/"+c.ID+"/messages?limit=200", nil, &page); err != nil {
			return p, false, err
		}
		for _, m := range page.Messages {
			if m.From.Name == of && m.Location != nil && m.Location.Live && (!ok || m.Location.Time.After(p.Location.Time)) {
				p, ok = m, true
			}
		}
	}
	return p, ok, nil
}

func (l *liveStep) begin(ctx context.Context, s *scenario.Story) error {
	s.Count(scenario.Tally{Sent: 1})
	var share struct {
		To    scenario.Person
		Until time.Time
	}
	if err := s.Alpha.API.Do(ctx, "POST", "/v1/locations/live", map[string]any{"to": s.People[2], "for_s": liveForS, "every_s": liveEveryS}, &share); err != nil {
		return err
	}
	s.Say("alpha", "%s gets the receiver's position until %s", share.To.Name, share.Until.Local().Format(time.TimeOnly))
	err := s.Meet(ctx, s.AlphaID, func() (bool, error) {
		p, ok, err := place(ctx, s.Alpha, s.People[0])
		return ok && l.at(p, liveLatFrom, liveLonFrom) && p.State == "carried", err
	})
	if err != nil {
		return err
	}
	if err := l.seen(ctx, s, s.CharlieID, liveLatFrom, liveLonFrom); err != nil {
		return err
	}
	l.receiver.Move(liveLatTo, liveLonTo) // the position that is due next goes from here
	return nil
}

func (l *liveStep) at(p placed, lat, lon float64) bool {
	return scenario.Near(p.Location.Lat, lat) && scenario.Near(p.Location.Lon, lon)
}

// end sees the share at its new place, and that none follows once it is over.
func (l *liveStep) end(ctx context.Context, s *scenario.Story) error {
	s.Count(scenario.Tally{Sent: 1})
	if err := s.Hears(ctx, s.AlphaID); err != nil {
		return err
	}
	err := scenario.Poll(ctx, "the next live position to be on its way", func() (bool, error) {
		p, ok, err := place(ctx, s.Alpha, s.People[0])
		return ok && l.at(p, liveLatTo, liveLonTo) && p.State != "queued", err
	})
	if err != nil {
		return err
	}
	if err := l.seen(ctx, s, s.CharlieID, liveLatTo, liveLonTo); err != nil {
		return err
	}
	err = scenario.Poll(ctx, "the live share to end", func() (bool, error) {
		var live struct{ Shares []any }
		err := s.Alpha.API.Do(ctx, "GET", "/v1/locations/live", nil, &live)
		return err == nil && len(live.Shares) == 0, err
	})
	if err != nil {
		return err
	}
	s.Say("alpha", "the live share is over, nothing more is sent")
	var p placed
	err = scenario.Poll(ctx, "charlie to see that it has ended", func() (bool, error) {
		var ok bool
		p, ok, err = place(ctx, s.Charlie, s.People[0])
		return ok && !time.Now().Before(p.Location.LiveUntil), err
	})
	if err != nil {
		return err
	}
	s.Say("charlie", "the share of %s was live until %s; its last position stays, %.0f s old", p.From.Name,
		p.Location.LiveUntil.Local().Format(time.TimeOnly), time.Since(p.Location.Time).Seconds())
	return nil
}

// seen waits until carol has alice's live position at a place, and tells it as
// her page does: age, MGRS, distance and bearing from her own.
func (l *liveStep) seen(ctx context.Context, s *scenario.Story, first string, lat, lon float64) error {
	var p placed
	err := s.Ferry(ctx, first, func() (bool, error) {
		var ok bool
		var err error
		p, ok, err = place(ctx, s.Charlie, s.People[0])
		return ok && l.at(p, lat, lon), err
	})
	if err != nil {
		return err
	}
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	from := ""
	if own, ok, err := place(ctx, s.Charlie, s.People[2]); err == nil && ok {
		metres, bearing := position.Between(own.Location.Lat, own.Location.Lon, p.Location.Lat, p.Location.Lon)
		from = fmt.Sprintf(", %.0f m at %03.0f° from where she is", metres, bearing)
	}
	s.Say("charlie", "live position of %s: %s, %.0f s old%s", p.From.Name, p.Location.MGRS, time.Since(p.Location.Time).Seconds(), from)
	return nil
}
