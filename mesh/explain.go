package mesh

import (
	"fmt"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
	"outrider/mesh/routing"
)

// An Explanation says how a bundle stands on this node and what it waits for.
type Explanation struct {
	ID         bundle.ID
	State      string // unknown, writing, held, purging, purged, refused, superseded, expired
	Own        bool
	Consumed   bool
	Way        string // flood, spray, control
	Precedence bundle.Precedence
	Served     bundle.Precedence // ROUTINE if beyond its neighbour's rate
	Size       int
	Age, Left  time.Duration
	Replicas   int // neighbours that accepted custody
	Budget     int // replicas this copy may still make
	Links      []LinkStanding
	Why        string // one sentence
}

// A LinkStanding says how a bundle stands towards one neighbour in contact.
type LinkStanding struct {
	Peer  identity.NodeID
	State string // has it, sending, waits for answer, queued, offered, not offered
	Sent  int    // payload bytes, while sending
}

var stateNames = map[state]string{
	pending: "writing", held: "held", purging: "purging", purged: "purged", refused: "refused",
	superseded: "superseded", expired: "expired",
}

// Explain tells how a bundle stands.
func (m *Machine) Explain(now Time, id bundle.ID) Explanation {
	m.now = max(m.now, now)
	x := Explanation{ID: id, State: "unknown", Why: "No such bundle is known here."}
	slot := m.idx.find(id)
	if slot == 0 {
		return x
	}
	e := &m.idx.entries[slot]
	x.State, x.Own, x.Consumed = stateNames[e.state], e.is(flagOwn), e.is(flagConsumed)
	x.Precedence, x.Served, x.Size = e.header, e.served(), int(e.size)
	x.Age = time.Duration(e.age(m.now)) * time.Second
	x.Left = time.Duration(max(0, e.left(m.now))) * time.Second
	x.Replicas, x.Budget = int(e.replicas), int(e.budget)
	switch m.idx.scope(e) {
	case routing.Control:
		x.Way = "control"
	case routing.Spray:
		x.Way = "spray"
	default:
		x.Way = "flood"
	}
	for _, l := range m.slots {
		if l != nil && l.ready {
			x.Links = append(x.Links, m.explainLink(l, slot))
		}
	}
	x.Why = m.why(e, x)
	return x
}

func (m *Machine) explainLink(l *link, slot uint32) LinkStanding {
	s := LinkStanding{Peer: l.peer.id, State: "not offered"}
	e, at := &m.idx.entries[slot], m.idx.ref(slot)
	for _, o := range l.unacked { // at most one is of this bundle
		if o.at == at {
			s.State, s.Sent = "waits for answer", o.next
			if o.next < o.size {
				s.State = "sending"
			}
			return s
		}
	}
	for _, q := range l.queue {
		for _, r := range q {
			if r.at == at {
				s.State = "queued"
				return s
			}
		}
	}
	for _, refs := range l.offers {
		for _, r := range refs {
			if r == at {
				s.State = "offered"
			}
		}
	}
	if e.has&l.bit != 0 && s.State == "not offered" {
		s.State = "has it"
	}
	return s
}

func (m *Machine) why(e *entry, x Explanation) string {
	switch e.state {
	case pending, purging:
		return "The store is writing it."
	case purged:
		return "It was purged by its key: delivered, recalled or replaced."
	case refused:
		return "There was no room for it, or the disk has damaged it; neighbours are asked for it."
	case superseded:
		return "A newer object of the same kind is here."
	case expired:
		return "Its lifetime has ended."
	}
	has := 0
	for _, l := range x.Links {
		switch l.State {
		case "sending":
			return fmt.Sprintf("It is being sent to %s: %d of %d bytes.", l.Peer.Short(), l.Sent, x.Size)
		case "queued", "waits for answer", "offered":
			return fmt.Sprintf("It is on its way to %s.", l.Peer.Short())
		case "has it":
			has++
		}
	}
	switch {
	case len(x.Links) == 0:
		return "No neighbour is in contact."
	case has == len(x.Links):
		return "Every neighbour in contact has it; it waits for its reader's receipt."
	case x.Way == "spray" && x.Budget <= 1:
		return "Its last replica waits for its reader or for a path to it."
	}
	return "It waits for its turn on a link."
}

