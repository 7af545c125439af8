package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"

	"outrider/mesh/cla"
)

// A Profile adapts membership to the slowest medium it runs over (mesh.md
// 2.5, with decisions.md 20).
type Profile struct {
	// Off leaves memberlist out: under 64 kb/s it collapses (mesh.md 2.4).
	// The book's peers are then all there is to report.
	Off bool

	ProbeInterval, ProbeTimeout    time.Duration
	IndirectChecks                 int
	SuspicionMult, SuspicionMaxMul int
	AwarenessMax                   int
	GossipInterval                 time.Duration
	GossipNodes                    int
	RetransmitMult                 int
	// PushPullInterval is memberlist's own; 0 leaves it to SyncInterval.
	PushPullInterval    time.Duration
	GossipToTheDeadTime time.Duration
	PacketBytes         int
	StreamTimeout       time.Duration

	RejoinInterval time.Duration // between turns, each for one silent peer
	RejoinMax      time.Duration // ceiling of the back-off for one peer
	// SyncInterval is how often, jittered, we exchange state with one random
	// live member, 0 for never. It repairs what lost gossip did.
	SyncInterval time.Duration
}

// ProfileOf returns the profile for a class of links. The one for cla.Radio
// is meant for 64 to 200 kb/s; below that set Off.
func ProfileOf(c cla.Class) Profile {
	switch c {
	case cla.Radio:
		return Profile{
			ProbeInterval: time.Minute, ProbeTimeout: 15 * time.Second, IndirectChecks: 1,
			SuspicionMult: 3, SuspicionMaxMul: 2, AwarenessMax: 3,
			GossipInterval: 5 * time.Second, GossipNodes: 2, RetransmitMult: 3,
			GossipToTheDeadTime: 10 * time.Minute, PacketBytes: 512, StreamTimeout: time.Minute,
			RejoinInterval: 200 * time.Second, RejoinMax: 15 * time.Minute, SyncInterval: 30 * time.Minute,
		}
	case cla.WiFi:
		return Profile{
			ProbeInterval: 10 * time.Second, ProbeTimeout: 3 * time.Second, IndirectChecks: 2,
			SuspicionMult: 5, SuspicionMaxMul: 3, AwarenessMax: 4,
			GossipInterval: 2 * time.Second, GossipNodes: 3, RetransmitMult: 4,
			PushPullInterval: 5 * time.Minute, GossipToTheDeadTime: 5 * time.Minute,
			PacketBytes: 1200, StreamTimeout: 30 * time.Second,
			RejoinInterval: 30 * time.Second, RejoinMax: 2 * time.Minute,
		}
	default:
		return Profile{
			ProbeInterval: 3 * time.Second, ProbeTimeout: time.Second, IndirectChecks: 3,
			SuspicionMult: 4, SuspicionMaxMul: 6, AwarenessMax: 8,
			GossipInterval: 500 * time.Millisecond, GossipNodes: 3, RetransmitMult: 4,
			PushPullInterval: time.Minute, GossipToTheDeadTime: 5 * time.Minute,
			PacketBytes: 1400, StreamTimeout: 10 * time.Second,
			RejoinInterval: 15 * time.Second, RejoinMax: time.Minute,
		}
	}
}

// apply sets p in a configuration of memberlist.
func (p Profile) apply(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = p.ProbeInterval, p.ProbeTimeout
	c.IndirectChecks = p.IndirectChecks
	c.DisableTcpPings = true
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = p.SuspicionMult, p.SuspicionMaxMul
	c.AwarenessMaxMultiplier = p.AwarenessMax
	c.GossipInterval, c.GossipNodes = p.GossipInterval, p.GossipNodes
	c.RetransmitMult = p.RetransmitMult
	c.PushPullInterval = p.PushPullInterval
	c.GossipToTheDeadTime = p.GossipToTheDeadTime
	c.UDPBufferSize = p.PacketBytes
	c.TCPTimeout = p.StreamTimeout
	// A node that returns with another address is no name conflict.
	c.DeadNodeReclaimTime = time.Nanosecond
}
