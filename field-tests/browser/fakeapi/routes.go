package fakeapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const cookieName = "outrider_session"

// An apiError is an error answer.
type apiError struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	wait    time.Duration
}

func refuse(status int, code, message string) *apiError {
	return &apiError{status: status, Code: code, Message: message}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func answerError(w http.ResponseWriter, e *apiError) {
	if e.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.wait+time.Second-1)/time.Second)))
	}
	answer(w, e.status, map[string]any{"error": e})
}

// A call answers a request of the logged-in user. The lock is held.
type call func(s *Server, r *http.Request) (status int, out any, err *apiError)

var calls = map[string]call{
	"GET /v1/session":                     (*Server).getSession,
	"GET /v1/users":                       (*Server).getUsers,
	"GET /v1/peers":                       (*Server).getPeers,
	"GET /v1/links":                       (*Server).getLinks,
	"GET /v1/contacts":                    (*Server).getContacts,
	"GET /v1/files":                       (*Server).getFiles,
	"POST /v1/users/{id}/key":             (*Server).postKey,
	"POST /v1/messages/{id}/dismiss":      act("dismiss"),
	"GET /v1/conversations":               (*Server).getConversations,
	"GET /v1/conversations/{id}/messages": (*Server).getMessages,
	"POST /v1/messages":                   (*Server).postMessage,
	"POST /v1/locations":                  (*Server).postLocation,
	"GET /v1/position":                    (*Server).getPosition,
	"GET /v1/locations":                   (*Server).getPlaces,
	"GET /v1/locations/live":              (*Server).getShares,
	"POST /v1/locations/live":             (*Server).postShare,
	"DELETE /v1/locations/live":           (*Server).deleteShare,
	"PUT /v1/locations/live/position":     (*Server).putPlace,
	"GET /v1/messages/{id}":               (*Server).getMessage,
	"GET /v1/messages/{id}/why":           (*Server).getWhy,
	"POST /v1/messages/{id}/retry":        act("retry"),
	"POST /v1/messages/{id}/recall":       act("recall"),
	"POST /v1/messages/{id}/read":         act("read"),
	"GET /v1/failures":                    (*Server).getFailures,
	"GET /v1/policy":                      (*Server).getPolicy,
	"GET /v1/archive":                     (*Server).getArchive,
	"GET /v1/calls":                       (*Server).getCalls,
}

func (s *Server) routes() *http.ServeMux {
	m := http.NewServeMux()
	for pattern, c := range calls {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			status, out, err := c(s, r)
			body, _ := json.Marshal(out) // as it is now, whatever happens while the answer is held back
			lose := s.loseSend && pattern == "POST /v1/messages" && err == nil
			s.loseSend, s.down = s.loseSend && !lose, s.down || lose && s.killed
			s.mu.Unlock()
			s.wait(r)
			switch {
			case lose:
				hangUp(w)
			case err != nil:
				answerError(w, err)
			default:
				answer(w, status, json.RawMessage(body))
			}
		})
	}
	m.HandleFunc("GET /v1/status", s.getStatus)
	m.HandleFunc("POST /v1/session", s.login)
	m.HandleFunc("DELETE /v1/session", s.logout)
	m.HandleFunc("GET /v1/events", s.stream)
	m.HandleFunc("POST /v1/files", s.postFile)
	m.HandleFunc("GET /v1/files/{id}", s.getFile)
	return m
}

// api checks what the node checks of every request and routes it.
func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && (r.Header.Get("X-Outrider") != "1" || r.Header.Get("Origin") != "http://"+r.Host) {
		answerError(w, refuse(403, "missing_header", "the request lacks X-Outrider or Origin"))
		return
	}
	s.mu.Lock()
	planned, broken := s.fail[r.Method+" "+r.URL.Path]
	s.mu.Unlock()
	if broken {
		s.wait(r)
		answerError(w, &planned)
		return
	}
	free := r.URL.Path == "/v1/status" || r.Method == http.MethodPost && r.URL.Path == "/v1/session"
	if !free && !s.loggedIn(r) {
		answerError(w, refuse(401, "no_session", "you are not logged in"))
		return
	}
	s.routes().ServeHTTP(w, r)
}

func (s *Server) loggedIn(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == nil && s.sessions[c.Value]
}

// decode reads a JSON body as strictly as the node does.
func decode(r *http.Request, v any) *apiError {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return refuse(415, "bad_content_type", "the body must be JSON")
	}
	d := json.NewDecoder(io.LimitReader(r.Body, 256<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refuse(400, "bad_request", "the body is not what this call takes: "+err.Error())
	}
	return nil
}

