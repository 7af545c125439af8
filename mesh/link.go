package mesh

import (
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

// What we chose about links; other nodes may choose otherwise.
const (
	maxLinks     = 64       // at once
	maxQueued    = 8192     // bundles waiting in one level of one link
	maxUnacked   = 4096     // bundles sent on a link and not answered
	maxReserving = 16       // replicas of one link whose budget is being written
	maxHints     = 64       // offsets a neighbour told
	lanWindow    = 1 << 20  // bytes in flight on a LAN
	lanChunk     = 32 << 10 // payload bytes of a frame on a LAN
	minChunk     = 512      // on the thinnest link
	maxChunk     = 64 << 10
	smallFrame   = 256 // bytes of a frame that tells the round trip
	minRate      = 64  // bytes per second, whatever was measured
	frameGuess   = 64  // bytes of a frame besides its payload, for the window
)

// A link is one contact.
type link struct {
	id     LinkID
	slot   int
	bit    uint64
	peer   *peer
	info   cla.Info
	pace   pace
	dirty  bool
	ready  bool // STATE has come
	closed bool // hung up; LinkDown is on its way
	faults int
	remote stateFrame

	// what goes out
	num       uint64 // last transfer number
	sent      uint64 // counted frames
	credited  uint64 // of these, received by the peer
	window    []inflight
	inflight  int
	span      time.Duration // under load since the rate was measured last
	spanBytes uint64        // received in it

	progress Time          // of the peer's credit, or when the window was last empty
	rate     uint64        // bytes per second
	rtt      time.Duration // of a small frame on an idle link
	credits  Time          // when the last came
	queue    [routing.Levels]rankHeap
	active   [routing.Levels]*outgoing
	reserved [routing.Levels][]*outgoing
	pledged  int
	unacked  map[uint64]*outgoing
	respray  bool // sprayed bundles were left out: offer all again
	hints    map[bundle.ID]int
	ctl      []Frame // counted control frames that wait for the window

	// what came in
	got, gotTold uint64
	creditAt     Time
	acks         []answer

	// reconciliation
	syncAt      Time // when to tell our root
	told        [16]byte
	sentCursor  cursor // as in our STATE
	sentSeq     uint64
	listing     [routing.Scopes]bool
	checkAt     Time // when to look for a difference again
	notBefore   Time
	backoff     time.Duration
	sessionEnd  Time
	decoding    [routing.Scopes]*decoding
	streaming   [routing.Scopes]*snapshot
	asked       int
	wanted      int // ids of the want list asked in this contact
	walks       []*walk
	offers      map[uint64][]ref
	offerNum    uint64
	kept        map[ref]uint8 // purged bundles of compliance readers: how far their offer is
	live        []ref
	sprayUpto   uint64
	tagsTold    []uint32
	tagsVersion uint64
	queryTokens bucket

	blob blobLink
}

type inflight struct {
	bytes int
	at    Time
	first bool // nothing else was on its way
	load  loadOf
}

// loadOf names what a counted frame carries a part of: a transfer, or a run of
// leaves. Control frames have none.
type loadOf struct {
	leaves bool
	num    uint64
}

// An outgoing is a bundle or purge record on its way over a link.
type outgoing struct {
	num    uint64
	at     ref
	id     bundle.ID
	level  routing.Level
	size   int
	next   int  // first payload byte not yet sent
	begun  bool // BEGIN was sent
	give   uint8
	spray  bool
	purged bool
}

// pace is what differs between the classes of links.
type pace struct {
	settle   time.Duration // quiet time before roots are compared again
	stall    time.Duration // without progress, after which a link is closed
	credit   time.Duration // longest that received frames stay unacknowledged
	rate     uint64        // bytes per second assumed at first
	ackEvery uint64        // frames
}

var paces = map[cla.Class]pace{
	cla.LAN:   {settle: time.Second, stall: 30 * time.Second, credit: 50 * time.Millisecond, rate: 12_500_000, ackEvery: 8},
	cla.WiFi:  {settle: 5 * time.Second, stall: time.Minute, credit: 100 * time.Millisecond, rate: 25_000, ackEvery: 1},
	cla.Radio: {settle: time.Minute, stall: 5 * time.Minute, credit: 500 * time.Millisecond, rate: 2_400, ackEvery: 1},
}

func (m *Machine) newLink(in PeerUp, p *peer, slot int) *link {
	pc, ok := paces[in.Info.Class]
	if !ok {
		pc = paces[cla.WiFi]
	}
	l := &link{
		id: in.Link, slot: slot, bit: 1 << slot, peer: p, info: in.Info, pace: pc, rate: pc.rate,
		unacked: map[uint64]*outgoing{}, hints: map[bundle.ID]int{}, offers: map[uint64][]ref{},
		creditAt: never, syncAt: never, checkAt: never, sessionEnd: never,
		progress: m.now, backoff: pc.settle, blob: newBlobLink(),
	}
	if in.Info.RateBps > 0 && in.Info.Class != cla.LAN {
		l.rate = in.Info.RateBps / 8
	}
	return l
}

// chunk is the most payload a frame takes: what crosses in 0.15 s
// (decisions 21), so that FLASH never waits longer for a frame in its way.
func (l *link) chunk() int {
	if l.info.Class == cla.LAN {
		return lanChunk
	}
	return int(min(max(l.rate*15/100, minChunk), maxChunk))
}

// windowBytes is what may be in flight (mesh.md 3.7): one chunk; where the
// link would idle while the acknowledgement is on its way, two on a shared
// channel and as many as fit elsewhere.
func (l *link) windowBytes() int {
	if l.info.Class == cla.LAN {
		return lanWindow
	}
	chunk, gap := l.chunk(), int(l.rate*uint64(l.rtt.Microseconds())/1_000_000)
	if gap <= chunk {
		return chunk
	}
	if l.info.Class == cla.Radio {
		return 2 * chunk
	}
	return chunk + min(gap, 7*chunk)
}

func (l *link) room() bool { return l.inflight < l.windowBytes() }

// flashRoom lets FLASH go although bulk fills the window, up to a chunk more.
func (l *link) flashRoom() bool { return l.inflight < l.windowBytes()+l.chunk() }

// send puts an uncounted frame on a link at once.
func (m *Machine) send(l *link, f Frame) {
	m.emit(Send{Link: l.id, Head: appendFrame(nil, f)})
}

// sendCounted puts a frame on a link that uses up window.
func (m *Machine) sendCounted(l *link, head []byte, load Load, payload int, of loadOf) {
	n := len(head) + payload
	if load != nil {
		n += frameGuess
	}
	if l.inflight == 0 {
		l.progress = m.now
	}
	l.sent++
	l.inflight += n
	l.window = append(l.window, inflight{n, m.now, len(l.window) == 0, of})
	m.emit(Send{Link: l.id, Head: head, Load: load})
}

// uncount takes a frame back that never went out: the peer will not count it.
// Without this its bytes would stay in flight until the link is closed as
// stalled.
func (m *Machine) uncount(l *link, of loadOf) {
	at := slices.IndexFunc(l.window, func(w inflight) bool { return w.load == of })
	if at < 0 {
		at = len(l.window) - 1 // a later frame was credited in its place
	}
	if at < 0 {
		return
	}
	l.inflight -= l.window[at].bytes
	l.window = slices.Delete(l.window, at, at+1)
	l.sent--
	l.progress, l.dirty = m.now, true
}

// credit gives back window for frames the peer has received.
func (m *Machine) credit(l *link, got uint64) {
	if got > l.sent {
		m.blame(l, DropUnexpected)
		got = l.sent
	}
	if got <= l.credited {
		return
	}
	list := l.window[:got-l.credited]
	bytes := 0
	for _, w := range list {
		bytes += w.bytes
	}
	m.measure(l, list, bytes)
	l.window, l.credited = l.window[len(list):], got
	l.inflight -= bytes
	l.credits, l.progress, l.dirty = m.now, m.now, true
}

// measure learns the round trip from small frames on an idle link, and the
// rate from the others: what was received since the last acknowledgement.
func (m *Machine) measure(l *link, list []inflight, bytes int) {
	if l.info.Class == cla.LAN {
		return
	}
	took := m.now.Sub(max(list[0].at, l.credits))
	if list[0].first && len(list) == 1 && bytes <= smallFrame {
		if l.rtt == 0 || took < l.rtt {
			l.rtt = took
		} else {
			l.rtt += (took - l.rtt) / 16
		}
		return
	}
	if list[0].first {
		took = max(took-l.rtt, took/8)
	}
	// Acknowledgements come in bursts, which alone would look like a link as
	// fast as the processor: only a stretch of time has a rate.
	l.span, l.spanBytes = l.span+took, l.spanBytes+uint64(bytes)
	if l.span >= rateSpan {
		l.rate = max((7*l.rate+l.spanBytes*1_000_000/uint64(l.span.Microseconds()))/8, minRate)
		l.span, l.spanBytes = 0, 0
	}
}

// rateSpan is the least time under load that a rate is measured over.
const rateSpan = 100 * time.Millisecond

func (l *link) nextAlarm() Time {
	if l.closed {
		return never
	}
	at := min(l.creditAt, l.syncAt, l.checkAt, l.sessionEnd)
	if l.inflight > 0 || !l.ready {
		at = min(at, l.progress.Add(l.pace.stall))
	}
	return at
}

func (m *Machine) wakeLink(l *link) {
	if l.closed {
		return
	}
	if m.now >= l.creditAt {
		l.creditAt, l.dirty = m.now, true
	}
	if m.now >= l.sessionEnd {
		m.endSession(l)
	}
	if m.now >= l.syncAt {
		m.tellRoot(l)
	}
	if m.now >= l.checkAt {
		l.checkAt = never
		m.compare(l)
	}
	if (l.inflight > 0 || !l.ready) && m.now >= l.progress.Add(l.pace.stall) {
		m.count.Stalls++
		m.hangup(l, "stalled")
	}
}

// hangup closes a link; what it was used for ends with PeerDown.
func (m *Machine) hangup(l *link, why string) {
	if l.closed {
		return
	}
	l.closed, l.ready = true, false
	m.emit(Hangup{l.id, why})
}

// A decoding is the reconciliation of one scope at the decoding side.
type decoding struct {
	snap *snapshot
	dec  *reconcile.Decoder
	max  int // symbols, known once the streamer's count is
}
