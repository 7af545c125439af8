package api

import (
	"context"
	"net/http"
	"time"
)

// A Door is what the operator may ask about the web page, and do to let phones
// and laptops in.
type Door interface {
	Page(ctx context.Context) (PageInfo, error)
	// OpenCA hands out the page's CA in plain HTTP for d; 0 ends it. The error
	// wraps ErrConflict when it cannot be done as things stand.
	OpenCA(ctx context.Context, d time.Duration) error
}

// PageInfo says where the page is, and who vouches for it.
type PageInfo struct {
	URLs        []string // of the page, best first
	Name        string   // on the LAN; empty when nobody answers to it
	CAName      string   // as devices list it
	Fingerprint string   // SHA-256 of the CA's certificate
	CAURLs      []string // of the hand-out; empty when it is shut
	CAUntil     time.Time
}

// MaxCAFor is the longest the CA is handed out at one asking.
const MaxCAFor = 24 * time.Hour

// pageInfo is GET /v1/page.
func (s *Server) pageInfo(w http.ResponseWriter, r *http.Request) error {
	p, err := s.cfg.Door.Page(r.Context())
	if err != nil {
		return err
	}
	out := map[string]any{
		"urls": orEmpty(p.URLs), "name": p.Name, "ca": map[string]any{"name": p.CAName, "sha256": p.Fingerprint, "urls": orEmpty(p.CAURLs)},
	}
	if len(p.CAURLs) > 0 {
		out["ca"].(map[string]any)["until"] = stamp(p.CAUntil)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func orEmpty(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

// openCA is POST /v1/page/ca.
func (s *Server) openCA(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		ForS *int64 `json:"for_s"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	if in.ForS == nil || *in.ForS < 0 || *in.ForS > int64(MaxCAFor/time.Second) {
		return badRequest("for_s must be 0 to %d", int64(MaxCAFor/time.Second))
	}
	if err := s.cfg.Door.OpenCA(r.Context(), time.Duration(*in.ForS)*time.Second); err != nil {
		return err
	}
	return s.pageInfo(w, r)
}
