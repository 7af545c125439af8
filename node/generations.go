package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/cla/p2p"
	"outrider/mesh/identity"
	"outrider/offline/roster"
)

// gossipGrace is how long an older network secret still opens gossip
// datagrams, which are never sealed under it any more (decisions.md 13).
const gossipGrace = 7 * 24 * time.Hour

// maxGenerations is how many network secrets are kept: control objects were
// sealed under them.
const maxGenerations = 16

// generation is a secret of the state in the roster's words.
func (s networkSecret) generation() roster.Generation {
	return roster.Generation{Secret: s.secret(), Voucher: s.Voucher, Admin: s.Admin}
}

// lives returns the secrets that count at a time: the newest, and each older
// one for a while after it was replaced.
func (m *membership) lives(now time.Time, grace time.Duration) (out []identity.NetworkSecret) {
	for i, s := range m.Secrets {
		if i == 0 || s.Retired == 0 || now.Before(time.Unix(s.Retired, 0).Add(grace)) {
			out = append(out, s.secret())
		}
	}
	return out
}

// withGenerations returns secrets with others added, newest first. What is
// replaced by a newer one is marked with the time; it never begins anew.
func withGenerations(have []networkSecret, news []roster.Generation, now time.Time) []networkSecret {
	out := slices.Clone(have)
	for _, g := range news {
		s := networkSecret{Generation: g.Secret.Generation, Secret: g.Secret.Secret, Voucher: g.Voucher, Admin: g.Admin}
		at := slices.IndexFunc(out, func(o networkSecret) bool { return o.Generation == s.Generation })
		if at < 0 {
			out = append(out, s)
			continue
		}
		if len(s.Voucher) > 0 { // a join link brings none
			s.Retired = out[at].Retired
			out[at] = s
		}
	}
	slices.SortFunc(out, func(a, b networkSecret) int { return int(int64(b.Generation) - int64(a.Generation)) })
	for i := range out[1:] {
		if s := &out[i+1]; s.Retired == 0 {
			s.Retired = max(1, now.Unix())
		}
	}
	return out[:min(len(out), maxGenerations)]
}

// addGenerations keeps secrets that a neighbour has handed over.
func (h *Home) addGenerations(news []roster.Generation, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt(func() error {
		h.state.Network.Secrets = withGenerations(h.state.Network.Secrets, news, now)
		return nil
	})
}

// handover gives the links the hand-over of network secrets.
type handover struct{ n *Node }

var _ p2p.Secrets = handover{}

func (h handover) Held() []byte { return h.n.roster.HeldSecrets() }

func (h handover) Give(_ identity.NodeID, held []byte) ([]byte, error) {
	return h.n.roster.GiveSecrets(held)
}

// Take keeps what is new before anything is sealed under it.
func (h handover) Take(peer identity.NodeID, given []byte) error {
	news, err := h.n.roster.ReadSecrets(given)
	if err != nil || len(news) == 0 {
		return err
	}
	if err := h.n.home.addGenerations(news, h.n.clock.Now()); err != nil {
		return fmt.Errorf("node: keep network secret: %w", err)
	}
	h.n.learn(news)
	h.n.log.Info("network secret handed over", "peer", peer.Short(), "generation", news[0].Secret.Generation)
	return nil
}

// learn tells the roster of secrets that are kept, and everybody else soon.
func (n *Node) learn(news []roster.Generation) {
	for _, g := range news {
		n.roster.AddGeneration(g)
	}
	select {
	case n.newSecrets <- struct{}{}:
	default:
	}
}

// followSecrets keeps gossip, tags, control objects and reconciliation on the
// newest network secret while the node runs, and forgets older ones in time.
func (n *Node) followSecrets(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := n.useSecrets(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.newSecrets:
		case <-tick.C:
		}
	}
}

func (n *Node) useSecrets(ctx context.Context) error {
	m, now := n.home.network(), n.clock.Now()
	if err := n.gossip.SetKeys(gossipKeys(m, now)); err != nil {
		return fmt.Errorf("node: use network secret: %w", err)
	}
	n.chat.SetTagKeys(ctx, tagKeysOf(m.lives(now, n.root.Preset().MaxDelay())))
	n.agent.WatchQuiet(n.controlTags(), nil)
	newest := m.Secrets[0].secret()
	n.agent.SetGeneration(uint64(newest.Generation), newest.ReconcileSalt())
	n.agent.Rejudge()
	n.publishSoon()
	n.links.Spread()
	n.gossip.Recheck()
	n.dialer.wakeUp()
	return nil
}

func gossipKeys(m *membership, now time.Time) (keys [][]byte) {
	for _, s := range m.lives(now, gossipGrace) {
		k := s.GossipKey()
		keys = append(keys, k[:])
	}
	return keys
}

func tagKeysOf(secrets []identity.NetworkSecret) (keys [][32]byte) {
	for _, s := range secrets {
		keys = append(keys, s.TagKey())
	}
	return keys
}

// controlTagOf is the tag of a sealed control object: that of the generation
// it was sealed under, which stands in front.
func (n *Node) controlTagOf(payload []byte) identity.Tag {
	if len(payload) >= 4 {
		g := binary.BigEndian.Uint32(payload)
		for _, s := range n.roster.Secrets() {
			if s.Generation == g {
				return identity.ControlTag(s.TagKey())
			}
		}
	}
	return n.controlTags()[0]
}

// tellHeads tells neighbours a digest of the revocations known here, and
// offers them the secrets that were kept back for want of one. Only hear
// calls it.
func (n *Node) tellHeads() {
	heads := n.roster.Heads()
	if string(heads) == n.heads {
		return
	}
	n.heads = string(heads)
	n.agent.SetHeads(heads)
	n.links.Spread()
}
