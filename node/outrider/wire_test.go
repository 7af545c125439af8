package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"outrider/mesh/identity"
	"outrider/node"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
)

// An error means the same to a script whether the node runs or not: the folder
// is opened by this program in one case, the socket asked in the other.
func TestErrorsHaveOneExitCodeBothWays(t *testing.T) {
	for _, c := range []struct {
		err  error
		want exitCode
		code string
		text string
	}{
		{fmt.Errorf("node: open admin keys: %w", node.ErrNotAdmin), exitRefused, "not_admin", "this node holds no admin key; run this where `outrider network create` was run"},
		{fmt.Errorf("node: open admin keys: %w", node.ErrAdminPassword), exitRefused, "bad_password", "the admin password is wrong; nothing was changed"},
		{fmt.Errorf("%w: node: add user: %w", api.ErrNoNetwork, node.ErrNoNetwork), exitSetup, "no_network", ""},
		{fmt.Errorf("chat: 2 people have that name: use the id: %w", chat.ErrAmbiguous), exitConflict, "ambiguous", ""},
		{fmt.Errorf("node: x: %w", api.ErrConflict), exitConflict, "exists", "x"},
		{fmt.Errorf("node: keystore: %w", chat.ErrNotFound), exitMissing, "not_found", "keystore: not found"},
		{fmt.Errorf("node: add user: role is not known: %w", chat.ErrInvalid), exitUsage, "bad_request", "add user: role is not known"},
		{fmt.Errorf("%w: node: read config: identity: verify chain: admin: %w", api.ErrConfig, identity.ErrForeign), exitRefused, "bad_config", "it is signed by an admin of another network"},
		{fmt.Errorf("%w: deeplink: read link: check bytes differ: %w", api.ErrLink, deeplink.ErrDamaged), exitUsage, "link_damaged", ""},
		{fmt.Errorf("%w: deeplink: %w", api.ErrLink, deeplink.ErrVersion), exitUsage, "link_version", ""},
		{fmt.Errorf("%w: node: add user: %w", api.ErrLoopback, node.ErrLoopback), exitSetup, "loopback", ""},
		{fmt.Errorf("node: keys: %w", deeplink.ErrWeakPassword), exitUsage, codeWeak, ""},
	} {
		offline, ok := errors.AsType[*failure](setupError(c.err))
		if !ok || offline.exit != c.want || offline.code != c.code {
			t.Errorf("%v: stopped: %+v", c.err, offline)
			continue
		}
		status, code, hint, _ := api.Classified(c.err)
		body, err := json.Marshal(map[string]any{"error": map[string]string{"code": code, "message": api.Sentence(c.err), "hint": hint}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		w.WriteHeader(status)
		w.Body.Write(body)
		online, ok := errors.AsType[*failure](apiError(w.Result()))
		if !ok || online.exit != c.want || online.code != c.code || online.message != offline.message {
			t.Errorf("%v: stopped %+v, running %+v", c.err, offline, online)
		}
		if c.text != "" && online.message != c.text {
			t.Errorf("%v: %q, want %q", c.err, online.message, c.text)
		}
	}
}

func TestGistOfWithheld(t *testing.T) {
	for typ, want := range map[string]string{"file": "file", "location": "position", "text": "message"} {
		m := message{Type: typ, Withheld: "convoy"}
		if got := m.gist(); got != "["+want+" withheld by the policy of group convoy]" {
			t.Errorf("%s: %s", typ, got)
		}
	}
}
