package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"outrider/mesh/identity"
)

// A stream writes server-sent events (WHATWG HTML, section 9.2). Every write
// has a deadline, so a reader that stops reading is cut off, not waited for.
type stream struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (s *Server) newStream(w http.ResponseWriter) (*stream, error) {
	st := &stream{w: w, rc: http.NewResponseController(w), timeout: s.timeouts.Progress}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	_ = st.rc.SetReadDeadline(time.Time{})
	return st, st.comment("ok")
}

// send writes one event. Data is JSON and so has no line breaks.
func (st *stream) send(id, kind string, data []byte) error {
	var b strings.Builder
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + kind + "\ndata: ")
	b.Write(data)
	b.WriteString("\n\n")
	return st.write(b.String())
}

func (st *stream) comment(text string) error { return st.write(": " + text + "\n\n") }

func (st *stream) write(text string) error {
	if err := st.rc.SetWriteDeadline(time.Now().Add(st.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	if err := st.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// events is GET /v1/events: a user's events with a session, the node's own
// through the socket without one.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	ses := s.sessionOf(r)
	var user *identity.UserID
	switch {
	case ses != nil:
		user = &ses.id
	case originOf(r) != fromSocket:
		return errNoSession
	}
	if !s.streams.enter(user) {
		f := fail(http.StatusTooManyRequests, "too_many_streams", "too many event streams are open", "close one")
		f.RetryAfter = 5 * time.Second
		return f
	}
	defer s.streams.leave(user)
	rg := s.cfg.Hub.ringOf(user)
	if rg == nil {
		return errNoSession
	}
	st, err := s.newStream(w)
	if err != nil {
		return nil
	}
	s.follow(r, st, rg, ses)
	return nil
}

// follow writes events until the client goes, the session ends, or the server
// stops.
func (s *Server) follow(r *http.Request, st *stream, rg *ring, ses *session) {
	pos, ok := s.startPosition(r, rg, st)
	beat := time.NewTicker(s.timeouts.Beat)
	defer beat.Stop()
	var ended chan struct{}
	if ses != nil {
		ended = ses.ended
	}
	for ok {
		evs, last, reset, more, over := rg.after(pos)
		if reset {
			if st.send(s.cfg.Hub.idText(last), "reset", []byte("{}")) != nil {
				return
			}
			pos = last
			continue
		}
		for _, e := range evs {
			if st.send(s.cfg.Hub.idText(e.seq), e.kind, e.data) != nil {
				return
			}
			pos = e.seq
		}
		if over {
			return
		}
		select {
		case <-more:
		case <-beat.C:
			if st.comment("beat") != nil {
				return
			}
		case <-ended:
			return
		case <-r.Context().Done():
			return
		}
		if ses != nil && !s.sessions.alive(ses) {
			return
		}
	}
}

// startPosition finds where a stream goes on: behind Last-Event-ID if that is
// still in the ring, else at the newest event after a reset.
func (s *Server) startPosition(r *http.Request, rg *ring, st *stream) (uint64, bool) {
	id := r.Header.Get("Last-Event-ID")
	if id != "" {
		if seq, ok := s.cfg.Hub.position(id); ok {
			return seq, true
		}
	}
	_, last, _, _, _ := rg.after(^uint64(0))
	if id == "" {
		// The first event names the place, so that a stream that is cut
		// before anything happened can resume too.
		return last, st.send(s.cfg.Hub.idText(last), "hello", []byte(fmt.Sprintf(`{"version":%q}`, apiVersion))) == nil
	}
	return last, st.send(s.cfg.Hub.idText(last), "reset", []byte("{}")) == nil
}

// streamCount bounds open event streams.
type streamCount struct {
	mu  sync.Mutex
	all int
	by  map[identity.UserID]int
}

func (c *streamCount) enter(user *identity.UserID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= MaxStreams || user != nil && c.by[*user] >= MaxUserStreams {
		return false
	}
	c.all++
	if user != nil {
		c.by[*user]++
	}
	return true
}

func (c *streamCount) leave(user *identity.UserID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if user == nil {
		return
	}
	if c.by[*user]--; c.by[*user] == 0 {
		delete(c.by, *user)
	}
}
