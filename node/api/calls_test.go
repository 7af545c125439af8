package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"outrider/media"
	"outrider/mesh/identity"
	"outrider/node/chat"
)

// fakeCalls remembers what it was asked for.
type fakeCalls struct {
	mu    sync.Mutex
	err   error
	user  identity.UserID
	id    media.CallID
	bytes []byte
	offer media.Offer
	end   media.Reason
	did   string
}

func (c *fakeCalls) note(did string, user identity.UserID, id media.CallID, b []byte) (Call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did, c.user, c.id, c.bytes = did, user, id, b
	call := media.Call{
		ID: id, User: user, Peer: bob, State: media.StateEnded, Reason: media.ReasonHangup, Began: aTime, Accepted: aTime.Add(time.Second), Over: aTime.Add(9 * time.Second),
		Commit: []byte{1}, PeerKey: []byte{2},
	}
	return Call{call, chat.Person{ID: bob, Name: "Bob"}}, c.err
}

func (c *fakeCalls) Start(_ context.Context, user, _ identity.UserID, id media.CallID, commit []byte) (Call, error) {
	return c.note("start", user, id, commit)
}

func (c *fakeCalls) Answer(_ context.Context, user identity.UserID, id media.CallID, key []byte) (Call, error) {
	return c.note("answer", user, id, key)
}

func (c *fakeCalls) Reveal(_ context.Context, user identity.UserID, id media.CallID, key []byte) (Call, error) {
	return c.note("reveal", user, id, key)
}

func (c *fakeCalls) End(_ context.Context, user identity.UserID, id media.CallID, r media.Reason) (Call, error) {
	c.end = r
	return c.note("end", user, id, nil)
}

func (c *fakeCalls) Media(_ context.Context, user identity.UserID, id media.CallID, o media.Offer) (media.Answer, error) {
	c.offer = o
	_, err := c.note("media", user, id, nil)
	return media.Answer{SDP: "answer"}, err
}

func (c *fakeCalls) Of(user identity.UserID) ([]Call, error) {
	call, err := c.note("of", user, media.CallID{3}, nil)
	return []Call{call}, err
}

// A line is a bench with calls and Alice at her page.
type line struct {
	*bench
	calls *fakeCalls
	token string
}

func newLine(t *testing.T) *line {
	l := &line{calls: &fakeCalls{}}
	l.bench = newBench(t, func(c *Config) { c.Calls = l.calls })
	l.token = l.login("Alice")
	return l
}

func (l *line) post(path, body string) *httptest.ResponseRecorder {
	return l.page("POST", path, body).cookie(l.token).do()
}

func (l *line) get(path string) *httptest.ResponseRecorder {
	return l.page("GET", path, "").cookie(l.token).do()
}

func TestC01Calls(t *testing.T) {
	b := newLine(t)
	id := media.CallID{7}
	at := "/v1/calls/" + id.String()
	for _, c := range []struct{ path, body, did string }{
		{"/v1/calls", `{"to":"Bob","id":"` + id.String() + `","commit":"AQI"}`, "start"},
		{at + "/answer", `{"key":"AQI"}`, "answer"},
		{at + "/key", `{"key":"AQI"}`, "reveal"},
		{at + "/end", `{"reason":"keys"}`, "end"},
		{at + "/media", `{"sdp":"v=0\r\n","transport":"tcp"}`, "media"},
	} {
		w := b.post(c.path, c.body)
		if w.Code >= 300 || b.calls.did != c.did || b.calls.user != alice || b.calls.id != id {
			t.Errorf("%s: %d %s; %+v", c.path, w.Code, w.Body, b.calls)
		}
		if (c.did == "answer" || c.did == "start" || c.did == "reveal") && !bytes.Equal(b.calls.bytes, []byte{1, 2}) {
			t.Errorf("%s: bytes %x", c.path, b.calls.bytes)
		}
		if c.did == "end" && (b.calls.end != media.ReasonKeys || !strings.Contains(w.Body.String(), `"duration_s":8`) || !strings.Contains(w.Body.String(), `"peer_key":"Ag"`)) {
			t.Errorf("end: %v %s", b.calls.end, w.Body)
		}
	}
	if o := b.calls.offer; !o.TCPOnly || !o.Loopback || o.SDP != "v=0\r\n" {
		t.Errorf("offer %+v", o)
	}
	if w := b.get("/v1/calls"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"state":"ended"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestC01CallsRefused(t *testing.T) {
	b := newLine(t)
	at := "/v1/calls/" + media.CallID{7}.String()
	b.page("POST", at+"/end", `{}`).want(http.StatusUnauthorized, "no_session")
	b.page("POST", at+"/end", `{}`).cookie(b.token).without("X-Outrider").want(http.StatusForbidden, "missing_header")
	for path, body := range map[string]string{
		"/v1/calls":           `{"to":"Bob","id":"x","commit":"AQI"}`,
		at + "/answer":        `{"key":"not base64!"}`,
		at + "/end":           `{"reason":"mood"}`,
		at + "/media":         `{"sdp":"garbage"}`,
		"/v1/calls/short/key": `{"key":"AQI"}`,
	} {
		if w := b.post(path, body); w.Code < 300 || w.Code >= 500 {
			t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
		}
	}
	if w := b.post(at+"/media", `{"sdp":"v=0\r\n","transport":"carrier pigeon"}`); w.Code != http.StatusBadRequest {
		t.Errorf("an unknown transport: %d", w.Code)
	}
	if w := b.post(at+"/media", `{"sdp":"v=0`+strings.Repeat("x", 1<<20)+`"}`); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("1 MB: %d", w.Code)
	}
	for _, c := range callClasses {
		b.calls.err = c.is
		if w := b.post(at+"/answer", `{"key":"AQI"}`); w.Code != c.status || !strings.Contains(w.Body.String(), `"`+c.code+`"`) {
			t.Errorf("%v: %d %s", c.is, w.Code, w.Body)
		}
	}
	b.calls.err = ErrCallsOff
	if w := b.get("/v1/calls"); w.Code != http.StatusConflict {
		t.Errorf("off: %d", w.Code)
	}
}

func TestC08RecordsOfCalls(t *testing.T) {
	for i, name := range callStatusNames {
		v := messageView(chat.Message{Type: chat.TypeCall, Call: &chat.Call{Status: chat.CallStatus(i), Began: aTime, Duration: 95 * time.Second}})
		if v.Call == nil || v.Call.Status != name || v.Call.DurationS != 95 {
			t.Errorf("%s: %+v", name, v.Call)
		}
	}
	if v := messageView(chat.Message{Type: chat.TypeCall, Call: &chat.Call{Status: 99}}); v.Call != nil {
		t.Errorf("%+v", v.Call)
	}
}

func TestC01CallEventsReachTheUserOnly(t *testing.T) {
	h := NewHub()
	h.open(alice)
	h.open(bob)
	h.Call(Call{Call: media.Call{User: alice, State: media.StateRinging}})
	evs, _, _, _, _ := h.users[alice].after(0)
	if len(evs) != 1 || evs[0].kind != "call" || !strings.Contains(string(evs[0].data), `"ringing"`) {
		t.Errorf("%+v", evs)
	}
	if evs, _, _, _, _ := h.users[bob].after(0); len(evs) != 0 {
		t.Errorf("bob was told: %+v", evs)
	}
}
