package mesh

import (
	"math/rand/v2"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
)

// Config is what a machine is told once.
type Config struct {
	Self       identity.NodeID
	Salt       reconcile.Salt // identity.NetworkSecret.ReconcileSalt
	Generation uint64         // of the network secret the salt comes from
	Epoch      [8]byte        // the store's
	Opsec      bool           // flood everything, advertise no tag
	Blind      bool           // has no keys to judge control objects by: see giveUpControl
	ReadsAll   bool           // tells neighbours to hand over everything, sprayed bundles at no cost of replicas
	Limits     Limits
	Rand       rand.Source // all chance there is
}

// A Machine is the agent. Its methods are not safe for concurrent use.
type Machine struct {
	cfg   Config
	lim   Limits
	now   Time
	out   []Output
	alarm Time
	rand  rand.Source

	idx   index
	sets  sets
	root  [16]byte
	seq   uint64   // last arrival number given out
	young []uint64 // of these, the ones whose commit is not done, ascending

	rootStale bool

	peers  []*peer // 0 is this node
	byPeer map[identity.NodeID]*peer
	links  map[LinkID]*link
	slots  [maxLinks]*link

	commits  map[uint64]func(error)
	commitN  uint64
	writing  int64 // payload bytes in commits that are not done
	tags     served
	control  map[[16]byte]controlHead
	byEntry  map[uint32][16]byte // control key of an entry
	judging  map[Token]*arrival
	later    []*arrival
	judgeAt  Time
	asked    map[uint64]asking
	partials []*partial
	queries  queryTable
	blobs    blobTable
	space    space
	expiry   Time // when the next lifetime ends, at the earliest
	wantNext Time
	heads    []byte
	count    Counters
}

// NewMachine returns a machine without bundles. Give it what the store holds
// (RestoredBundle, RestoredTombstone) and then Started before anything else.
func NewMachine(c Config) *Machine {
	m := &Machine{
		cfg: c, lim: c.Limits.withDefaults(), rand: c.Rand, alarm: never, expiry: never, judgeAt: never, wantNext: never,
		idx: newIndex(c.Salt, c.Opsec), sets: newSets(), rootStale: true,
		byPeer: map[identity.NodeID]*peer{}, links: map[LinkID]*link{},
		commits: map[uint64]func(error){}, control: map[[16]byte]controlHead{}, byEntry: map[uint32][16]byte{},
		judging: map[Token]*arrival{}, asked: map[uint64]asking{},
	}
	m.tags, m.queries, m.blobs = newServed(), newQueryTable(), newBlobTable()
	if c.ReadsAll {
		m.tags.all, m.tags.version = true, 1
	}
	m.count.Dropped = map[Reason]uint64{}
	m.peers = []*peer{{id: c.Self}}
	return m
}

// Step takes one input at a time and returns what is to be done. Now must not
// run backwards. The slice is valid until the next Step.
func (m *Machine) Step(now Time, in Input) []Output {
	m.now = max(m.now, now)
	m.out = m.out[:0]
	m.take(in)
	m.settle()
	return m.out
}

func (m *Machine) take(in Input) {
	switch in := in.(type) {
	case Received:
		m.received(in)
	case Committed:
		for _, r := range in.Results {
			m.committed(r)
		}
	case Wake:
		m.alarm = never
		m.wake()
	case Submitted:
		m.submitted(in)
	case Judged:
		m.judged(in)
	case PeerUp:
		m.peerUp(in)
	case PeerDown:
		m.peerDown(in)
	case PurgeAsked:
		m.purgeAsked(in)
	case Watched:
		m.watched(in)
	case ConsumedAsked:
		m.consumedAsked(in)
	case Malformed:
		m.malformed(in)
	case Unsent:
		m.unsent(in)
	case Damaged:
		m.damaged(in.ID)
	case BlobOpened:
		m.blobOpened(in)
	case BlobsWritten:
		m.blobsWritten(in)
	case Rejudge:
		m.rejudge()
	case HeadsChanged:
		m.heads = slices.Clone(in.Heads[:min(len(in.Heads), maxHeads)])
	case GenerationChanged:
		m.changeGeneration(in)
	case RestoredBundle:
		m.restoreBundle(in.Record)
	case RestoredTombstone:
		m.restoreTombstone(in.Tombstone)
	case Started:
		m.started()
	}
}

