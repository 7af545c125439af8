package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/node/position"
)

// Position is the node's own position and what users share of it.
type Position interface {
	Own() OwnPosition
	// Here is the position as it would be sent now; false without a fresh fix.
	Here() (chat.Location, bool)
	ShareLive(ctx context.Context, user identity.UserID, d chat.LiveDraft) (chat.LiveShare, error)
	// Moved tells where a device of the user is, for shares that take from it.
	Moved(user identity.UserID, f position.Fix) error
	LiveShares(ctx context.Context, user identity.UserID) ([]chat.LiveShare, error)
	// StopLive ends the share with a user, or with the zero user all.
	StopLive(ctx context.Context, user, to identity.UserID) (int, error)
}

// OwnPosition is what the node knows of where it is.
type OwnPosition struct {
	State position.State
	Fix   *position.Fix // nil: there was none yet
	Age   time.Duration
	At    time.Time // by the node's clock
}

// The errors of this file's calls.
var (
	// ErrNoFix means that the receiver has no fresh position.
	ErrNoFix = errors.New("api: this node does not know where it is now")
	// ErrNoReceiver means that the settings name no receiver.
	ErrNoReceiver = errors.New("api: this node has no position receiver")
)

type fixJSON struct {
	Lat       float64  `json:"lat"`
	Lon       float64  `json:"lon"`
	MGRS      string   `json:"mgrs,omitempty"`
	Time      string   `json:"time"`
	AgeS      int64    `json:"age_s"`
	AccuracyM *float64 `json:"accuracy_m,omitempty"`
	AltitudeM *float64 `json:"altitude_m,omitempty"`
	CourseDeg *float64 `json:"course_deg,omitempty"`
	SpeedMS   *float64 `json:"speed_ms,omitempty"`
}

// known is nil for NaN, which JSON cannot say; tenths are enough.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	v = math.Round(v*10) / 10
	return &v
}

// gridOf is the MGRS reference of a point, empty where there is none.
func gridOf(lat, lon float64) string {
	s, err := position.MGRS(lat, lon)
	if err != nil {
		return ""
	}
	return s
}

// position is GET /v1/position.
func (s *Server) position(w http.ResponseWriter, _ *http.Request) error {
	own := s.cfg.Position.Own()
	var fix *fixJSON
	if f := own.Fix; f != nil {
		fix = &fixJSON{
			Lat: f.Lat, Lon: f.Lon, MGRS: gridOf(f.Lat, f.Lon), Time: stamp(own.At), AgeS: int64(max(0, own.Age) / time.Second),
			AccuracyM: known(f.AccuracyM), AltitudeM: known(f.AltitudeM), CourseDeg: known(f.CourseDeg), SpeedMS: known(f.SpeedMS),
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"state": own.State, "fix": fix})
	return nil
}

// noFix says why there is no position to be sent.
func (s *Server) noFix() error {
	if s.cfg.Position == nil || s.cfg.Position.Own().State == position.Off {
		return ErrNoReceiver
	}
	return ErrNoFix
}

// places is GET /v1/locations.
func (s *Server) places(w http.ResponseWriter, r *http.Request, ses *session) error {
	ms, err := ses.user.Places(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"messages": messageViews(ms)})
	return nil
}

// sendHere is POST /v1/locations with here.
func (s *Server) sendHere(w http.ResponseWriter, r *http.Request, ses *session, in draftJSON, note string, live bool) error {
	if s.cfg.Position == nil {
		return s.noFix()
	}
	l, ok := s.cfg.Position.Here()
	if !ok {
		return s.noFix()
	}
	to, prec, ttl, err := s.addressed(r, ses, in)
	if err != nil {
		return err
	}
	once, err := onceOf(r)
	if err != nil {
		return err
	}
	l.Note, l.Live = note, live
	m, err := ses.user.SendLocation(r.Context(), chat.LocationDraft{Once: once, To: to, Precedence: prec, TTL: ttl, Location: l, Here: true})
	return created(w, m, err)
}

// locationView is a message's position. Its time is when the sender was there,
// which by the sender's clock may not lie after the sending.
func locationView(l *chat.Location, sent time.Time) *locationJSON {
	v := &locationJSON{Lat: l.Lat, Lon: l.Lon, AccuracyM: l.AccuracyM, Note: l.Note, Live: l.Live, MGRS: gridOf(l.Lat, l.Lon)}
	if l.Fix == nil {
		return v
	}
	at := sent
	if !l.Fix.At.IsZero() && l.Fix.At.Before(sent) {
		at = l.Fix.At
	}
	v.Time = stampOrNil(at)
	if l.Fix.Holds > 0 {
		v.StaleAt = stampOrNil(at.Add(l.Fix.Holds))
	}
	if !l.Fix.Until.IsZero() {
		v.LiveUntil = stampOrNil(at.Add(l.Fix.Until.Sub(l.Fix.At)))
	}
	v.Source = fixSources[l.Fix.Source]
	return v
}

// fixSources are the names of what a position comes from; unknown has none.
var fixSources = map[chat.Source]string{chat.SourceGPS: "gps", chat.SourceEntered: "entered", chat.SourceMachine: "machine"}

