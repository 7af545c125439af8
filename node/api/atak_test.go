package api

import (
	"context"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

type fakeATAK struct {
	off       bool
	asked     NewTAKClient
	withdrawn string
}

func (f *fakeATAK) Enroll(_ context.Context, c NewTAKClient) ([]byte, TAKClient, error) {
	f.asked = c
	switch {
	case f.off:
		return nil, TAKClient{}, ErrATAKOff
	case c.Name == "nobody":
		return nil, TAKClient{}, chat.ErrNotFound
	}
	return []byte("PK"), TAKClient{ID: strings.Repeat("4f", 16)}, nil
}

func (f *fakeATAK) Clients(context.Context) ([]TAKClient, error) {
	if f.off {
		return nil, ErrATAKOff
	}
	return []TAKClient{{ID: strings.Repeat("4f", 16), User: identity.UserID{1}, Name: "Alice", Since: time.Unix(0, 0)}}, nil
}

func (f *fakeATAK) Withdraw(_ context.Context, id string) error {
	f.withdrawn = id
	if f.off {
		return ErrATAKOff
	}
	return nil
}

func TestL03ATAKCalls(t *testing.T) {
	f := &fakeATAK{}
	b := newBench(t, func(c *Config) { c.ATAK = f })
	w := b.socket("POST", "/v1/atak/clients", `{"name":"Alice","password":"p","host":"h"}`).want(201, "")
	if w.Body.String() != "PK" || w.Header().Get("X-Outrider-Client") == "" || f.asked.Host != "h" || string(f.asked.Password) != "p" {
		t.Errorf("%+v %q", f.asked, w.Body)
	}
	b.socket("POST", "/v1/atak/clients", `{"name":"nobody","password":"p"}`).want(404, "not_found")
	for _, bad := range []string{`{"password":"p"}`, `{"name":"` + strings.Repeat("n", maxName+1) + `"}`, `{"name":"a","host":"` + strings.Repeat("h", 254) + `"}`,
		`{"name":"a","password":"` + strings.Repeat("p", maxPassword+1) + `"}`, `{"name":"a","other":1}`} {
		b.socket("POST", "/v1/atak/clients", bad).want(400, "bad_request")
	}
	if w := b.socket("GET", "/v1/atak/clients", "").want(200, ""); !strings.Contains(w.Body.String(), `"name":"Alice"`) {
		t.Errorf("%s", w.Body)
	}
	b.socket("DELETE", "/v1/atak/clients/"+strings.Repeat("4f", 16), "").want(204, "")
	f.withdrawn = ""
	for _, id := range []string{"x", strings.Repeat("4F", 16), strings.Repeat("4f", 17), "..%2f..%2fstate"} {
		b.socket("DELETE", "/v1/atak/clients/"+id, "").want(400, "bad_request")
	}
	if f.withdrawn != "" {
		t.Errorf("asked for %q", f.withdrawn)
	}
	b.page("GET", "/v1/atak/clients", "").want(403, "operator_only")
	b.page("POST", "/v1/atak/clients", `{"name":"Alice","password":"p"}`).want(403, "operator_only")
	f.off = true
	b.socket("GET", "/v1/atak/clients", "").want(409, "atak_off")
	b.socket("POST", "/v1/atak/clients", `{"name":"Alice","password":"p"}`).want(409, "atak_off")
	b.socket("DELETE", "/v1/atak/clients/"+strings.Repeat("4f", 16), "").want(409, "atak_off")
}
