package fakeapi

import (
	"net/http"
	"slices"
	"time"
)

// Shares returns the live shares that go on.
func (s *Server) Shares() []Share {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.shares)
}

// Told returns what the account's device has said of where it is.
func (s *Server) Told() []Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

func (s *Server) getPlaces(*http.Request) (int, any, *apiError) {
	out := []*Message{}
	for _, m := range slices.Backward(s.messages) {
		if m.Location != nil && !m.Outgoing {
			out = append(out, m)
		}
	}
	return 200, map[string]any{"messages": out}, nil
}

func (s *Server) getShares(*http.Request) (int, any, *apiError) {
	return 200, map[string]any{"shares": append([]Share{}, s.shares...)}, nil
}

func (s *Server) postShare(r *http.Request) (int, any, *apiError) {
	var in struct {
		To        string   `json:"to"`
		ForS      int      `json:"for_s"`
		EveryS    int      `json:"every_s"`
		Source    string   `json:"source"`
		Lat       *float64 `json:"lat"`
		Lon       *float64 `json:"lon"`
		AccuracyM float64  `json:"accuracy_m"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	i := slices.IndexFunc(s.users, func(u User) bool { return u.ID == in.To })
	switch typed := in.Lat != nil && in.Lon != nil; {
	case i < 0:
		return 0, nil, refuse(404, "not_found", "nobody known here has that name")
	case in.ForS < 10 || in.ForS > 86400, typed != (in.Source == "entered"):
		return 0, nil, refuse(400, "bad_request", "for_s must be 10 to 86400; lat and lon go with the source entered")
	case in.Source == "receiver" && s.fix == nil:
		return 0, nil, refuse(409, "no_receiver", "this node has no position receiver")
	}
	sh := Share{To: s.users[i].Person, Until: time.Now().Add(time.Duration(in.ForS) * time.Second).UTC(), EveryS: 60, Source: in.Source, ForS: in.ForS}
	if in.Lat != nil {
		sh.Lat, sh.Lon = *in.Lat, *in.Lon
	}
	s.shares = append(slices.DeleteFunc(s.shares, func(o Share) bool { return o.To.ID == in.To }), sh)
	return 201, sh, nil
}

func (s *Server) deleteShare(r *http.Request) (int, any, *apiError) {
	to, before := r.URL.Query().Get("to"), len(s.shares)
	s.shares = slices.DeleteFunc(s.shares, func(o Share) bool { return to == "" || o.To.ID == to })
	if to != "" && before == len(s.shares) {
		return 0, nil, refuse(404, "not_found", "there is no such share")
	}
	return 200, map[string]any{"stopped": before - len(s.shares)}, nil
}

func (s *Server) putPlace(r *http.Request) (int, any, *apiError) {
	var in struct {
		Lat       *float64 `json:"lat"`
		Lon       *float64 `json:"lon"`
		AccuracyM float64  `json:"accuracy_m"`
		AltitudeM *float64 `json:"altitude_m"`
		CourseDeg *float64 `json:"course_deg"`
		SpeedMS   *float64 `json:"speed_ms"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Lat == nil || in.Lon == nil {
		return 0, nil, refuse(400, "bad_request", "lat and lon are needed")
	}
	s.told = append(s.told, Place{*in.Lat, *in.Lon, in.AccuracyM})
	return 204, nil, nil
}
