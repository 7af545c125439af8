package roster

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"outrider/mesh/identity"
)

const (
	// maxScopes is how many scopes one admin's pushed config may have: more
	// than a network has security groups.
	maxScopes = 128
	// configSlots is how many versions of one scope and issuer may stand side
	// by side: those of one slot replace each other. An issuer that says two
	// things under one number is then caught by everybody, not only by who
	// happened to hear both, three times in four.
	configSlots = 4
)

// Config returns the object that pushes a signed config.
func Config(c identity.SignedConfig) Object {
	o := object{config: c}
	o.placeConfig()
	return Object{Kind: KindConfig, Subject: o.subject, Number: c.Sequence, Body: c.Raw()}
}

func (o *object) parseConfig() (err error) {
	if o.config, err = identity.ParseConfig(o.body); err != nil {
		return err
	}
	if o.config.Handout != identity.Pushed {
		return fmt.Errorf("a config that was handed out, not pushed: %w", identity.ErrRole)
	}
	o.placeConfig()
	return nil
}

// placeConfig fills in what a config replaces and is replaced by.
func (o *object) placeConfig() {
	slot := sha256.Sum256(o.config.Raw())[0] % configSlots
	o.subject = append(append([]byte(o.config.Scope), o.config.Issuer[:]...), slot)
	o.number, o.signer = o.config.Sequence, o.config.Issuer
}

// roomForConfig bounds what one admin's key may make every node keep.
func (s *state) roomForConfig(o *object) bool {
	scopes := map[string]bool{o.config.Scope: true}
	for _, old := range s.objects {
		if old.Kind == KindConfig && old.config.Issuer == o.config.Issuer {
			scopes[old.config.Scope] = true
		}
	}
	return len(scopes) <= maxScopes
}

// A ConfigObject is a pushed config that counts, with who vouches for it.
type ConfigObject struct {
	Config identity.SignedConfig
	Chain  identity.Chain
}

// Configs returns the pushed configs whose issuers are not revoked, ordered by
// scope and number. That a certificate above one has ended is no reason to
// leave it out: a node must not lose its rules to a date.
func (r *Roster) Configs() []ConfigObject {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []ConfigObject
	for _, o := range r.state.objects {
		if o.Kind == KindConfig && !r.state.chainRevoked(o.chain) {
			out = append(out, ConfigObject{o.config, slices.Clone(o.chain)})
		}
	}
	slices.SortFunc(out, func(a, b ConfigObject) int {
		if c := strings.Compare(a.Config.Scope, b.Config.Scope); c != 0 {
			return c
		}
		return compareNumbers(a.Config, b.Config)
	})
	return out
}

func compareNumbers(a, b identity.SignedConfig) int {
	switch {
	case a.Sequence < b.Sequence:
		return -1
	case a.Sequence > b.Sequence:
		return 1
	}
	x, y := a.Hash(), b.Hash()
	return slices.Compare(x[:], y[:])
}

// AdminChain returns the chain of an admin by the id of its key, as far as one
// has been heard of, and whether a key in it was revoked.
func (r *Roster) AdminChain(id identity.KeyID) (chain identity.Chain, revoked bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := r.state.issuers[id]
	if c.Leaf().Class != identity.ClassAdmin {
		return nil, r.state.revoked[id]
	}
	return slices.Clone(c), r.state.revoked[id] || r.state.chainRevoked(c)
}
