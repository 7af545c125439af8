package identity

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
)

// A NetworkSecret is one generation of the secret that all admitted nodes
// share. It keeps strangers from gossip, tags and control objects; it opens
// no message. A revocation starts the next generation.
type NetworkSecret struct {
	Generation uint32
	Secret     [32]byte
}

// NewNetworkSecret makes a random secret of the given generation.
func NewNetworkSecret(generation uint32) (NetworkSecret, error) {
	s := NetworkSecret{Generation: generation}
	if _, err := rand.Read(s.Secret[:]); err != nil {
		return s, fmt.Errorf("identity: make network secret: %w", err)
	}
	return s, nil
}

// GossipKey seals gossip datagrams.
func (s NetworkSecret) GossipKey() [32]byte { return s.derive(LabelGossipKey) }

// TagKey makes inbox and control tags.
func (s NetworkSecret) TagKey() [32]byte { return s.derive(LabelTagKey) }

// ControlKey seals control objects.
func (s NetworkSecret) ControlKey() [32]byte { return s.derive(LabelControlKey) }

// ReconcileSalt salts the hashes of set reconciliation.
func (s NetworkSecret) ReconcileSalt() [16]byte {
	k := s.derive(LabelReconcileSalt)
	return [16]byte(k[:16])
}

// PageCASeed is what the key of the network's X.509 CA for web pages is made
// from. It vouches for pages to browsers and for nothing in the mesh.
func (s NetworkSecret) PageCASeed() [32]byte { return s.derive(LabelPageCA) }

// LinkKey seals a config link that has no password: whoever is of the network
// opens it, nobody else.
func (s NetworkSecret) LinkKey(salt [16]byte) [32]byte {
	return DeriveSalted(s.Secret, salt[:], LabelLinkKey, binary.BigEndian.AppendUint32(nil, s.Generation))
}

func (s NetworkSecret) derive(l Label) [32]byte {
	return Derive(s.Secret, l, binary.BigEndian.AppendUint32(nil, s.Generation))
}

// Format implements fmt.Formatter, so that no verb prints the secret.
func (s NetworkSecret) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "generation %d, %s", s.Generation, redacted)
}

// LogValue implements slog.LogValuer.
func (s NetworkSecret) LogValue() slog.Value { return slog.StringValue(redacted) }

// InboxTag is where a device is written to under its prekey number j; j = 0
// is the last resort (decisions.md 7).
func InboxTag(tagKey [32]byte, d DeviceID, j uint32) Tag {
	m := MAC(tagKey, LabelInboxTag, d[:], binary.BigEndian.AppendUint32(nil, j))
	return Tag(m[:8])
}

// ControlTag is the tag of all control objects sealed under the generation
// that tagKey belongs to.
func ControlTag(tagKey [32]byte) Tag {
	m := MAC(tagKey, LabelControlTag)
	return Tag(m[:8])
}
