package api

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Core is the far server, if this node has one.
type Core interface {
	Core() CoreStatus
	// Sync tries the core now and returns when nothing moves any more, or
	// when ctx ends.
	Sync(ctx context.Context) (CoreStatus, error)
}

// CoreStatus is how the way to the core stands.
type CoreStatus struct {
	Configured bool
	Up         bool
	Node       string    // this node's name at the core
	Reached    time.Time // when it was up last, by the node's clock; zero = never
	Code       string    // why it is not up: pin, credentials, refused, opsec, unreachable
	Error      string    // the same in words
	ErrorSince time.Time // since when it is not up
	SkewS      int64     // the core's clock less this node's, in seconds; while it is up
	Mailboxes  int
	Waiting    int  // bundles that are to go up
	Arriving   int  // parcels from the core that are not on disk here yet
	InSync     bool // nothing waits on either side
	Full       bool // the core has no room

	Stored, Present, Resent, Pulled, Squatted, Malformed uint64
}

// ErrNoCore means that the settings name no core.
var ErrNoCore = errors.New("api: this node has no core")

// maxSync bounds a call to sync.
const maxSync = 10 * time.Minute

type coreJSON struct {
	Configured bool    `json:"configured"`
	Up         bool    `json:"up"`
	Node       string  `json:"node,omitempty"`
	Reached    *string `json:"last_reached"`
	Code       string  `json:"code,omitempty"`
	Error      string  `json:"error,omitempty"`
	ErrorSince *string `json:"down_since,omitempty"`
	SkewS      int64   `json:"clock_skew_s"`
	Mailboxes  int     `json:"mailboxes"`
	Waiting    int     `json:"waiting"`
	Arriving   int     `json:"arriving"`
	InSync     bool    `json:"in_sync"`
	Full       bool    `json:"full"`
	Stored     uint64  `json:"stored"`
	Present    uint64  `json:"present"`
	Resent     uint64  `json:"resent"`
	Pulled     uint64  `json:"pulled"`
	Squatted   uint64  `json:"squatted"`
	Malformed  uint64  `json:"malformed"`
}

func coreView(c CoreStatus) coreJSON {
	return coreJSON{
		Configured: c.Configured, Up: c.Up, Node: c.Node, Reached: stampOrNil(c.Reached), Code: c.Code, Error: c.Error, ErrorSince: stampOrNil(c.ErrorSince),
		SkewS: c.SkewS, Mailboxes: c.Mailboxes, Waiting: c.Waiting, Arriving: c.Arriving, InSync: c.InSync, Full: c.Full,
		Stored: c.Stored, Present: c.Present, Resent: c.Resent, Pulled: c.Pulled, Squatted: c.Squatted, Malformed: c.Malformed,
	}
}

// core is GET /v1/core.
func (s *Server) core(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, coreView(s.cfg.Core.Core()))
	return nil
}

// coreSync is POST /v1/core/sync.
func (s *Server) coreSync(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		WaitS int64 `json:"wait_s"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	wait := time.Duration(in.WaitS) * time.Second
	if in.WaitS < 1 || in.WaitS > int64(maxSync/time.Second) {
		return badRequest("wait_s must be 1 to %d", int64(maxSync/time.Second))
	}
	if !s.cfg.Core.Core().Configured {
		return ErrNoCore
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + s.timeouts.Progress))
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	st, err := s.cfg.Core.Sync(ctx)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, coreView(st))
	return nil
}
