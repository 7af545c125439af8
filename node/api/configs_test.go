package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

type fakeConfigs struct {
	user   identity.UserID
	asked  NewConfig
	given  GivenConfig
	wanted string // which call
}

var someConfig = ConfigState{Group: "convoy", Sequence: 3, Source: "link", Issued: time.Unix(0, 0), Expires: time.Unix(60, 0), PastDays: 2, Location: true, Members: []Reader{{identity.UserID{1}, "Alice"}}, Seen: 4}

func (f *fakeConfigs) Policy(_ context.Context, user identity.UserID) (Policy, error) {
	f.user = user
	return Policy{Files: Switch{Group: "convoy"}, Location: Switch{Allowed: true}, Groups: []string{"convoy"}, Configs: []ConfigState{someConfig}, Readers: []Reader{{identity.UserID{9}, "Archive"}}}, nil
}

func (f *fakeConfigs) Issued(context.Context) ([]IssuedConfig, error) {
	return []IssuedConfig{{ConfigState: someConfig, Link: "outrider://c/#X", Live: true}}, nil
}

func (f *fakeConfigs) IssueConfig(_ context.Context, c NewConfig) (IssuedConfig, error) {
	f.asked = c
	return IssuedConfig{ConfigState: someConfig, Link: "outrider://c/#X", Password: "six words"}, nil
}

func (f *fakeConfigs) ReadConfig(_ context.Context, c GivenConfig) (OpenedConfig, error) {
	f.given, f.wanted = c, "read"
	return OpenedConfig{ConfigState: someConfig, NetworkName: "eagle", InForce: true, Changed: true, Changes: []string{"a word"}}, nil
}

func (f *fakeConfigs) ApplyConfig(_ context.Context, c GivenConfig) (OpenedConfig, error) {
	f.given, f.wanted = c, "apply"
	if c.Link == "old" {
		return OpenedConfig{}, fmt.Errorf("an older one: %w", ErrConfig)
	}
	return OpenedConfig{ConfigState: someConfig}, nil
}

func TestP02ConfigCalls(t *testing.T) {
	f := &fakeConfigs{}
	b := newBench(t, func(c *Config) { c.Configs = f })
	token := b.login("Alice")

	b.page("GET", "/v1/policy", "").want(401, "no_session")
	w := b.page("GET", "/v1/policy", "").cookie(token).want(200, "")
	for _, want := range []string{`"switches":{"files":{"allowed":false,"group":"convoy"},"location":{"allowed":true}}`, `"past_days":2`, `"seen":4`, `"readers":[{`, `"groups":["convoy"]`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("a user gets %s, without %s", w.Body, want)
		}
	}
	if f.user.IsZero() {
		t.Error("asked for nobody's policy")
	}
	if w := b.socket("GET", "/v1/policy", "").want(200, ""); strings.Contains(w.Body.String(), "switches") || !f.user.IsZero() {
		t.Errorf("the operator gets %s", w.Body)
	}

	for _, call := range [][2]string{{"GET", "/v1/configs"}, {"POST", "/v1/configs"}, {"POST", "/v1/configs/read"}, {"POST", "/v1/configs/apply"}} {
		b.page(call[0], call[1], "{}").cookie(token).want(403, "operator_only")
	}
	if w := b.socket("GET", "/v1/configs", "").want(200, ""); !strings.Contains(w.Body.String(), `"live":true`) {
		t.Errorf("%s", w.Body)
	}
	w = b.socket("POST", "/v1/configs", `{"group":"convoy","members":["Alice"],"files":false,"ttl_min":90,"compliance":"","push":true,"admin_password":"p"}`).want(201, "")
	if a := f.asked; a.Group != "convoy" || a.Files == nil || *a.Files || a.Location != nil || a.TTL != 90*time.Minute || a.Compliance == nil || !a.Push || !strings.Contains(w.Body.String(), "six words") {
		t.Errorf("asked for %+v, answered %s", a, w.Body)
	}
	for _, bad := range []string{
		`{}`, `{"group":"` + strings.Repeat("g", maxName+1) + `"}`, `{"group":"g","ttl_min":-1}`, `{"group":"g","max_age_min":99999999}`, `{"group":"g","open":true,"password":"long enough, surely"}`,
		`{"group":"g","admin_password":"` + strings.Repeat("p", maxPassword+1) + `"}`, `{"group":"g","members":[` + strings.Repeat(`"a",`, maxGroupMembers) + `"a"]}`, `{"group":"g","other":1}`,
	} {
		b.socket("POST", "/v1/configs", bad).want(400, "bad_request")
	}
	b.socket("POST", "/v1/configs", `{"group":"g","password":"eleven char"}`).want(400, "weak_password")

	if w := b.socket("POST", "/v1/configs/read", `{"link":"x","password":"p"}`).want(200, ""); !strings.Contains(w.Body.String(), `"changes":["a word"]`) || f.wanted != "read" || string(f.given.Password) != "p" {
		t.Errorf("%s %+v", w.Body, f.given)
	}
	if w := b.socket("POST", "/v1/configs/apply", `{"link":"x","file":true}`).want(200, ""); !strings.Contains(w.Body.String(), `"changes":[]`) || f.wanted != "apply" || !f.given.File {
		t.Errorf("%s %+v", w.Body, f.given)
	}
	b.socket("POST", "/v1/configs/apply", `{"link":"old"}`).want(422, "bad_config")
	for _, bad := range []string{`{}`, `{"link":"` + strings.Repeat("x", maxConfigLink+1) + `"}`, `{"link":"x","password":"` + strings.Repeat("p", maxPassword+1) + `"}`} {
		b.socket("POST", "/v1/configs/apply", bad).want(400, "bad_request")
	}
}

// What a policy forbids has a code of its own, and names group and type.
func TestF03PolicyError(t *testing.T) {
	f := classify(fmt.Errorf("chat: %w", &chat.PolicyError{Group: "convoy", Type: chat.TypeFile}))
	if f.Status != 403 || f.Code != "policy" || f.Extra["group"] != "convoy" || f.Extra["type"] != chat.TypeFile || !strings.Contains(f.Message, "group convoy forbids files") || !strings.Contains(f.Hint, "config push convoy") {
		t.Errorf("%+v", f)
	}
}
