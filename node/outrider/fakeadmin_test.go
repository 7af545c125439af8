package main

import (
	"context"
	"fmt"

	"outrider/node/api"
	"outrider/node/chat"
)

const fakeAdminPassword = "admin secret"

func checkAdmin(password []byte) error {
	if string(password) != fakeAdminPassword {
		return fmt.Errorf("%w: wrong admin password", chat.ErrPassword)
	}
	return nil
}

func (n *fakeNode) Revoke(_ context.Context, r api.NewRevocation) (api.Revoked, error) {
	if r.Who != "bravo" {
		return api.Revoked{}, fmt.Errorf("node: revoke: nobody of that name: %w", chat.ErrNotFound)
	}
	return api.Revoked{Kind: r.Kind, ID: bravo.String(), Name: "bravo", Generation: 2}, checkAdmin(r.AdminPassword)
}

func (n *fakeNode) Enrolments(context.Context) ([]api.Enrolment, error) {
	return []api.Enrolment{{
		Subject: bravo.String(), Name: "bravo", State: api.EnrolmentConflict, Ends: aTime,
		Users: []api.Enrolled{{ID: "0011223344556677", Here: true}, {ID: "8899aabbccddeeff"}}, Nodes: []api.Enrolled{{ID: nodeB.String()}},
	}}, nil
}

func (n *fakeNode) Accept(_ context.Context, a api.Acceptance) (api.Admitted, error) {
	if a.UserKey == "" {
		return api.Admitted{}, fmt.Errorf("node: admit: the link was used more than once: %w", chat.ErrState)
	}
	return api.Admitted{Users: 1, Nodes: 1}, checkAdmin(a.AdminPassword)
}

func (n *fakeNode) Refuse(_ context.Context, who string, password []byte) (api.Revoked, error) {
	return api.Revoked{Kind: api.RevokeUser, ID: bravo.String(), Name: who, Generation: 3}, checkAdmin(password)
}

func (n *fakeNode) Renew(_ context.Context, password []byte) (api.Admitted, error) {
	return api.Admitted{Nodes: 2}, checkAdmin(password)
}

func (n *fakeNode) UnlockAdmin(_ context.Context, password []byte) error { return checkAdmin(password) }
func (n *fakeNode) LockAdmin(context.Context) error                      { return nil }
