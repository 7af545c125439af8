package api

import (
	"context"
	"strings"
	"testing"
	"time"
)

type fakeCore struct {
	status CoreStatus
	waited time.Duration
}

func (f *fakeCore) Core() CoreStatus { return f.status }

func (f *fakeCore) Sync(ctx context.Context) (CoreStatus, error) {
	end, _ := ctx.Deadline()
	f.waited = time.Until(end)
	return f.status, nil
}

// How the way to the core stands, and a call that waits for it, bounded.
func TestCore(t *testing.T) {
	f := &fakeCore{}
	b := newBench(t, func(c *Config) { c.Core = f })
	b.page("GET", "/v1/core", "").want(401, "no_session")
	b.page("POST", "/v1/core/sync", `{"wait_s":1}`).want(403, "operator_only")
	says := func(want ...string) {
		t.Helper()
		got := b.socket("GET", "/v1/core", "").want(200, "").Body.String()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s lacks %s", got, w)
			}
		}
	}
	says(`"configured":false`, `"last_reached":null`)
	b.socket("POST", "/v1/core/sync", `{"wait_s":1}`).want(409, "no_core")
	f.status = CoreStatus{Configured: true, Reached: aTime, ErrorSince: aTime, Code: "pin", Error: "another key", Waiting: 3, Resent: 2}
	says(`"code":"pin"`, `"waiting":3`, `"resent":2`, `"last_reached":"`+stamp(aTime)+`"`)
	b.socket("POST", "/v1/core/sync", `{"wait_s":600}`).want(200, "")
	if f.waited < 590*time.Second {
		t.Errorf("waited %v", f.waited)
	}
	for _, body := range []string{`{"wait_s":0}`, `{"wait_s":601}`, `{}`, `{"wait":1}`} {
		b.socket("POST", "/v1/core/sync", body).want(400, "")
	}
}
