package api

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/node/position"
)

// fakePosition is a node in Munich.
type fakePosition struct {
	state position.State
	none  bool
	live  *chat.LiveShare
	moved *position.Fix
}

func (p *fakePosition) Own() OwnPosition {
	if p.none {
		return OwnPosition{State: p.state}
	}
	return OwnPosition{State: p.state, Age: 3 * time.Second, At: aTime, Fix: &position.Fix{
		Lat: 48.137154, Lon: 11.576124, AccuracyM: 6.54, AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: 1.5,
	}}
}

func (p *fakePosition) Here() (chat.Location, bool) {
	return chat.Location{Lat: 48.137154, Lon: 11.576124, AccuracyM: 7, Fix: &chat.Fix{At: aTime}}, !p.none
}

func (p *fakePosition) ShareLive(_ context.Context, _ identity.UserID, d chat.LiveDraft) (chat.LiveShare, error) {
	if p.state == position.Off && d.Source == chat.LiveReceiver {
		return chat.LiveShare{}, ErrNoReceiver
	}
	p.live = &chat.LiveShare{To: chat.Person{ID: d.To, Name: "Bob"}, Until: aTime.Add(d.Span), Every: d.Every, Source: d.Source, Place: d.Place}
	return *p.live, nil
}

func (p *fakePosition) Moved(_ identity.UserID, f position.Fix) error {
	p.moved = &f
	return nil
}

func (p *fakePosition) LiveShares(context.Context, identity.UserID) ([]chat.LiveShare, error) {
	if p.live == nil {
		return nil, nil
	}
	return []chat.LiveShare{*p.live}, nil
}

func (p *fakePosition) StopLive(_ context.Context, _, to identity.UserID) (int, error) {
	if p.live == nil && !to.IsZero() {
		return 0, chat.ErrNotFound
	}
	p.live = nil
	return 1, nil
}

// L01: where the node is, sent once or for a time.
func TestPosition(t *testing.T) {
	p := &fakePosition{state: position.Fixed}
	b := newBench(t, func(c *Config) { c.Position = p })
	b.page("GET", "/v1/position", "").want(401, "no_session")
	got := b.socket("GET", "/v1/position", "").want(200, "").Body.String()
	for _, want := range []string{`"state":"fix"`, `"mgrs":"32U PU 91`, `"age_s":3`, `"accuracy_m":6.5`, `"speed_ms":1.5`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, "altitude_m") {
		t.Errorf("a height from nowhere: %s", got)
	}
	token := b.login("Alice")
	user := func(method, path, body string) req { return b.socket(method, path, body).bearer(token) }
	user("POST", "/v1/locations", `{"to":"Bob","here":true,"note":"rally"}`).want(201, "")
	if d := b.chat.users["Alice"].loc; !d.Here || d.Location.Lat != 48.137154 || d.Location.Note != "rally" || d.Location.Live {
		t.Errorf("%+v", d)
	}
	user("POST", "/v1/locations", `{"to":"Bob","here":true,"lat":1,"lon":2}`).want(400, "bad_request")
	w := user("POST", "/v1/locations/live", `{"to":"Bob","for_s":1800}`).want(201, "")
	if field(t, w, "every_s") != "60" || field(t, w, "to", "name") != "Bob" {
		t.Error(w.Body)
	}
	for _, bad := range []string{`{"to":"Bob","for_s":9}`, `{"to":"Bob","for_s":86401}`, `{"to":"Bob","for_s":60,"every_s":9}`, `{"to":"Bob","for_s":60,"every_s":3601}`, `{"for_s":60}`,
		`{"to":"Bob","for_s":60,"source":"guess"}`, `{"to":"Bob","for_s":60,"source":"entered"}`, `{"to":"Bob","for_s":60,"source":"entered","lat":91,"lon":0}`,
		`{"to":"Bob","for_s":60,"lat":1,"lon":2}`, `{"to":"Bob","for_s":60,"source":"device","lat":1,"lon":2}`} {
		user("POST", "/v1/locations/live", bad).want(400, "bad_request")
	}
	if w := user("GET", "/v1/locations/live", "").want(200, ""); !strings.Contains(w.Body.String(), `"every_s":60`) {
		t.Error(w.Body)
	}
	user("DELETE", "/v1/locations/live?to=nobody", "").want(404, "not_found")
	user("DELETE", "/v1/locations/live?to=Bob", "").want(200, "")
	user("DELETE", "/v1/locations/live?to=Bob", "").want(404, "not_found")
	if w := user("GET", "/v1/locations", "").want(200, ""); !strings.Contains(w.Body.String(), `"lat":48.5`) || !strings.Contains(w.Body.String(), `"mgrs":"32U `) {
		t.Error(w.Body)
	}
	b.page("GET", "/v1/locations", "").want(401, "no_session")
	p.none, p.state = true, position.Searching
	user("POST", "/v1/locations", `{"to":"Bob","here":true}`).want(409, "no_fix")
	p.state = position.Off
	user("POST", "/v1/locations", `{"to":"Bob","here":true}`).want(409, "no_receiver")
	user("POST", "/v1/locations/live", `{"to":"Bob","for_s":60}`).want(409, "no_receiver")
	if got := b.socket("GET", "/v1/position", "").want(200, "").Body.String(); !strings.Contains(got, `"fix":null`) {
		t.Error(got)
	}
}

