package api

import (
	"context"
	"net/http"
	"time"

	"outrider/mesh/identity"
)

// Admin is what the operator of a node with an admin key may decide. Calls
// that need the key take its password, unless UnlockAdmin was called before.
type Admin interface {
	// Revoke takes back a user or a node for ever.
	Revoke(ctx context.Context, r NewRevocation) (Revoked, error)
	// Enrolments lists the join links that are open or wait for a decision.
	Enrolments(ctx context.Context) ([]Enrolment, error)
	// Accept confirms an enrolment; its link is of no use afterwards.
	Accept(ctx context.Context, a Acceptance) (Admitted, error)
	// Refuse revokes a link and everything that was made with it.
	Refuse(ctx context.Context, who string, adminPassword []byte) (Revoked, error)
	// Renew issues anew what ends soon, and confirms what waits without
	// conflict.
	Renew(ctx context.Context, adminPassword []byte) (Admitted, error)
	// UnlockAdmin keeps the admin key in memory until LockAdmin or the node's end: what
	// Renew does is then done by itself.
	UnlockAdmin(ctx context.Context, adminPassword []byte) error
	LockAdmin(ctx context.Context) error
}

// What can be revoked.
const (
	RevokeUser = "user"
	RevokeNode = "node"
)

// NewRevocation asks to revoke a user or a node.
type NewRevocation struct {
	Kind          string // RevokeUser or RevokeNode
	Who           string // name or id
	AdminPassword []byte
}

// Revoked tells what was revoked.
type Revoked struct {
	Kind       string
	ID         string
	Name       string
	Generation uint32 // of the network secret that follows
}

// An Enrolment is a join link and who used it.
type Enrolment struct {
	Subject string // the user's id, or the ticket's
	Name    string
	State   string    // EnrolmentUnused, EnrolmentWaiting or EnrolmentConflict
	Ends    time.Time // when what was made with it ends unless it is confirmed
	Users   []Enrolled
	Nodes   []Enrolled
}

// The states of an enrolment.
const (
	EnrolmentUnused   = "unused"
	EnrolmentWaiting  = "waiting"
	EnrolmentConflict = "conflict" // used more than once: the users may only receive
)

// An Enrolled is one user key or node that was made with a link.
type Enrolled struct {
	ID   string // of the node, or of the user's key
	Here bool   // on this node
}

// Acceptance confirms an enrolment. UserKey and Node choose in a conflict.
type Acceptance struct {
	Who           string // name or id of the user
	UserKey       string
	Node          string
	AdminPassword []byte
}

// Admitted counts certificates that were issued.
type Admitted struct{ Users, Nodes int }

func (s *Server) adminRoutes(m *http.ServeMux) {
	s.route(m, "POST /v1/network/revocations", s.operator(s.revoke))
	s.route(m, "GET /v1/network/enrolments", s.operator(s.enrolments))
	s.route(m, "POST /v1/network/enrolments/accept", s.operator(s.accept))
	s.route(m, "POST /v1/network/enrolments/refuse", s.operator(s.refuse))
	s.route(m, "POST /v1/network/renew", s.operator(s.renew))
	s.route(m, "POST /v1/network/admin/unlock", s.operator(s.unlockAdmin))
	s.route(m, "POST /v1/network/admin/lock", s.operator(s.lockAdmin))
}

// adminBody is what these calls take; each uses some of it.
type adminBody struct {
	Kind          string `json:"kind"`
	Who           string `json:"who"`
	UserKey       string `json:"user_key"`
	Node          string `json:"node"`
	AdminPassword string `json:"admin_password"`
}

// maxWho bounds a name or an id.
const maxWho = 256

// readAdmin reads a body. needWho says that it must name somebody.
func readAdmin(r *http.Request, needWho bool) (in adminBody, err error) {
	if err := decodeJSON(r, &in); err != nil {
		return in, err
	}
	switch {
	case len(in.AdminPassword) > maxPassword:
		return in, badRequest("a password must have at most %d bytes", maxPassword)
	case needWho && (in.Who == "" || len(in.Who) > maxWho), len(in.UserKey) > maxWho, len(in.Node) > maxWho:
		return in, badRequest("who must be a name or an id of 1 to %d bytes", maxWho)
	}
	return in, nil
}

func revokedView(r Revoked) map[string]any {
	return map[string]any{"kind": r.Kind, "id": r.ID, "name": r.Name, "generation": r.Generation}
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	in, err := readAdmin(r, true)
	if err != nil {
		return err
	}
	if in.Kind != RevokeUser && in.Kind != RevokeNode {
		return badRequest("kind must be user or node")
	}
	out, err := s.cfg.Provision.Revoke(r.Context(), NewRevocation{Kind: in.Kind, Who: in.Who, AdminPassword: []byte(in.AdminPassword)})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, revokedView(out))
	return nil
}

func (s *Server) enrolments(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Provision.Enrolments(r.Context())
	if err != nil {
		return err
	}
	out := []any{}
	for _, e := range list {
		out = append(out, map[string]any{
			"id": e.Subject, "name": e.Name, "state": e.State, "ends": stamp(e.Ends),
			"users": enrolledView(e.Users), "nodes": enrolledView(e.Nodes),
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"enrolments": out})
	return nil
}

func enrolledView(list []Enrolled) []any {
	out := []any{}
	for _, e := range list {
		out = append(out, map[string]any{"id": e.ID, "here": e.Here})
	}
	return out
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) error {
	in, err := readAdmin(r, true)
	if err != nil {
		return err
	}
	if in.Node != "" {
		if _, err := identity.ParseNodeID(in.Node); err != nil {
			return badRequest("node must be a node's id")
		}
	}
	out, err := s.cfg.Provision.Accept(r.Context(), Acceptance{Who: in.Who, UserKey: in.UserKey, Node: in.Node, AdminPassword: []byte(in.AdminPassword)})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, admittedView(out))
	return nil
}

func admittedView(a Admitted) map[string]any {
	return map[string]any{"users": a.Users, "nodes": a.Nodes}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request) error {
	in, err := readAdmin(r, true)
	if err != nil {
		return err
	}
	out, err := s.cfg.Provision.Refuse(r.Context(), in.Who, []byte(in.AdminPassword))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, revokedView(out))
	return nil
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) error {
	in, err := readAdmin(r, false)
	if err != nil {
		return err
	}
	out, err := s.cfg.Provision.Renew(r.Context(), []byte(in.AdminPassword))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, admittedView(out))
	return nil
}

func (s *Server) unlockAdmin(w http.ResponseWriter, r *http.Request) error {
	in, err := readAdmin(r, false)
	if err != nil {
		return err
	}
	if err := s.cfg.Provision.UnlockAdmin(r.Context(), []byte(in.AdminPassword)); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"unlocked": true})
	return nil
}

func (s *Server) lockAdmin(w http.ResponseWriter, r *http.Request) error {
	if _, err := readAdmin(r, false); err != nil {
		return err
	}
	if err := s.cfg.Provision.LockAdmin(r.Context()); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"unlocked": false})
	return nil
}
