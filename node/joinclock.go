package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/identity"
	"outrider/offline/roster"
)

// ErrJoinVoid means that the link this node joined with had ended.
var ErrJoinVoid = errors.New("the join link of this node had ended when it was used, as its clock knows now; ask the admin for a new link and run outrider join")

// unverified is what is kept of a join that an unconfirmed clock has accepted:
// a board without a battery must be able to join in the field (decisions.md
// 12). When the clock can be trusted the join is judged again.
type unverified struct {
	Expiry int64 `cbor:"1,keyasint"` // Unix seconds, of the link
	At     int64 `cbor:"2,keyasint"` // Unix seconds by that clock
	From   int64 `cbor:"3,keyasint"` // Unix seconds, when the link was made by its admin's clock
}

// unverifiedJoin returns the mark for a join by a clock, nil if that clock is
// right.
func unverifiedJoin(clock identity.Clock, from, expiry time.Time) *unverified {
	certain := clock.Trusted()
	if c, ok := clock.(interface{ Certain() bool }); ok {
		certain = c.Certain()
	}
	if certain {
		return nil
	}
	return &unverified{Expiry: expiry.Unix(), At: clock.Now().Unix(), From: from.Unix()}
}

// joinVoid reports whether this node's enrolment does not count.
func (h *Home) joinVoid() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.Network != nil && h.state.Network.Void
}

// settleJoin ends the wait for a verdict.
func (h *Home) settleJoin(void bool) error {
	return h.change(func() error {
		m := *h.state.Network
		m.Unverified, m.Void = nil, void
		h.state.Network = &m
		return nil
	})
}

// judgeJoin decides about a join that was accepted unverified; ran is how long
// this node has been up. An admin's final certificate settles it whatever the
// clock said. Void means that the node says hello to nobody and admits nobody
// until it has a new link; what it holds it keeps.
func (n *Node) judgeJoin(ran time.Duration) error {
	m := n.home.network()
	if m.Unverified == nil {
		return nil
	}
	now := n.clock.Now()
	void := joinedLate(*m.Unverified, now, ran, clockStepped(n.started, ran)) && !n.roster.Confirmed()
	if err := n.home.settleJoin(void); err != nil {
		return err
	}
	if void {
		n.log.Error("this node's join does not count: the link had ended", "err", ErrJoinVoid)
		n.links.Recheck()
	}
	return nil
}

// joinedLate reports whether a join came after the link's end. If the clock
// has run on since the join without being set, and did not stand before the
// link was made, its date then was right.
// Otherwise the latest moment is taken that it can have been, since this node
// has been up: a link whose validity nobody can show is refused.
func joinedLate(u unverified, now time.Time, ran time.Duration, stepped bool) bool {
	at := time.Unix(u.At, 0)
	if stepped || at.Before(time.Unix(u.From, 0)) || at.After(now.Add(-ran).Add(time.Minute)) {
		at = now.Add(-ran)
	}
	return at.After(time.Unix(u.Expiry, 0))
}

// clockStepped reports whether the clock was set since the start: wall time
// and elapsed time disagree.
func clockStepped(start time.Time, ran time.Duration) bool {
	return (time.Now().Round(0).Sub(start.Round(0)) - ran).Abs() > time.Minute
}

// A warning is something about the node that an operator must know.
func (n *Node) warnings() (codes []string) {
	if n.agent == nil {
		return nil
	}
	m := n.home.network()
	switch {
	case n.clock.Suspect():
		codes = append(codes, "clock_behind")
	case !n.clock.Trusted():
		codes = append(codes, "clock_unconfirmed")
	}
	st := n.agentStatus.get(n.agent.Status)
	if st.AgeUncertain {
		codes = append(codes, "age_uncertain")
	}
	if n.storeFull(st) {
		codes = append(codes, "store_full")
	}
	if m.Unverified != nil {
		codes = append(codes, "join_unverified")
	}
	if m.Void {
		codes = append(codes, "join_void")
	}
	codes = append(codes, n.endings()...)
	codes = append(codes, n.rules.warnings(n.clock)...)
	slices.Sort(codes)
	return slices.Compact(codes)
}

// endings warns of certificates of this node and its users that end within 30
// days and have not been renewed.
func (n *Node) endings() (codes []string) {
	soon := n.clock.Now().Add(renewAhead)
	if until, ok := n.roster.OwnUntil(); ok && until.Before(soon) {
		codes = append(codes, "node_ends")
	}
	users, err := n.home.Users()
	if err != nil {
		return codes
	}
	for _, id := range users {
		if u, ok := n.roster.User(id); ok && u.Until.Before(soon) {
			codes = append(codes, "user_ends")
		}
		for _, d := range n.roster.Devices(id) {
			if d.Chain.Leaf().NotAfter.Before(soon) {
				codes = append(codes, "device_ends")
			}
		}
	}
	return codes
}

// rejoined takes up what a join has changed while the node runs: after a void
// one, this node has a new certificate and maybe a new network secret.
func (n *Node) rejoined() error {
	m := n.home.network()
	chain, err := identity.ParseChain(m.Chain)
	if err == nil {
		err = n.roster.SetOwn(chain)
	}
	if err != nil {
		return fmt.Errorf("node: join: own certificate: %w", err)
	}
	var all []roster.Generation
	for _, s := range m.Secrets {
		all = append(all, s.generation())
	}
	n.learn(all)
	n.links.Recheck()
	return nil
}
