package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"outrider/mesh/identity"
)

// Configs is what may be done with signed configs: the policies that admins
// make for the users of a network.
type Configs interface {
	// Policy tells what is in force. A user gets their own ruling and the
	// groups it comes from; the zero user, the operator, gets all groups.
	Policy(ctx context.Context, user identity.UserID) (Policy, error)
	// Issued lists what was handed out and pushed from this node.
	Issued(ctx context.Context) ([]IssuedConfig, error)
	IssueConfig(ctx context.Context, c NewConfig) (IssuedConfig, error)
	// ReadConfig says what a link would do, and changes nothing.
	ReadConfig(ctx context.Context, c GivenConfig) (OpenedConfig, error)
	ApplyConfig(ctx context.Context, c GivenConfig) (OpenedConfig, error)
}

// Limits of these calls.
const (
	maxGroupMembers = 2048
	maxConfigLink   = 128 << 10 // bytes of text; a frame of 64 KiB in base32 has 105 KB
)

// ErrConfig means that a config is not applied: ended, not yet valid, older
// than what is known, of another network, or by somebody who may not. The text
// says which.
var ErrConfig = errors.New("api: config refused")

// A Policy is what holds now.
type Policy struct {
	Files, Location Switch   // of the asking user
	Groups          []string // the user is in
	Configs         []ConfigState
	Readers         []Reader // who archives; everybody sees that
}

// A Switch is one thing that may be forbidden.
type Switch struct {
	Allowed bool
	Group   string // that forbids it
}

// A Reader archives what the network says.
type Reader struct {
	User identity.UserID
	Name string
}

// ConfigState is a group's policy as it is in force.
type ConfigState struct {
	Group           string
	Sequence        uint64
	Source          string // link, file, mesh
	Issued, Expires time.Time
	PastDays        int // whole days since Expires
	Files, Location bool
	Members         []Reader // empty for the group "default"
	Seen            uint64   // the highest sequence that was seen; above Sequence another source holds it back
	Conflict        bool     // one number, two contents
	Unverified      bool     // let in by a clock that is not confirmed
	Later           bool     // made by a later version: not all of it is enforced here
	Compliance      identity.UserID
	ComplianceName  string // empty: it has not arrived at this node
}

// NewConfig asks for the next version of a group's policy. What is nil is as
// in the version before.
type NewConfig struct {
	Group           string
	Members         []string // names or ids; nil: as before
	Files, Location *bool
	Compliance      *string       // name or id of the reader, "" for none
	TTL             time.Duration // for which it may be applied; 0: 7 days, a day with a reader; pushed: no end
	MaxAge          time.Duration // 0: none
	Push            bool          // into the mesh; else a link is made
	Withdraw        bool          // takes the group's policy back; implies Push
	Open            bool          // a link without a password, for nodes of this network only
	Password        []byte        // of the link; empty: six words are made
	Again           bool          // the newest link once more; needs no admin password
	AdminPassword   []byte
}

// IssuedConfig is one version that was issued here.
type IssuedConfig struct {
	ConfigState
	Pushed, Withdrawn bool
	Link, PageLink    string // empty if pushed
	Password          string // only from IssueConfig; empty if the asker chose it or there is none
	NeedsPassword     bool
	Live              bool // can still be applied
}

// GivenConfig is a link somebody wants to know about or to apply.
type GivenConfig struct {
	Link     string // or a bare frame as text
	Password []byte // empty if it needs none
	File     bool   // it came as a file
}

// OpenedConfig is what a link says and does.
type OpenedConfig struct {
	ConfigState
	Network     identity.NetworkID
	NetworkName string
	Issuer      string   // key id of the admin
	InForce     bool     // after applying; false: something that outranks it stays in force
	Changed     bool     // anything at all
	Changes     []string // in plain words
}

type switchJSON struct {
	Allowed bool   `json:"allowed"`
	Group   string `json:"group,omitempty"`
}

