package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/policy"
	"outrider/offline/roster"
)

// maxTies is how many versions that claim one number are kept: two are enough
// for the alarm, and the stricter value of more is hardly stricter.
const maxTies = 4

// policyFile is what a node keeps of the policies it knows, in the file
// "policy": whatever the date, and also if its store is lost.
type policyFile struct {
	Versions []keptVersion     `cbor:"1,keyasint"`
	Seen     map[string]uint64 `cbor:"2,keyasint"` // group: highest sequence ever seen; never falls
}

type keptVersion struct {
	Raw    []byte        `cbor:"1,keyasint"` // identity.SignedConfig
	Admin  []byte        `cbor:"2,keyasint"` // its issuer's certificate
	Source policy.Source `cbor:"3,keyasint"`
	// Mark is set while the clock that let it in has not been confirmed.
	Mark *unverified `cbor:"4,keyasint,omitempty"`
}

// policies is what this node knows of the network's policies, and what follows
// from it. It is safe for concurrent use.
type policies struct {
	home *Home
	log  *slog.Logger

	mu      sync.Mutex
	roster  *roster.Roster // nil while the node is enrolling
	file    policyFile
	state   policy.State
	changed chan struct{}
}

// loadPolicies reads the file. r may be nil; with it, what was pushed and who
// is revoked count.
func loadPolicies(h *Home, r *roster.Roster, log *slog.Logger) (*policies, error) {
	p := &policies{home: h, log: log, roster: r, changed: make(chan struct{})}
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("node: read policy: %w; restore %s from a backup, or remove it and apply the configs again", err, h.path("policy"))
	}
	return p, p.refresh()
}

// load reads the file; without one nothing is known.
func (p *policies) load() error {
	raw, err := os.ReadFile(p.home.path("policy"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := identity.Unmarshal(raw, &p.file); err != nil {
			return err
		}
	}
	if p.file.Seen == nil {
		p.file.Seen = map[string]uint64{}
	}
	return nil
}

// Policy returns what holds for a user now.
func (p *policies) Policy(user identity.UserID) policy.Ruling {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Policy(user)
}

// ComplianceReaders returns the users who archive what the network says.
func (p *policies) ComplianceReaders() []identity.UserID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.ComplianceReaders()
}

// Changed returns a channel that is closed when what is in force changes. Ask
// for it before reading.
func (p *policies) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// State returns all that is in force.
func (p *policies) State() policy.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// run takes in what the mesh brings, until ctx ends.
func (p *policies) run(ctx context.Context) error {
	for {
		news := p.roster.Changed()
		if err := p.refresh(); err != nil {
			p.log.Error("a pushed config is not kept over a restart", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		}
	}
}

// refresh takes in what was pushed and works out what is in force. What could
// not be written counts all the same while this process runs.
func (p *policies) refresh() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.file.clone()
	if p.roster != nil {
		for _, o := range p.roster.Configs() {
			next.add(keptVersion{Raw: o.Config.Raw(), Admin: o.Chain.Leaf().Raw(), Source: policy.FromMesh})
		}
	}
	return p.keep(next)
}

// keep writes a file and uses it, written or not. The lock is held.
func (p *policies) keep(next policyFile) error {
	err := p.write(next)
	p.use(next)
	return err
}

