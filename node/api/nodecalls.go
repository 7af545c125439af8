package api

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// apiVersion is the version of this interface; see API.md, Versions.
const apiVersion = "1"

// status is GET /v1/status, for the operator, for logged-in users, and for
// the login screen on the machine itself.
func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	if originOf(r) == fromPage && !loopback(r) && s.sessionOf(r) == nil {
		return errNoSession
	}
	st := s.cfg.Node.Status(r.Context())
	out := map[string]any{
		"node": st.Node, "name": st.Name, "version": st.Version, "api": apiVersion, "uptime_s": int64(st.Uptime / time.Second),
		"store":    map[string]any{"bundles": st.Bundles, "bytes": st.Bytes, "limit_bytes": st.LimitBytes, "syncs": st.Syncs},
		"contacts": st.Contacts, "banner": bannerView(s.cfg.Chat.Banner()), "links": linkViews(s.cfg.Node.Links(r.Context())),
		"network": nil, "refused": refusedCounts(st.Refused),
	}
	if !st.Network.IsZero() {
		out["network"] = map[string]any{"id": st.Network, "name": st.NetworkName}
	}
	if originOf(r) == fromSocket {
		out["users"] = s.hostedViews()
	}
	if originOf(r) == fromSocket || s.sessionOf(r) != nil { // whoever is in the room may be the one who can mend it
		out["warnings"] = warningViews(st.Warnings)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// hostedViews lists the users of this node for the operator.
func (s *Server) hostedViews() []map[string]any {
	hosted := s.cfg.Chat.Hosted()
	out := make([]map[string]any, len(hosted))
	for i, h := range hosted {
		out[i] = map[string]any{"id": h.User, "name": h.Name, "unlocked": h.Unlocked, "waiting": h.Waiting}
	}
	return out
}

func (s *Server) peers(w http.ResponseWriter, r *http.Request) error {
	ps := s.cfg.Node.Peers(r.Context())
	out := make([]peerJSON, len(ps))
	for i, p := range ps {
		out[i] = peerView(p)
	}
	writeJSON(w, http.StatusOK, map[string]any{"peers": out, "refused": offenders(s.cfg.Node.Status(r.Context()).Refused)})
	return nil
}

func (s *Server) links(w http.ResponseWriter, r *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]any{"links": linkViews(s.cfg.Node.Links(r.Context()))})
	return nil
}

// contacts is GET /v1/contacts.
func (s *Server) contacts(w http.ResponseWriter, r *http.Request) error {
	cs, err := s.cfg.Node.Contacts(r.Context())
	if err != nil {
		return err
	}
	out := make([]contactJSON, len(cs))
	for i, c := range cs {
		out[i] = contactView(c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"contacts": out, "hours": int(ContactsKept / time.Hour)})
	return nil
}

// refusedCounts says how many were turned away at each listener.
func refusedCounts(rs []crowd.Report) map[string]uint64 {
	out := make(map[string]uint64, len(rs))
	for _, r := range rs {
		out[r.Listener] = r.Refused
	}
	return out
}

// An offenderJSON names an address that was turned away.
type offenderJSON struct {
	Listener string `json:"listener"`
	Addr     string `json:"addr"`
	Refused  uint64 `json:"refused"`
	Last     any    `json:"last"`
}

func offenders(rs []crowd.Report) []offenderJSON {
	out := []offenderJSON{}
	for _, r := range rs {
		for _, o := range r.Offenders {
			out = append(out, offenderJSON{r.Listener, o.Who, o.Refused, stampOrNil(o.Last)})
		}
	}
	return out
}

// setLink makes POST /v1/links/{node}/up and /down.
func (s *Server) setLink(up bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := identity.ParseNodeID(r.PathValue("node"))
		if err != nil {
			return badRequest("the path must name a node by its id")
		}
		if err := emptyBody(r); err != nil {
			return err
		}
		if err := s.cfg.Node.SetLink(r.Context(), id, up); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, map[string]any{"node": id, "blocked": !up})
		return nil
	}
}

// submitRaw is POST /v1/bundles.
func (s *Server) submitRaw(w http.ResponseWriter, r *http.Request) error {
	q, err := queryOf(r, "tag", "precedence", "lifetime_min")
	if err != nil {
		return err
	}
	b := RawBundle{Lifetime: 24 * time.Hour}
	if b.Tag, err = identity.ParseTag(q["tag"]); err != nil {
		return badRequest("tag must be the text form of a tag, 13 base32 characters")
	}
	if p := q["precedence"]; p != "" {
		if b.Precedence, err = bundle.ParsePrecedence(p); err != nil {
			return badRequest("precedence must be routine, priority, immediate or flash")
		}
	}
	if l := q["lifetime_min"]; l != "" {
		n, err := strconv.ParseInt(l, 10, 64)
		if err != nil || n < 1 || n > int64(bundle.MaxLifetime/time.Minute) {
			return badRequest("lifetime_min must be 1 to %d", int64(bundle.MaxLifetime/time.Minute))
		}
		b.Lifetime = time.Duration(n) * time.Minute
	}
	if b.Payload, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, bundle.MaxPayload)); err != nil {
		return bodyError(err)
	}
	if len(b.Payload) == 0 {
		return badRequest("the body is the payload and must not be empty")
	}
	leave, err := submit(r)
	if err != nil {
		return err
	}
	defer leave()
	id, err := s.cfg.Bundles.SubmitRaw(r.Context(), b)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, map[string]any{"id": id})
	return nil
}