type configUserJSON struct {
	User identity.UserID `json:"user_id"`
	Name string          `json:"name"`
}

type configJSON struct {
	Group      string           `json:"group"`
	Sequence   uint64           `json:"sequence"`
	Source     string           `json:"source,omitempty"`
	Issued     string           `json:"issued"`
	Expires    string           `json:"expires,omitempty"`
	PastDays   int              `json:"past_days,omitempty"`
	Files      bool             `json:"files"`
	Location   bool             `json:"location"`
	Members    []configUserJSON `json:"members,omitempty"`
	Seen       uint64           `json:"seen"`
	Conflict   bool             `json:"conflict,omitempty"`
	Unverified bool             `json:"unverified,omitempty"`
	Later      bool             `json:"later,omitempty"`
	Compliance string           `json:"compliance,omitempty"`
	Reader     string           `json:"compliance_name,omitempty"`
}

func configView(c ConfigState) configJSON {
	out := configJSON{
		Group: c.Group, Sequence: c.Sequence, Source: c.Source, Issued: stamp(c.Issued), PastDays: c.PastDays, Files: c.Files, Location: c.Location,
		Seen: c.Seen, Conflict: c.Conflict, Unverified: c.Unverified, Later: c.Later, Members: configUserViews(c.Members),
	}
	if !c.Expires.IsZero() {
		out.Expires = stamp(c.Expires)
	}
	if !c.Compliance.IsZero() {
		out.Compliance, out.Reader = c.Compliance.String(), c.ComplianceName
	}
	return out
}

func configUserViews(list []Reader) []configUserJSON {
	out := make([]configUserJSON, len(list))
	for i, m := range list {
		out[i] = configUserJSON(m)
	}
	return out
}

type issuedJSON struct {
	configJSON
	Pushed        bool   `json:"pushed,omitempty"`
	Withdrawn     bool   `json:"withdrawn,omitempty"`
	Link          string `json:"link,omitempty"`
	PageLink      string `json:"page_link,omitempty"`
	Password      string `json:"password,omitempty"`
	NeedsPassword bool   `json:"needs_password"`
	Live          bool   `json:"live"`
}

func issuedView(c IssuedConfig) issuedJSON {
	return issuedJSON{configView(c.ConfigState), c.Pushed, c.Withdrawn, c.Link, c.PageLink, c.Password, c.NeedsPassword, c.Live}
}

type openedJSON struct {
	configJSON
	Network     identity.NetworkID `json:"network"`
	NetworkName string             `json:"network_name"`
	Issuer      string             `json:"issuer"`
	InForce     bool               `json:"in_force"`
	Changed     bool               `json:"changed"`
	Changes     []string           `json:"changes"`
}

func openedView(c OpenedConfig) openedJSON {
	return openedJSON{configView(c.ConfigState), c.Network, c.NetworkName, c.Issuer, c.InForce, c.Changed, append([]string{}, c.Changes...)}
}

func (s *Server) configRoutes(m *http.ServeMux) {
	if s.cfg.Configs == nil {
		return
	}
	s.route(m, "GET /v1/policy", s.policy)
	s.route(m, "GET /v1/configs", s.operator(s.issuedConfigs))
	s.route(m, "POST /v1/configs", s.operator(s.issueConfig))
	s.route(m, "POST /v1/configs/read", s.operator(s.givenConfig(Configs.ReadConfig)))
	s.route(m, "POST /v1/configs/apply", s.operator(s.givenConfig(Configs.ApplyConfig)))
}