// settle does what follows from any input: frames that may go now, answers
// that have gathered, and the next alarm.
func (m *Machine) settle() {
	moved := m.rootStale
	for _, l := range m.slots {
		if l != nil && l.ready && moved && l.syncAt == never && m.currentRoot() != l.told {
			l.syncAt = m.now.Add(l.pace.settle)
		}
	}
	for _, l := range m.slots {
		if l == nil || !l.dirty {
			continue
		}
		l.dirty = false
		if l.ready {
			m.pullBlobs(l)
		}
		m.pump(l)
		m.flushAcks(l)
	}
	if at := m.nextAlarm(); at < m.alarm {
		m.alarm = at
		m.emit(Alarm{At: at})
	}
}

func (m *Machine) nextAlarm() Time {
	at := min(m.expiry, m.judgeAt, m.wantNext, m.queries.next, m.blobs.next)
	for _, l := range m.slots {
		if l != nil {
			at = min(at, l.nextAlarm())
		}
	}
	return at
}

func (m *Machine) wake() {
	if m.now >= m.expiry {
		m.expire()
	}
	if m.now >= m.judgeAt {
		m.rejudge()
	}
	if m.now >= m.wantNext {
		m.askWanted()
	}
	if m.now >= m.queries.next {
		m.askPaths()
	}
	if m.now >= m.blobs.next {
		m.tellBlobs()
	}
	for _, l := range m.slots {
		if l != nil {
			m.wakeLink(l)
		}
	}
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

func (m *Machine) event(e Event) { m.emit(Emit{e}) }

func (m *Machine) free(t Token) {
	if t != 0 {
		m.emit(Free{t})
	}
}

// commit asks for a transaction and says what to do when it is done.
func (m *Machine) commit(done func(error), ops ...Op) {
	m.commitN++
	m.commits[m.commitN] = done
	m.emit(Commit{Commit: m.commitN, Ops: ops})
}

func (m *Machine) committed(r CommitResult) {
	done, ok := m.commits[r.Commit]
	if !ok {
		return
	}
	delete(m.commits, r.Commit)
	if r.Err != nil {
		m.count.CommitErrors++
	}
	done(r.Err)
}

// arrive gives out the next arrival number; landed must follow when the
// entry can be offered, or has failed.
func (m *Machine) arrive() uint64 {
	m.seq++
	m.young = append(m.young, m.seq)
	return m.seq
}

func (m *Machine) landed(seq uint64) {
	i, ok := slices.BinarySearch(m.young, seq)
	switch {
	case !ok:
	case i == 0: // the usual case, in constant time
		m.young = m.young[1:]
	default:
		m.young = slices.Delete(m.young, i, i+1)
	}
}

// settledSeq is the highest number up to which everything that arrived can be
// offered: what a neighbour may take as its cursor.
func (m *Machine) settledSeq() uint64 {
	if len(m.young) > 0 {
		return m.young[0] - 1
	}
	return m.seq
}

func (m *Machine) currentRoot() [16]byte {
	if m.rootStale {
		m.root, m.rootStale = m.sets.root(), false
	}
	return m.root
}

// meta is an entry as the store keeps it.
func (m *Machine) meta(slot uint32) Meta {
	e := &m.idx.entries[slot]
	meta := Meta{
		Own: e.is(flagOwn), Consumed: e.is(flagConsumed), Urgent: e.is(flagUrgent), Served: e.served(),
		Budget: e.budget, Replicas: e.replicas, Seq: e.seq, Stored: e.stored, Deadline: e.deadline,
	}
	if e.ingress != 0 {
		meta.Ingress = m.peers[e.ingress].id
	}
	if key, ok := m.byEntry[slot]; ok {
		meta.Key, meta.Number = key, m.control[key].number
	}
	return meta
}

// life is how long a bundle counts here: its lifetime, within the network's
// ceiling unless it is a control object.
func (m *Machine) life(h bundle.Header) uint32 {
	d := h.Lifetime
	if h.Kind != bundle.KindControl {
		d = min(d, m.lim.Ceiling)
	}
	return uint32(d / time.Second)
}

func kindByte(k bundle.Kind) uint8 { return uint8(min(k, 255)) }

// newEntry is what is common to everything that becomes known.
func (m *Machine) newEntry(id bundle.ID, h bundle.Header, size int, age uint32) entry {
	life, now := m.life(h), m.now.secs()
	e := entry{
		id: id, tag: h.Tag, header: h.Precedence, kind: kindByte(h.Kind), size: uint32(size),
		life: life, stored: now, deadline: now + life - min(age, life),
	}
	e.set(flagArchive, h.Flags&bundle.FlagArchive != 0)
	return e
}
