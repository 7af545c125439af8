package api

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/node/chat"
)

const defaultPage = 50

// draftJSON is what all calls that send have in common.
type draftJSON struct {
	To         string `json:"to"`
	Precedence string `json:"precedence"`
	TTLS       *int64 `json:"ttl_s"`
}

func (s *Server) users(w http.ResponseWriter, r *http.Request, ses *session) error {
	people, err := ses.user.People(r.Context())
	if err != nil {
		return err
	}
	out := make([]userJSON, len(people))
	for i, p := range people {
		out[i] = userView(p)
	}
	writeJSON(w, http.StatusOK, map[string]any{"users": out})
	return nil
}

// trustKey is POST /v1/users/{id}/key.
func (s *Server) trustKey(w http.ResponseWriter, r *http.Request, ses *session) error {
	id, err := identity.ParseUserID(r.PathValue("id"))
	if err != nil {
		return badRequest("the path must name a user by the id")
	}
	var in struct {
		Fingerprint string `json:"fingerprint"`
		Verified    *bool  `json:"verified"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	if in.Fingerprint == "" || in.Verified == nil {
		return badRequest("fingerprint and verified are needed")
	}
	p, err := ses.user.Trust(r.Context(), id, in.Fingerprint, *in.Verified)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, userView(p))
	return nil
}

func (s *Server) conversations(w http.ResponseWriter, r *http.Request, ses *session) error {
	cs, err := ses.user.Conversations(r.Context())
	if err != nil {
		return err
	}
	out := make([]conversationJSON, len(cs))
	for i, c := range cs {
		out[i] = conversationView(c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"conversations": out})
	return nil
}

func (s *Server) conversation(w http.ResponseWriter, r *http.Request, ses *session) error {
	conv, err := chat.ParseConversationID(r.PathValue("id"))
	if err != nil {
		return err
	}
	before, limit, err := pageOf(r)
	if err != nil {
		return err
	}
	ms, err := ses.user.Messages(r.Context(), conv, before, limit)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"messages": messageViews(ms), "more": len(ms) == limit})
	return nil
}

// pageOf reads which part of a list is wanted.
func pageOf(r *http.Request) (before chat.MessageID, limit int, err error) {
	q, err := queryOf(r, "before", "limit")
	if err != nil {
		return before, 0, err
	}
	if b := q["before"]; b != "" {
		if before, err = chat.ParseMessageID(b); err != nil {
			return before, 0, err
		}
	}
	limit = defaultPage
	if l := q["limit"]; l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 1 || limit > chat.MaxPage {
			return before, 0, badRequest("limit must be 1 to %d", chat.MaxPage)
		}
	}
	return before, limit, nil
}

// send is POST /v1/messages. The answer comes after the message is durable.
func (s *Server) send(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		draftJSON
		Text  string `json:"text"`
		BurnS int64  `json:"burn_s"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	to, prec, ttl, err := s.addressed(r, ses, in.draftJSON)
	if err != nil {
		return err
	}
	if in.BurnS < 0 || in.BurnS > maxTTLSeconds {
		return badRequest("burn_s must be 0 to %d", int64(maxTTLSeconds))
	}
	once, err := onceOf(r)
	if err != nil {
		return err
	}
	m, err := ses.user.Send(r.Context(), chat.Draft{
		Once: once, To: to, Text: in.Text, Precedence: prec, TTL: ttl, Burn: time.Duration(in.BurnS) * time.Second,
	})
	return created(w, m, err)
}

// sendLocation is POST /v1/locations.
func (s *Server) sendLocation(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		draftJSON
		Lat       *float64 `json:"lat"`
		Lon       *float64 `json:"lon"`
		AccuracyM float64  `json:"accuracy_m"`
		Note      string   `json:"note"`
		Live      bool     `json:"live"`
		Here      bool     `json:"here"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	if in.Here {
		if in.Lat != nil || in.Lon != nil || in.AccuracyM != 0 {
			return badRequest("here is the node's own position: leave out lat, lon and accuracy_m")
		}
		return s.sendHere(w, r, ses, in.draftJSON, in.Note, in.Live)
	}
	if in.Lat == nil || in.Lon == nil {
		return badRequest("lat and lon are needed, or here")
	}
	if !(math.Abs(*in.Lat) <= 90 && math.Abs(*in.Lon) <= 180) || !(in.AccuracyM >= 0 && in.AccuracyM <= 1e7) {
		return badRequest("lat must be -90 to 90, lon -180 to 180, accuracy_m 0 to 10000000")
	}
	to, prec, ttl, err := s.addressed(r, ses, in.draftJSON)
	if err != nil {
		return err
	}
	once, err := onceOf(r)
	if err != nil {
		return err
	}
	m, err := ses.user.SendLocation(r.Context(), chat.LocationDraft{
		Once: once, To: to, Precedence: prec, TTL: ttl,
		Location: chat.Location{Lat: *in.Lat, Lon: *in.Lon, AccuracyM: uint32(math.Ceil(in.AccuracyM)), Note: in.Note, Live: in.Live},
	})
	return created(w, m, err)
}

// onceOf reads Idempotency-Key, the name a client gave to its act of sending:
// printable ASCII without space, opaque to the node.
func onceOf(r *http.Request) (string, error) {
	vs := r.Header.Values("Idempotency-Key")
	if len(vs) == 0 {
		return "", nil
	}
	ok := len(vs) == 1 && vs[0] != "" && len(vs[0]) <= chat.MaxOnce
	for i := 0; ok && i < len(vs[0]); i++ {
		ok = vs[0][i] > ' ' && vs[0][i] < 0x7f
	}
	if !ok {
		return "", badRequest("Idempotency-Key must have 1 to %d printable ASCII characters", chat.MaxOnce)
	}
	return vs[0], nil
}

func created(w http.ResponseWriter, m chat.Message, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/messages/"+m.ID.String())
	writeJSON(w, http.StatusCreated, messageView(m))
	return nil
}

// maxTTLSeconds only keeps the arithmetic sane: chat lowers a TTL to the
// network's ceiling.
const maxTTLSeconds = 366 * 24 * 3600

// addressed reads recipient, precedence and TTL.
func (s *Server) addressed(r *http.Request, ses *session, in draftJSON) (to identity.UserID, p bundle.Precedence, ttl time.Duration, err error) {
	if in.To == "" || len(in.To) > maxName {
		return to, p, 0, badRequest("to must be a user id or a unique name")
	}
	if in.Precedence != "" {
		if p, err = bundle.ParsePrecedence(in.Precedence); err != nil {
			return to, p, 0, badRequest("precedence must be routine, priority, immediate or flash")
		}
	}
	if in.TTLS != nil {
		if *in.TTLS < int64(chat.MinTTL/time.Second) || *in.TTLS > maxTTLSeconds {
			return to, p, 0, badRequest("ttl_s must be %d to %d", int64(chat.MinTTL/time.Second), int64(maxTTLSeconds))
		}
		ttl = time.Duration(*in.TTLS) * time.Second
	}
	to, err = ses.user.Resolve(r.Context(), in.To)
	return to, p, ttl, err
}

func messageID(r *http.Request) (chat.MessageID, error) {
	return chat.ParseMessageID(r.PathValue("id"))
}

func (s *Server) message(w http.ResponseWriter, r *http.Request, ses *session) error {
	id, err := messageID(r)
	if err != nil {
		return err
	}
	m, err := ses.user.Message(r.Context(), id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, messageView(m))
	return nil
}

func (s *Server) why(w http.ResponseWriter, r *http.Request, ses *session) error {
	id, err := messageID(r)
	if err != nil {
		return err
	}
	y, err := ses.user.Why(r.Context(), id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, whyView(y))
	return nil
}

// action makes a handler of a call on one message.
func (s *Server) action(do func(User, *http.Request, chat.MessageID) (chat.Message, error)) sessionHandler {
	return func(w http.ResponseWriter, r *http.Request, ses *session) error {
		id, err := messageID(r)
		if err != nil {
			return err
		}
		if err := emptyBody(r); err != nil {
			return err
		}
		m, err := do(ses.user, r, id)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, messageView(m))
		return nil
	}
}

func retry(u User, r *http.Request, id chat.MessageID) (chat.Message, error) {
	return u.Retry(r.Context(), id)
}

func recall(u User, r *http.Request, id chat.MessageID) (chat.Message, error) {
	return u.Recall(r.Context(), id)
}

func read(u User, r *http.Request, id chat.MessageID) (chat.Message, error) {
	return u.Read(r.Context(), id)
}

func dismiss(u User, r *http.Request, id chat.MessageID) (chat.Message, error) {
	return u.Dismiss(r.Context(), id)
}

func (s *Server) failures(w http.ResponseWriter, r *http.Request, ses *session) error {
	ms, err := ses.user.Failures(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"messages": messageViews(ms)})
	return nil
}

// emptyBody refuses a body where a call takes none; an empty JSON object is
// taken for none.
func emptyBody(r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	var none struct{}
	return decodeJSON(r, &none)
}

// queryOf reads the query; a field that is unknown or stands twice is an
// error, as in bodies.
func queryOf(r *http.Request, known ...string) (map[string]string, error) {
	out := make(map[string]string, len(known))
	values, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query is malformed")
	}
	for k, v := range values {
		if !contains(known, k) {
			return nil, badRequest("the query has an unknown field; it takes %v", known)
		}
		if len(v) != 1 {
			return nil, badRequest("query field %s stands twice", k)
		}
		out[k] = v[0]
	}
	return out, nil
}
