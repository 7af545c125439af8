package config

import "time"

// The names of the link profiles.
const (
	ProfileLAN   = "lan"
	ProfileWiFi  = "wifi"
	ProfileRadio = "radio"
)

// A Profile is the set of timings that fits one kind of link. Neither library
// beneath may run with its own defaults on a thin radio: at 9.6 kb/s they fill
// the air with their own traffic (measured).
type Profile struct {
	Name   string
	Use    string // for whom
	Gossip GossipProfile
	Link   LinkProfile
}

// GossipProfile is the timing of neighbour discovery. The names are
// memberlist's, which does the work.
type GossipProfile struct {
	WAN                 bool          // start from the library's WAN values, else its LAN values
	ProbeInterval       time.Duration // between probes of one member
	ProbeTimeout        time.Duration // until a probe counts as unanswered
	IndirectChecks      int           // members asked to probe in our place
	SuspicionMult       int           // how long a suspect may refute
	SuspicionMaxMult    int           // upper bound of the same
	AwarenessMax        int           // how far an unhealthy node slows itself
	GossipInterval      time.Duration
	GossipNodes         int
	RetransmitMult      int
	PushPullInterval    time.Duration // 0: only the random exchange below
	RandomPushPullMin   time.Duration // exchange with one random member, at random
	RandomPushPullMax   time.Duration // between these; 0: none
	GossipToTheDeadTime time.Duration
	PacketBytes         int // largest gossip packet
	TCPTimeout          time.Duration
	RejoinMin           time.Duration // between attempts to reach a remembered peer,
	RejoinMax           time.Duration // at random between these
}

// LinkProfile is the timing of the pipes that carry bundles.
type LinkProfile struct {
	QUIC         bool          // dial QUIC first; thin links use TCP and Noise only
	HelloTimeout time.Duration // for a stranger to prove who it is
	DialTimeout  time.Duration
	IdleClose    time.Duration // close a pipe that carried nothing for so long
	WriteTimeout time.Duration // until the multiplexer calls a write dead
	KeepAlive    time.Duration // between the multiplexer's own pings
}

// Profiles returns the three profiles, from fat to thin.
func Profiles() []Profile {
	return []Profile{
		{
			Name: ProfileLAN, Use: "cable and good Wi-Fi",
			Gossip: GossipProfile{
				ProbeInterval: 3 * time.Second, ProbeTimeout: time.Second, IndirectChecks: 3,
				SuspicionMult: 4, SuspicionMaxMult: 6, AwarenessMax: 8,
				GossipInterval: 500 * time.Millisecond, GossipNodes: 3, RetransmitMult: 4,
				PushPullInterval: time.Minute, GossipToTheDeadTime: 5 * time.Minute,
				PacketBytes: 1400, TCPTimeout: 10 * time.Second,
				RejoinMin: 11 * time.Second, RejoinMax: 19 * time.Second,
			},
			Link: LinkProfile{QUIC: true, HelloTimeout: 10 * time.Second, DialTimeout: 10 * time.Second,
				IdleClose: 3 * time.Minute, WriteTimeout: 10 * time.Second, KeepAlive: 30 * time.Second},
		},
		{
			Name: ProfileWiFi, Use: "mesh radios of 200 kb/s and more",
			Gossip: GossipProfile{
				WAN: true, ProbeInterval: 10 * time.Second, ProbeTimeout: 3 * time.Second, IndirectChecks: 2,
				SuspicionMult: 5, SuspicionMaxMult: 3, AwarenessMax: 4,
				GossipInterval: 2 * time.Second, GossipNodes: 3, RetransmitMult: 4,
				PushPullInterval: 5 * time.Minute, GossipToTheDeadTime: 5 * time.Minute,
				PacketBytes: 1200, TCPTimeout: 30 * time.Second,
				RejoinMin: 22 * time.Second, RejoinMax: 38 * time.Second,
			},
			Link: LinkProfile{QUIC: true, HelloTimeout: 10 * time.Second, DialTimeout: 30 * time.Second,
				IdleClose: 3 * time.Minute, WriteTimeout: time.Minute, KeepAlive: time.Minute},
		},
		{
			Name: ProfileRadio, Use: "shared channels below 200 kb/s",
			Gossip: GossipProfile{
				WAN: true, ProbeInterval: time.Minute, ProbeTimeout: 15 * time.Second, IndirectChecks: 1,
				SuspicionMult: 3, SuspicionMaxMult: 2, AwarenessMax: 3,
				GossipInterval: 5 * time.Second, GossipNodes: 2, RetransmitMult: 3,
				RandomPushPullMin: 20 * time.Minute, RandomPushPullMax: 40 * time.Minute,
				GossipToTheDeadTime: 10 * time.Minute,
				PacketBytes:         512, TCPTimeout: time.Minute,
				RejoinMin: 2 * time.Minute, RejoinMax: 5 * time.Minute,
			},
			Link: LinkProfile{HelloTimeout: 2 * time.Minute, DialTimeout: 2 * time.Minute,
				IdleClose: time.Minute, WriteTimeout: 5 * time.Minute, KeepAlive: 5 * time.Minute},
		},
	}
}

// LinkTiming returns the profile this configuration chose; of an unknown name
// the one for LAN, which Validate would have refused.
func (c Config) LinkTiming() Profile {
	all := Profiles()
	for _, p := range all {
		if p.Name == c.Profile {
			return p
		}
	}
	return all[0]
}