// use makes a file the one that counts. The lock is held.
func (p *policies) use(next policyFile) {
	before := p.state
	p.file = next
	p.judge()
	if !sameState(before, p.state) {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *policies) write(next policyFile) error {
	raw, err := identity.Marshal(next)
	if err != nil {
		return fmt.Errorf("node: keep policy: %w", err)
	}
	if old, err := identity.Marshal(p.file); err == nil && string(old) == string(raw) {
		return nil
	}
	return replaceFile(p.home.path("policy"), raw)
}

// judge works out what is in force. The lock is held.
func (p *policies) judge() {
	var list []policy.Version
	for _, k := range p.file.Versions {
		v, err := k.version()
		if err != nil {
			p.log.Warn("a kept config cannot be read", "err", err)
			continue
		}
		if p.revoked(v.Signed.Issuer) {
			continue
		}
		list = append(list, v)
	}
	p.state = policy.Judge(list)
	for i, g := range p.state.Groups {
		p.state.Groups[i].Seen = max(g.Seen, p.file.Seen[g.Group])
		if len(g.Against) > 0 {
			p.log.Warn("one number of a config stands for two things: the stricter value of each field is in force", "err", "equivocation")
		}
	}
}

func (p *policies) revoked(issuer identity.KeyID) bool {
	if p.roster == nil {
		return false
	}
	_, gone := p.roster.AdminChain(issuer)
	return gone
}

func (k keptVersion) version() (policy.Version, error) {
	s, err := identity.ParseConfig(k.Raw)
	if err != nil {
		return policy.Version{}, err
	}
	c, err := policy.Read(s)
	return policy.Version{Config: c, Signed: s, Source: k.Source, Unverified: k.Mark != nil}, err
}

func (f policyFile) clone() policyFile {
	return policyFile{Versions: slices.Clone(f.Versions), Seen: maps.Clone(f.Seen)}
}

// add enters a version, unless it is there, and drops what it outdates: of one
// group, source and issuer the highest sequence stays, with those that claim
// the same.
func (f *policyFile) add(k keptVersion) {
	s, err := identity.ParseConfig(k.Raw)
	if err != nil {
		return
	}
	ties := 0
	for _, o := range f.Versions {
		if o.Source != k.Source {
			continue
		}
		if string(o.Raw) == string(k.Raw) {
			return
		}
		if t, err := identity.ParseConfig(o.Raw); err == nil && t.Scope == s.Scope && t.Issuer == s.Issuer {
			if t.Sequence > s.Sequence {
				return
			}
			if t.Sequence == s.Sequence {
				ties++
			}
		}
	}
	if ties >= maxTies {
		return
	}
	f.Versions = slices.DeleteFunc(f.Versions, func(o keptVersion) bool {
		t, err := identity.ParseConfig(o.Raw)
		return err != nil || o.Source == k.Source && t.Scope == s.Scope && t.Issuer == s.Issuer && t.Sequence < s.Sequence
	})
	f.Versions = append(f.Versions, k)
	f.Seen[s.Scope] = max(f.Seen[s.Scope], s.Sequence)
}

// sameState reports whether nothing that anybody sees has changed.
func sameState(a, b policy.State) bool {
	return maps.Equal(a.Withdrawn, b.Withdrawn) && slices.EqualFunc(a.Groups, b.Groups, func(x, y policy.Group) bool {
		return x.Signed.Hash() == y.Signed.Hash() && x.Source == y.Source && x.Switches == y.Switches && x.Seen == y.Seen &&
			x.Unverified == y.Unverified && slices.Equal(x.Against, y.Against) && slices.Equal(x.Members, y.Members) && x.Compliance == y.Compliance
	})
}

// confirm judges again what an unconfirmed clock has let in, once the time is
// known; ran is how long this node has been up.
func (p *policies) confirm(now time.Time, ran time.Duration, stepped bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.file.clone()
	next.Versions = nil
	for _, k := range p.file.Versions {
		if k.Mark != nil && joinedLate(*k.Mark, now, ran, stepped) {
			p.log.Warn("a config does not count: it had ended when it was applied")
			continue
		}
		k.Mark = nil
		next.Versions = append(next.Versions, k)
	}
	return p.keep(next)
}

// admits says why a version would not be taken: one that is known outdates it,
// whatever else there is.
func (p *policies) admits(v policy.Version) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !v.Withdrawn && v.Sequence <= p.state.Withdrawn[v.Group] {
		return ErrConfigWithdrawn
	}
	for _, k := range p.file.Versions {
		o, err := k.version()
		if err == nil && o.Group == v.Group && o.Source >= v.Source && o.Sequence > v.Sequence && !p.revoked(o.Signed.Issuer) {
			return fmt.Errorf("version %d, this is %d: %w", o.Sequence, v.Sequence, ErrConfigOlder)
		}
	}
	return nil
}

// with returns what is in force, and what would be with one version more.
func (p *policies) with(k keptVersion) (before, after policy.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.file.clone()
	next.add(k)
	try := policies{home: p.home, log: slog.New(slog.DiscardHandler), roster: p.roster, file: next}
	try.judge()
	return p.state, try.state
}

// take keeps one version more. It is durable when this returns nil; when it
// could not be written nothing has changed.
func (p *policies) take(k keptVersion) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.file.clone()
	next.add(k)
	if err := p.write(next); err != nil {
		return err
	}
	p.use(next)
	return nil
}

// seen is the highest sequence of a group that was ever seen.
func (p *policies) seen(group string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.Seen[group]
}

// marked reports whether something was let in by a clock that nobody has
// confirmed since.
func (p *policies) marked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.file.Versions, func(k keptVersion) bool { return k.Mark != nil })
}

// chatRules gives chat the policies in chat's words.
type chatRules struct{ *policies }

var _ chat.Policies = chatRules{}

func (c chatRules) Policy(user identity.UserID) chat.Policy {
	r := c.policies.Policy(user)
	return chat.Policy{NoFiles: r.NoFiles, NoLocation: r.NoLocation}
}

// warnings are what an operator must know of the policies.
func (p *policies) warnings(clock *roster.Clock) (codes []string) {
	if p.marked() {
		codes = append(codes, "config_unverified")
	}
	for _, g := range p.State().Groups {
		if len(g.Against) > 0 {
			codes = append(codes, "config_conflict")
		}
		if pastDays(g.Expires, clock) > 0 {
			codes = append(codes, "config_past_date")
		}
	}
	return codes
}