// L01: a share of a typed position, and one of a device that tells where it is.
func TestL01LiveSources(t *testing.T) {
	p := &fakePosition{state: position.Off}
	b := newBench(t, func(c *Config) { c.Position = p })
	token := b.login("Alice")
	user := func(method, path, body string) req { return b.socket(method, path, body).bearer(token) }
	w := user("POST", "/v1/locations/live", `{"to":"Bob","for_s":600,"source":"entered","lat":48.5,"lon":11.25,"accuracy_m":20}`).want(201, "")
	if field(t, w, "source") != "entered" || field(t, w, "location", "lat") != "48.5" || p.live.Place.AccuracyM != 20 || p.live.Place.Fix.Source != chat.SourceEntered {
		t.Errorf("%s, %+v", w.Body, p.live)
	}
	if w = user("POST", "/v1/locations/live", `{"to":"Bob","for_s":600,"source":"device"}`).want(201, ""); field(t, w, "source") != "device" {
		t.Error(w.Body)
	}
	const path = "/v1/locations/live/position"
	for _, bad := range []string{`{}`, `{"lat":1}`, `{"lat":91,"lon":0}`, `{"lat":0,"lon":181}`, `{"lat":0,"lon":0,"accuracy_m":-1}`, `{"lat":0,"lon":0,"to":"Bob"}`} {
		user("PUT", path, bad).want(400, "bad_request")
	}
	user("PUT", path, `{"lat":48.25,"lon":11.5,"accuracy_m":8,"speed_ms":1.5}`).want(204, "")
	if p.moved.Lat != 48.25 || p.moved.AccuracyM != 8 || p.moved.SpeedMS != 1.5 || !math.IsNaN(p.moved.CourseDeg) {
		t.Errorf("%+v", p.moved)
	}
	b.page("PUT", path, `{"lat":1,"lon":2}`).want(401, "no_session")
}

// L01: what a reader is told of a position.
func TestLocationView(t *testing.T) {
	l := &chat.Location{Lat: 48.137154, Lon: 11.576124, Live: true, Fix: &chat.Fix{At: aTime.Add(-time.Second), Holds: time.Minute, Until: aTime.Add(time.Hour), Source: chat.SourceGPS}}
	v := locationView(l, aTime)
	if *v.Time != "2026-03-04T05:06:06.008Z" || *v.StaleAt != "2026-03-04T05:07:06.008Z" || *v.LiveUntil != "2026-03-04T06:06:07.008Z" || v.Source != "gps" || !strings.HasPrefix(v.MGRS, "32U PU ") {
		t.Errorf("%+v", v)
	}
	l.Fix.At = aTime.Add(time.Hour) // a clock that is ahead
	if v = locationView(l, aTime); *v.Time != "2026-03-04T05:06:07.008Z" {
		t.Error(*v.Time)
	}
	if v = locationView(&chat.Location{Lat: 89}, aTime); v.MGRS != "" || v.Time != nil || v.StaleAt != nil {
		t.Errorf("%+v", v)
	}
}
