package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"outrider/node/chat"
)

func (n *fakeNode) Revoke(_ context.Context, r NewRevocation) (Revoked, error) {
	if string(r.AdminPassword) != "p" {
		return Revoked{}, chat.ErrPassword
	}
	if r.Who == "nobody" {
		return Revoked{}, fmt.Errorf("node: revoke: %w", chat.ErrNotFound)
	}
	return Revoked{Kind: r.Kind, ID: "aa", Name: r.Who, Generation: 2}, nil
}

func (n *fakeNode) Enrolments(context.Context) ([]Enrolment, error) {
	return []Enrolment{{Subject: "aa", Name: "bravo", State: EnrolmentConflict, Users: []Enrolled{{ID: "k1", Here: true}, {ID: "k2"}}}}, nil
}

func (n *fakeNode) Accept(_ context.Context, a Acceptance) (Admitted, error) {
	if a.UserKey == "" && a.Who == "conflict" {
		return Admitted{}, fmt.Errorf("node: accept: used twice: %w", chat.ErrState)
	}
	return Admitted{Users: 1, Nodes: 1}, nil
}

func (n *fakeNode) Refuse(_ context.Context, who string, _ []byte) (Revoked, error) {
	return Revoked{Kind: RevokeUser, ID: "aa", Name: who, Generation: 2}, nil
}

func (n *fakeNode) Renew(context.Context, []byte) (Admitted, error) { return Admitted{Nodes: 2}, nil }
func (n *fakeNode) UnlockAdmin(context.Context, []byte) error       { return nil }
func (n *fakeNode) LockAdmin(context.Context) error                 { return nil }

func TestAdminCalls(t *testing.T) {
	b := newBench(t)
	w := b.socket("POST", "/v1/network/revocations", `{"kind":"node","who":"bravo","admin_password":"p"}`).want(201, "")
	if field(t, w, "kind") != "node" || field(t, w, "name") != "bravo" || !strings.Contains(w.Body.String(), `"generation":2`) {
		t.Errorf("revoked: %s", w.Body)
	}
	if w := b.socket("GET", "/v1/network/enrolments", ``).want(200, ""); !strings.Contains(w.Body.String(), `"state":"conflict"`) || !strings.Contains(w.Body.String(), `{"here":true,"id":"k1"}`) {
		t.Errorf("enrolments: %s", w.Body)
	}
	for name, c := range map[string]struct {
		path, body string
		status     int
		code       string
	}{
		"kind":           {"revocations", `{"kind":"room","who":"x","admin_password":"p"}`, 400, "bad_request"},
		"nobody named":   {"revocations", `{"kind":"user","who":"","admin_password":"p"}`, 400, "bad_request"},
		"a long name":    {"revocations", `{"kind":"user","who":"` + strings.Repeat("x", maxWho+1) + `","admin_password":"p"}`, 400, "bad_request"},
		"wrong password": {"revocations", `{"kind":"user","who":"x","admin_password":"q"}`, 401, "bad_password"},
		"unknown":        {"revocations", `{"kind":"user","who":"nobody","admin_password":"p"}`, 404, "not_found"},
		"long password":  {"renew", `{"admin_password":"` + strings.Repeat("x", maxPassword+1) + `"}`, 400, "bad_request"},
		"no node id":     {"enrolments/accept", `{"who":"x","node":"y"}`, 400, "bad_request"},
		"conflict":       {"enrolments/accept", `{"who":"conflict"}`, 409, "wrong_state"},
		"not JSON":       {"admin/lock", `x`, 400, "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			newBench(t).socket("POST", "/v1/network/"+c.path, c.body).want(c.status, c.code)
		})
	}
}