func (s *Server) session() map[string]any {
	return map[string]any{"user_id": s.me.ID, "name": s.me.Name, "expires": time.Now().Add(time.Hour).UTC()}
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ User, Password string }
	if err := decode(r, &in); err != nil {
		answerError(w, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.limit > 0:
		e := refuse(429, "too_many_attempts", "too many attempts to log in")
		e.wait = s.limit
		answerError(w, e)
	case in.User != s.me.Name || in.Password != s.password:
		answerError(w, refuse(401, "bad_password", "wrong name or password"))
	default:
		token := NewID()
		s.sessions[token] = true
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		answer(w, 201, s.session())
	}
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Cookie(cookieName)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c.Value)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, 200, map[string]any{
		"node": strings.Repeat("nq3k7", 10) + "ab", "name": s.name, "version": s.version, "api": "1", "uptime_s": 93784,
		"network": map[string]any{"id": strings.Repeat("w", 52), "name": "eagle"}, "banner": s.banner, "contacts": s.banner.Contacts, "links": s.links,
		"warnings": append([]Warning{}, s.warnings...),
		"store":    map[string]any{"bundles": 1284, "bytes": 361_000_000, "limit_bytes": 2_000_000_000},
	})
}

func (s *Server) getSession(*http.Request) (int, any, *apiError) { return 200, s.session(), nil }

func (s *Server) getUsers(*http.Request) (int, any, *apiError) {
	return 200, map[string]any{"users": s.users}, nil
}

func (s *Server) getLinks(*http.Request) (int, any, *apiError) {
	return 200, map[string]any{"links": s.links}, nil
}

func (s *Server) getContacts(*http.Request) (int, any, *apiError) {
	return 200, map[string]any{"contacts": append([]Contact{}, s.contacts...), "hours": 24}, nil
}

func (s *Server) getFiles(r *http.Request) (int, any, *apiError) {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 1 || limit > 200 {
		return 0, nil, refuse(400, "bad_request", "limit must be 1 to 200")
	}
	out := []*Message{}
	before, found := r.URL.Query().Get("before"), false
	all := slices.Clone(s.messages)
	slices.SortStableFunc(all, func(a, b *Message) int { return b.Sent.Compare(a.Sent) })
	for _, m := range all {
		if m.File != nil && (before == "" || found) && len(out) < limit {
			out = append(out, m)
		}
		found = found || m.ID == before
	}
	return 200, map[string]any{"messages": out, "more": len(out) == limit}, nil
}