// policy is GET /v1/policy: for a user their own, for the operator all.
func (s *Server) policy(w http.ResponseWriter, r *http.Request) error {
	var user identity.UserID
	if ses := s.sessionOf(r); ses != nil {
		user = ses.user.Self().ID
	} else if originOf(r) != fromSocket {
		return errNoSession
	}
	p, err := s.cfg.Configs.Policy(r.Context(), user)
	if err != nil {
		return err
	}
	list := make([]configJSON, len(p.Configs))
	for i, c := range p.Configs {
		list[i] = configView(c)
	}
	out := map[string]any{"configs": list, "readers": configUserViews(p.Readers)}
	if !user.IsZero() {
		out["groups"] = append([]string{}, p.Groups...)
		out["switches"] = map[string]switchJSON{"files": switchJSON(p.Files), "location": switchJSON(p.Location)}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// issuedConfigs is GET /v1/configs.
func (s *Server) issuedConfigs(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Configs.Issued(r.Context())
	if err != nil {
		return err
	}
	out := make([]issuedJSON, len(list))
	for i, c := range list {
		out[i] = issuedView(c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"issued": out})
	return nil
}

// issueConfig is POST /v1/configs.
func (s *Server) issueConfig(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Group         string   `json:"group"`
		Members       []string `json:"members"`
		Files         *bool    `json:"files"`
		Location      *bool    `json:"location"`
		Compliance    *string  `json:"compliance"`
		TTLMinutes    int      `json:"ttl_min"`
		MaxAgeMinutes int      `json:"max_age_min"`
		Push          bool     `json:"push"`
		Withdraw      bool     `json:"withdraw"`
		Open          bool     `json:"open"`
		Password      string   `json:"password"`
		Again         bool     `json:"again"`
		AdminPassword string   `json:"admin_password"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	const year = 366 * 24 * 60
	switch {
	case in.Group == "" || len(in.Group) > maxName:
		return badRequest("group, the name of a security group, is needed")
	case len(in.Members) > maxGroupMembers:
		return badRequest("a group has at most %d members", maxGroupMembers)
	case in.TTLMinutes < 0 || in.TTLMinutes > year || in.MaxAgeMinutes < 0 || in.MaxAgeMinutes > 10*year:
		return badRequest("ttl_min or max_age_min is out of bounds")
	case len(in.Password) > maxPassword || len(in.AdminPassword) > maxPassword:
		return badRequest("a password has at most %d bytes", maxPassword)
	case in.Password != "" && in.Open:
		return badRequest("open makes a link without a password: give one of the two")
	}
	if in.Password != "" {
		if err := goodPassword(in.Password); err != nil {
			return err
		}
	}
	out, err := s.cfg.Configs.IssueConfig(r.Context(), NewConfig{
		Group: in.Group, Members: in.Members, Files: in.Files, Location: in.Location, Compliance: in.Compliance,
		TTL: time.Duration(in.TTLMinutes) * time.Minute, MaxAge: time.Duration(in.MaxAgeMinutes) * time.Minute,
		Push: in.Push, Withdraw: in.Withdraw, Open: in.Open, Password: []byte(in.Password), Again: in.Again, AdminPassword: []byte(in.AdminPassword),
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, issuedView(out))
	return nil
}

// givenConfig is POST /v1/configs/read and /apply.
func (s *Server) givenConfig(do func(Configs, context.Context, GivenConfig) (OpenedConfig, error)) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Link     string `json:"link"`
			Password string `json:"password"`
			File     bool   `json:"file"`
		}
		if err := decodeJSON(r, &in); err != nil {
			return err
		}
		if in.Link == "" || len(in.Link) > maxConfigLink || len(in.Password) > maxPassword {
			return badRequest("link, of at most %d bytes, is needed", maxConfigLink)
		}
		out, err := do(s.cfg.Configs, r.Context(), GivenConfig{Link: in.Link, Password: []byte(in.Password), File: in.File})
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, openedView(out))
		return nil
	}
}

// ConfigsHandler serves the calls of this file alone, to whoever has the
// node's folder while no node runs on it.
func ConfigsHandler(c Configs) http.Handler {
	s := New(Config{Configs: c, Hub: NewHub()})
	m := http.NewServeMux()
	s.configRoutes(m)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.ServeHTTP(w, r.WithContext(withOrigin(r.Context(), fromSocket)))
	})
}