// arrivedRaw is GET /v1/bundles/arrived.
func (s *Server) arrivedRaw(w http.ResponseWriter, r *http.Request) error {
	q, err := queryOf(r, "tag")
	if err != nil {
		return err
	}
	tag, err := identity.ParseTag(q["tag"])
	if err != nil {
		return badRequest("tag must be the text form of a tag, 13 base32 characters")
	}
	if !s.streams.enter(nil) {
		return fail(http.StatusTooManyRequests, "too_many_streams", "too many event streams are open", "close one")
	}
	defer s.streams.leave(nil)
	st, err := s.newStream(w)
	if err != nil {
		return nil
	}
	err = s.cfg.Bundles.Arrived(r.Context(), tag, func(a RawArrived) error {
		b, err := json.Marshal(map[string]any{"id": a.ID, "sha256": hex.EncodeToString(a.SHA256[:]), "size": a.Size})
		if err != nil {
			return err
		}
		return st.send(a.ID.String(), "bundle", b)
	})
	if err != nil {
		s.log.Debug("api: arrived stream ended", "err", err)
	}
	return nil
}

// network is GET /v1/network.
func (s *Server) network(w http.ResponseWriter, r *http.Request) error {
	n, err := s.cfg.Provision.Network(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"id": n.ID, "name": n.Name, "preset": n.Preset, "fingerprint": n.Fingerprint, "admin": n.Admin})
	return nil
}

const (
	// MinLinkTTL and MaxLinkTTL bound how long a join link is good for.
	MinLinkTTL = time.Minute
	MaxLinkTTL = 30 * 24 * time.Hour
	maxRoles   = 8
	maxAddrs   = 3
)

// addUser is POST /v1/network/users.
func (s *Server) addUser(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name     string   `json:"name"`
		TTLS     *int64   `json:"ttl_s"`
		Roles    []string `json:"roles"`
		Here     bool     `json:"here"`
		Again    bool     `json:"again"`
		Password string   `json:"password"`

		AdminPassword string   `json:"admin_password"`
		Addrs         []string `json:"addrs"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	u := NewUser{
		Name: in.Name, Roles: in.Roles, Here: in.Here, Again: in.Again, Password: []byte(in.Password),
		AdminPassword: []byte(in.AdminPassword), Addrs: in.Addrs,
	}
	if in.TTLS != nil {
		if *in.TTLS < int64(MinLinkTTL/time.Second) || *in.TTLS > int64(MaxLinkTTL/time.Second) {
			return badRequest("ttl_s must be %d to %d: a link can be valid from 1 minute to 30 days", int64(MinLinkTTL/time.Second), int64(MaxLinkTTL/time.Second))
		}
		u.TTL = time.Duration(*in.TTLS) * time.Second
	}
	switch {
	case in.Name == "" || len(in.Name) > maxName:
		return badRequest("name must have 1 to %d bytes", maxName)
	case len(in.Roles) > maxRoles:
		return badRequest("at most %d roles", maxRoles)
	case len(in.Password) > maxPassword || len(in.AdminPassword) > maxPassword:
		return badRequest("a password must have at most %d bytes", maxPassword)
	case in.AdminPassword == "":
		return badRequest("admin_password is needed")
	case len(in.Addrs) > maxAddrs:
		return badRequest("at most %d addresses fit into a link", maxAddrs)
	case in.Here && in.Password == "":
		return badRequest("a user whose keys are made here needs a password")
	case in.Here:
		if err := goodPassword(in.Password); err != nil {
			return err
		}
	}
	a, err := s.cfg.Provision.AddUser(r.Context(), u)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, addedView(a))
	return nil
}

func addedView(a AddedUser) map[string]any {
	out := map[string]any{"name": a.Name}
	if !a.User.IsZero() {
		out["user_id"] = a.User
	}
	if a.Link != "" {
		addrs := a.Addrs
		if addrs == nil {
			addrs = []string{}
		}
		out["link"], out["page_link"], out["password"], out["expires"], out["addrs"] = a.Link, a.PageLink, a.Password, stamp(a.Expires), addrs
	}
	return out
}

// join is POST /v1/network/join.
func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Link         string `json:"link"`
		Password     string `json:"password"`
		UserPassword string `json:"user_password"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	switch {
	case in.Link == "" || len(in.Link) > 16<<10 || in.Password == "" || len(in.Password) > maxPassword:
		return badRequest("link and its password are needed")
	case in.UserPassword == "" || len(in.UserPassword) > maxPassword:
		return badRequest("user_password, the user's new password on this node, is needed")
	}
	if err := goodPassword(in.UserPassword); err != nil {
		return err
	}
	j, err := s.cfg.Provision.Join(r.Context(), NewJoin{
		Link: in.Link, Password: []byte(in.Password), UserPassword: []byte(in.UserPassword),
	})
	if err != nil {
		return err
	}
	out := map[string]any{
		"network": map[string]any{"id": j.Network, "name": j.NetworkName}, "user_id": j.User, "name": j.Name, "reached": j.Reached,
	}
	if j.Hint != "" {
		out["hint"] = j.Hint
	}
	writeJSON(w, http.StatusCreated, out)
	return nil
}