func (s *Server) postKey(r *http.Request) (int, any, *apiError) {
	var in struct {
		Fingerprint string `json:"fingerprint"`
		Verified    bool   `json:"verified"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	i := slices.IndexFunc(s.users, func(u User) bool { return u.ID == r.PathValue("id") })
	if i < 0 {
		return 0, nil, refuse(404, "not_found", "there is no such person")
	}
	if s.users[i].Fingerprint != in.Fingerprint {
		return 0, nil, refuse(409, "other_key", "the person has another key now")
	}
	s.users[i].Verified, s.users[i].KeyChanged = in.Verified, false
	s.publish("contact", struct{}{})
	return 200, s.users[i], nil
}

// getPosition answers as a node without a receiver, or where SetFix has put it.
func (s *Server) getPosition(*http.Request) (int, any, *apiError) {
	if s.fix == nil {
		return 200, map[string]any{"state": "off", "fix": nil}, nil
	}
	return 200, map[string]any{"state": "fix", "fix": s.fix}, nil
}

// SetFix says where the node is.
func (s *Server) SetFix(lat, lon float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fix = map[string]any{"lat": lat, "lon": lon, "time": time.Now(), "age_s": 0}
}

func (s *Server) getPeers(*http.Request) (int, any, *apiError) {
	type peer struct {
		ID        string     `json:"id"`
		Name      string     `json:"name"`
		Addrs     []string   `json:"addrs"`
		Up        bool       `json:"up"`
		Blocked   bool       `json:"blocked"`
		LastHeard *time.Time `json:"last_heard"`
	}
	out := make([]peer, 0, len(s.links))
	for _, l := range s.links {
		out = append(out, peer{l.Node, l.Name, []string{l.Addr}, l.Up, l.Blocked, l.LastHeard})
	}
	return 200, map[string]any{"peers": out}, nil
}

func (s *Server) getConversations(*http.Request) (int, any, *apiError) {
	type conversation struct {
		ID     string   `json:"id"`
		Kind   string   `json:"kind"`
		With   Person   `json:"with"`
		Last   *Message `json:"last"`
		Unread int      `json:"unread"`
	}
	out := []*conversation{}
	for _, m := range s.messages {
		i := slices.IndexFunc(out, func(c *conversation) bool { return c.ID == m.Conversation })
		if i < 0 {
			with := m.From
			if m.Outgoing {
				with = m.To
			}
			out = append(out, &conversation{ID: m.Conversation, Kind: "dm", With: with})
			i = len(out) - 1
		}
		out[i].Last = m
		if m.Unread {
			out[i].Unread++
		}
	}
	slices.SortStableFunc(out, func(a, b *conversation) int { return b.Last.Sent.Compare(a.Last.Sent) })
	return 200, map[string]any{"conversations": out}, nil
}

func (s *Server) getMessages(r *http.Request) (int, any, *apiError) {
	limit := 50
	if l := r.URL.Query().Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > 200 {
			return 0, nil, refuse(400, "bad_request", "limit must be 1 to 200")
		}
		limit = n
	}
	var all []*Message
	for _, m := range s.messages {
		if m.ID == r.URL.Query().Get("before") {
			break
		}
		if m.Conversation == r.PathValue("id") {
			all = append(all, m)
		}
	}
	page := all[max(0, len(all)-limit):]
	return 200, map[string]any{"messages": append([]*Message{}, page...), "more": len(page) == limit}, nil
}

type draft struct {
	To         string `json:"to"`
	Precedence string `json:"precedence"`
	TTLS       *int64 `json:"ttl_s"`
}

// addressed makes the message of a draft. The lock is held.
func (s *Server) addressed(d draft) (*Message, *apiError) {
	i := slices.IndexFunc(s.users, func(u User) bool { return u.ID == d.To })
	if i < 0 {
		return nil, refuse(404, "not_found", "there is no such person")
	}
	m := s.base(s.users[i].Person, true)
	if !s.users[i].HasKeys {
		m.State = "waiting-for-keys"
	}
	if d.Precedence != "" {
		if !slices.Contains([]string{"routine", "priority", "immediate", "flash"}, d.Precedence) {
			return nil, refuse(400, "bad_request", "precedence must be routine, priority, immediate or flash")
		}
		m.Precedence = d.Precedence
	}
	if d.TTLS != nil {
		if *d.TTLS < 60 {
			return nil, refuse(400, "bad_request", "ttl_s must be 60 or more")
		}
		m.Expires = m.Sent.Add(time.Duration(*d.TTLS) * time.Second)
	}
	return m, nil
}

// accept takes a message once for each Idempotency-Key.
func (s *Server) accept(r *http.Request, m *Message) (int, any, *apiError) {
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if known := s.once[key]; known != nil {
			return 201, *known, nil
		}
		s.once[key] = m
	}
	s.messages = append(s.messages, m)
	s.publish("message", *m)
	return 201, *m, nil
}

func (s *Server) postMessage(r *http.Request) (int, any, *apiError) {
	var in struct {
		draft
		Text string `json:"text"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Text == "" || len(in.Text) > 32<<10 {
		return 0, nil, refuse(400, "bad_request", "text must have 1 to 32768 bytes")
	}
	m, err := s.addressed(in.draft)
	if err != nil {
		return 0, nil, err
	}
	m.Text = &in.Text
	return s.accept(r, m)
}

func (s *Server) postLocation(r *http.Request) (int, any, *apiError) {
	var in struct {
		draft
		Lat       *float64 `json:"lat"`
		Lon       *float64 `json:"lon"`
		AccuracyM float64  `json:"accuracy_m"`
		Note      string   `json:"note"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Lat == nil || in.Lon == nil || len(in.Note) > 200 {
		return 0, nil, refuse(400, "bad_request", "lat and lon are needed, note has at most 200 bytes")
	}
	m, err := s.addressed(in.draft)
	if err != nil {
		return 0, nil, err
	}
	m.Type, m.Location = "location", &Location{Lat: *in.Lat, Lon: *in.Lon, AccuracyM: int(in.AccuracyM), Note: in.Note}
	return s.accept(r, m)
}

func (s *Server) postFile(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the browser stopped the upload
	}
	q := r.URL.Query()
	for k := range q {
		if !slices.Contains([]string{"to", "name", "precedence", "ttl_s"}, k) {
			answerError(w, refuse(400, "bad_request", "the query has an unknown field"))
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, failed := s.addressed(draft{To: q.Get("to"), Precedence: q.Get("precedence")})
	if failed != nil {
		answerError(w, failed)
		return
	}
	n := int64(len(body))
	m.Type, m.File = "file", &File{Name: q.Get("name"), Size: n, MediaType: r.Header.Get("Content-Type"), Have: n, Total: n, Complete: true}
	s.content[m.ID] = body
	_, out, _ := s.accept(r, m)
	answer(w, 201, out)
}

func (s *Server) getFile(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	m, data := s.find(r.PathValue("id")), s.content[r.PathValue("id")]
	s.mu.Unlock()
	switch {
	case m == nil || m.File == nil:
		answerError(w, refuse(404, "not_found", "there is no such file"))
	case !m.File.Complete:
		answerError(w, refuse(409, "not_complete", "parts of the file have not arrived"))
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", "attachment")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
	}
}

func (s *Server) getMessage(r *http.Request) (int, any, *apiError) {
	if m := s.find(r.PathValue("id")); m != nil {
		return 200, *m, nil
	}
	return 0, nil, refuse(404, "not_found", "there is no such message")
}

func (s *Server) getWhy(r *http.Request) (int, any, *apiError) {
	m := s.find(r.PathValue("id"))
	if m == nil {
		return 0, nil, refuse(404, "not_found", "there is no such message")
	}
	w, ok := s.why[m.ID]
	if !ok {
		w = Why{Summary: "The message is " + m.State + ".", Facts: []string{"This node holds a copy."}, Next: "It goes at the next contact."}
	}
	if w.Facts == nil {
		w.Facts = []string{}
	}
	return 200, struct {
		Message Message `json:"message"`
		State   string  `json:"state"`
		Why
	}{*m, m.State, w}, nil
}

func act(action string) call {
	return func(s *Server, r *http.Request) (int, any, *apiError) {
		m := s.find(r.PathValue("id"))
		if m == nil {
			return 0, nil, refuse(404, "not_found", "there is no such message")
		}
		switch {
		case action == "retry" && m.Outgoing && (m.State == "failed" || m.State == "queued"):
			m.State, m.Reason, m.Hint, m.ReasonCode = "queued", "", "", ""
		case action == "recall" && m.Outgoing && m.State != "recalled" && m.State != "expired":
			m.State, m.Reason, m.Hint, m.Text = "recalled", "", "", nil
		case action == "dismiss" && m.Outgoing && slices.Contains(stuck, m.State):
			m.Dismissed = true
		case action == "read" && !m.Outgoing:
			m.State, m.Unread = "read", false
		default:
			return 0, nil, refuse(409, "wrong_state", "not possible in this state")
		}
		s.publish("state", *m)
		return 200, *m, nil
	}
}

// stuck are the states of failures.
var stuck = []string{"failed", "expired", "waiting-for-keys"}

func (s *Server) getFailures(*http.Request) (int, any, *apiError) {
	out := []*Message{}
	for _, m := range s.messages {
		if m.Outgoing && !m.Dismissed && slices.Contains(stuck, m.State) {
			out = append(out, m)
		}
	}
	return 200, map[string]any{"messages": out}, nil
}

// stream is GET /v1/events, with resumption behind Last-Event-ID.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.noEvents {
		s.mu.Unlock()
		answerError(w, refuse(502, "bad_gateway", "no streams here"))
		return
	}
	s.streams++
	mine := s.streams
	at := len(s.events)
	var epoch, n int
	resumed := false
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if _, err := fmt.Sscanf(id, "e%d-%d", &epoch, &n); err == nil && epoch == s.epoch && n <= at {
			at, resumed = n, true
		}
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	send := func(seq int, kind string, data any) {
		b, _ := json.Marshal(data)
		fmt.Fprintf(w, "id: e%d-%d\nevent: %s\ndata: %s\n\n", s.epoch, seq, kind, b)
	}
	switch {
	case !resumed && r.Header.Get("Last-Event-ID") != "":
		send(at, "reset", struct{}{})
	case !resumed:
		send(at, "hello", map[string]string{"version": "1"})
	}
	for {
		s.mu.Lock()
		for ; at < len(s.events); at++ {
			send(at+1, s.events[at].kind, s.events[at].data)
		}
		ended, more := mine < s.cut, s.changed
		s.mu.Unlock()
		if ended {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// getCalls: nobody calls anybody here; field-tests/calls has real calls.
func (s *Server) getCalls(*http.Request) (int, any, *apiError) {
	return http.StatusOK, map[string]any{"calls": []any{}}, nil
}