// liveSources are the names of what live shares take positions from.
var liveSources = map[string]chat.LiveSource{"receiver": chat.LiveReceiver, "device": chat.LiveDevice, "entered": chat.LiveEntered}

type liveJSON struct {
	To     personJSON    `json:"to"`
	Until  string        `json:"until"`
	EveryS int64         `json:"every_s"`
	Source string        `json:"source"`
	Place  *locationJSON `json:"location,omitempty"`
}

func liveView(l chat.LiveShare) liveJSON {
	v := liveJSON{To: personView(l.To), Until: stamp(l.Until), EveryS: int64(l.Every / time.Second)}
	for name, s := range liveSources {
		if s == l.Source {
			v.Source = name
		}
	}
	if l.Place != nil {
		v.Place = locationView(l.Place, l.Until)
	}
	return v
}

// A placeJSON is a position that a user gives.
type placeJSON struct {
	Lat       *float64 `json:"lat"`
	Lon       *float64 `json:"lon"`
	AccuracyM float64  `json:"accuracy_m"`
}

func (p placeJSON) check() error {
	switch {
	case p.Lat == nil || p.Lon == nil:
		return badRequest("lat and lon are needed")
	case !(math.Abs(*p.Lat) <= 90 && math.Abs(*p.Lon) <= 180) || !(p.AccuracyM >= 0 && p.AccuracyM <= 1e7):
		return badRequest("lat must be -90 to 90, lon -180 to 180, accuracy_m 0 to 10000000")
	}
	return nil
}

// moved is PUT /v1/locations/live/position: where the user's device is now.
func (s *Server) moved(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		placeJSON
		AltitudeM *float64 `json:"altitude_m"`
		CourseDeg *float64 `json:"course_deg"`
		SpeedMS   *float64 `json:"speed_ms"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return err
	}
	f := position.Fix{Lat: *in.Lat, Lon: *in.Lon, AccuracyM: math.NaN(), AltitudeM: orNaN(in.AltitudeM), CourseDeg: orNaN(in.CourseDeg), SpeedMS: orNaN(in.SpeedMS)}
	if in.AccuracyM > 0 {
		f.AccuracyM = in.AccuracyM
	}
	if err := s.cfg.Position.Moved(ses.user.Self().ID, f); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// shareLive is POST /v1/locations/live.
func (s *Server) shareLive(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		To     string `json:"to"`
		ForS   int64  `json:"for_s"`
		EveryS *int64 `json:"every_s"`
		Source string `json:"source"`
		placeJSON
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	every := int64(60)
	if in.EveryS != nil {
		every = *in.EveryS
	}
	low, high := int64(chat.MinLive/time.Second), int64(chat.MaxLive/time.Second)
	lowE, highE := int64(chat.MinLiveEvery/time.Second), int64(chat.MaxLiveEvery/time.Second)
	if in.ForS < low || in.ForS > high || every < lowE || every > highE {
		return badRequest("for_s must be %d to %d, every_s %d to %d", low, high, lowE, highE)
	}
	source, ok := liveSources[in.Source]
	if !ok && in.Source != "" {
		return badRequest("source must be receiver, device or entered")
	}
	d := chat.LiveDraft{Span: time.Duration(in.ForS) * time.Second, Every: time.Duration(every) * time.Second, Source: source}
	switch given := in.Lat != nil || in.Lon != nil || in.AccuracyM != 0; {
	case given && source != chat.LiveEntered:
		return badRequest("lat, lon and accuracy_m go with the source entered")
	case source == chat.LiveEntered:
		if err := in.check(); err != nil {
			return err
		}
		d.Place = &chat.Location{Lat: *in.Lat, Lon: *in.Lon, AccuracyM: uint32(math.Ceil(in.AccuracyM)), Fix: &chat.Fix{
			AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.NaN(), Source: chat.SourceEntered,
		}}
	}
	to, _, _, err := s.addressed(r, ses, draftJSON{To: in.To})
	if err != nil {
		return err
	}
	d.To = to
	l, err := s.cfg.Position.ShareLive(r.Context(), ses.user.Self().ID, d)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, liveView(l))
	return nil
}

// liveShares is GET /v1/locations/live.
func (s *Server) liveShares(w http.ResponseWriter, r *http.Request, ses *session) error {
	list, err := s.cfg.Position.LiveShares(r.Context(), ses.user.Self().ID)
	if err != nil {
		return err
	}
	out := make([]liveJSON, len(list))
	for i, l := range list {
		out[i] = liveView(l)
	}
	writeJSON(w, http.StatusOK, map[string]any{"shares": out})
	return nil
}

// stopLive is DELETE /v1/locations/live?to=.
func (s *Server) stopLive(w http.ResponseWriter, r *http.Request, ses *session) error {
	var to identity.UserID
	if name := r.URL.Query().Get("to"); name != "" {
		var err error
		if to, _, _, err = s.addressed(r, ses, draftJSON{To: name}); err != nil {
			return err
		}
	}
	n, err := s.cfg.Position.StopLive(r.Context(), ses.user.Self().ID, to)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"stopped": n})
	return nil
}
