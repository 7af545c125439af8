package api

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"outrider/mesh/identity"
)

// ATAK is what the operator may do with clients of the TAK bridge. While the
// bridge is off every call wraps ErrATAKOff.
type ATAK interface {
	// Enroll makes a connection package: a zip file with a certificate and
	// its key. It is nowhere else.
	Enroll(ctx context.Context, c NewTAKClient) (pkg []byte, made TAKClient, err error)
	Clients(ctx context.Context) ([]TAKClient, error)
	// Withdraw makes a certificate worthless.
	Withdraw(ctx context.Context, id string) error
}

// ErrATAKOff means that the settings leave the bridge off.
var ErrATAKOff = errors.New("api: the TAK bridge is off")

// NewTAKClient asks for a certificate.
type NewTAKClient struct {
	Name     string // of a user of this node, or the id
	Password []byte // of that user
	Host     string // where clients reach this node; empty: the node's best address
}

// A TAKClient is one certificate.
type TAKClient struct {
	ID    string // 32 hexadecimal digits
	User  identity.UserID
	Name  string
	Since time.Time
}

type takClientJSON struct {
	ID    string          `json:"id"`
	User  identity.UserID `json:"user_id"`
	Name  string          `json:"name"`
	Since string          `json:"since"`
}

func takClientView(c TAKClient) takClientJSON {
	return takClientJSON{c.ID, c.User, c.Name, stamp(c.Since)}
}

func atakError(err error) error {
	if errors.Is(err, ErrATAKOff) {
		return fail(http.StatusConflict, "atak_off", "the TAK bridge of this node is off",
			"set enabled = true below [atak] in outrider.toml and start the node again")
	}
	return err
}

// takEnroll is POST /v1/atak/clients. The answer is the package itself; the
// header names the certificate.
func (s *Server) takEnroll(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name     string `json:"name"`
		Password string `json:"password"`
		Host     string `json:"host"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	if in.Name == "" || len(in.Name) > maxName || len(in.Password) > maxPassword || len(in.Host) > 253 {
		return badRequest("name, password and host must have at most %d, %d and 253 bytes; a name is needed", maxName, maxPassword)
	}
	pkg, made, err := s.cfg.ATAK.Enroll(r.Context(), NewTAKClient{Name: in.Name, Password: []byte(in.Password), Host: in.Host})
	if err != nil {
		return atakError(err)
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("X-Outrider-Client", made.ID)
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(pkg) // who has gone asks again, and withdraws this one
	return nil
}

// takClients is GET /v1/atak/clients.
func (s *Server) takClients(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.ATAK.Clients(r.Context())
	if err != nil {
		return atakError(err)
	}
	out := make([]takClientJSON, len(list))
	for i, c := range list {
		out[i] = takClientView(c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"clients": out})
	return nil
}

// takWithdraw is DELETE /v1/atak/clients/{id}.
func (s *Server) takWithdraw(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 || hex.EncodeToString(b) != id {
		return badRequest("the path must name a client by its id, 32 hexadecimal digits")
	}
	if err := s.cfg.ATAK.Withdraw(r.Context(), id); err != nil {
		return atakError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