// A Status sums up the agent.
type Status struct {
	Time                     Time
	AgeUncertain             bool // time switched off was counted as zero
	Known, Held, Tombstones  int
	Wanted                   int // refused for want of space
	Bytes, OwnBytes, MaxByte int64
	MaxRelayed               int64 // of Bytes that are not OwnBytes; mail that is read here may exceed it
	Blobs                    int
	BlobBytes, MaxBlobBytes  int64
	Links                    int
	Put                      int // control objects put off
	Judging                  int // control objects with the judge
	Partials, LeafParts      int // bundles and leaves that have come in part
	Root                     [16]byte
	Counters                 Counters
	Queue                    [Precedences]QueueLevel // of what is held
}

// Status sums up; it scans the index.
func (m *Machine) Status(now Time) Status {
	m.now = max(m.now, now)
	s := Status{
		Time: m.now, Known: m.idx.len(), Bytes: m.space.total, OwnBytes: m.space.own, MaxByte: m.lim.Bytes, MaxRelayed: m.relayLimit(),
		Blobs: len(m.blobs.order), BlobBytes: m.blobs.used, MaxBlobBytes: m.lim.BlobBytes,
		Links: m.readyLinks(), Put: len(m.later), Judging: len(m.judging), Partials: len(m.partials), LeafParts: m.blobs.parts, Root: m.currentRoot(), Counters: m.count,
	}
	s.Counters.Dropped = make(map[Reason]uint64, len(m.count.Dropped))
	for r, n := range m.count.Dropped {
		s.Counters.Dropped[r] = n
	}
	for _, e := range m.idx.all() {
		switch e.state {
		case held, purging:
			s.Held++
			s.Queue[min(int(e.header), Precedences-1)].add(e, m.now)
		case purged:
			s.Tombstones++
		case refused:
			s.Wanted++
		}
	}
	return s
}

// A Neighbour is a node in contact.
type Neighbour struct {
	Peer         identity.NodeID
	Class        cla.Class
	Addr         string
	Dialled      bool
	Rate         uint64 // bytes per second, measured
	Queued       int    // bundles that wait
	InFlight     int    // bytes
	Unanswered   int    // bundles and purge records that were sent
	InSync       bool   // our sets are equal, as far as told
	Sent, Faults int
	Tx, Rx       uint64 // bytes on the link
	Link         LinkID
}

// Neighbours lists the nodes in contact.
func (m *Machine) Neighbours() (list []Neighbour) {
	for _, l := range m.slots {
		if l == nil || !l.ready {
			continue
		}
		n := Neighbour{
			Peer: l.peer.id, Class: l.info.Class, Addr: l.info.Addr, Dialled: l.info.Dialled, Rate: l.rate,
			InFlight: l.inflight, Unanswered: len(l.unacked), InSync: l.remote.Root == m.currentRoot(), Sent: int(l.num), Faults: l.faults, Link: l.id,
		}
		for _, q := range l.queue {
			n.Queued += len(q)
		}
		list = append(list, n)
	}
	return list
}

// Linked returns the peers of the links that are ready: Neighbours without
// what it takes to say how they stand.
func (m *Machine) Linked() (peers []identity.NodeID) {
	for _, l := range m.slots {
		if l != nil && l.ready {
			peers = append(peers, l.peer.id)
		}
	}
	return peers
}

// Entries calls f for every bundle or tombstone held, for tests and reports.
func (m *Machine) Entries(f func(id bundle.ID, state string, own bool)) {
	for _, e := range m.idx.all() {
		f(e.id, stateNames[e.state], e.is(flagOwn))
	}
}
