package main

import (
	"context"
	"math"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/position"
)

// fakePosition is a receiver in Munich.
type fakePosition struct{ live []chat.LiveShare }

func (*fakePosition) Own() api.OwnPosition {
	return api.OwnPosition{State: position.Fixed, Age: 3 * time.Second, At: aTime, Fix: &position.Fix{
		Lat: 48.137154, Lon: 11.576124, AccuracyM: 6.5, AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.NaN(),
	}}
}

func (*fakePosition) Here() (chat.Location, bool) {
	return chat.Location{Lat: 48.137154, Lon: 11.576124, AccuracyM: 7, Fix: &chat.Fix{At: aTime, Holds: time.Minute}}, true
}

func (p *fakePosition) ShareLive(_ context.Context, _ identity.UserID, d chat.LiveDraft) (chat.LiveShare, error) {
	l := chat.LiveShare{To: chat.Person{ID: d.To, Name: hostile}, Until: aTime.Add(d.Span), Every: d.Every, Source: d.Source, Place: d.Place}
	p.live = append(p.live, l)
	return l, nil
}

func (*fakePosition) Moved(identity.UserID, position.Fix) error { return nil }

func (p *fakePosition) LiveShares(context.Context, identity.UserID) ([]chat.LiveShare, error) {
	return p.live, nil
}

func (p *fakePosition) StopLive(_ context.Context, _, to identity.UserID) (int, error) {
	n := len(p.live)
	if n == 0 && !to.IsZero() {
		return 0, chat.ErrNotFound
	}
	p.live = nil
	return n, nil
}
