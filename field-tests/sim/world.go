package sim

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
)

// A Config is what a seed is run with.
type Config struct {
	Seed     uint64
	Nodes    int
	Faulty   time.Duration // how long faults and contacts go on
	Heal     time.Duration // how long the healed network has
	Messages int
	Verbose  func(string, ...any) // nil for silence
}

// A World is one run.
type World struct {
	cfg    Config
	now    time.Duration
	queue  eventHeap
	order  uint64
	nodes  []*node
	pairs  map[[2]int]*contact
	faults faults
	sent   map[bundle.ID]*message
	purged map[bundle.ID]bool // purge keys that were released
	log    hash.Hash
	count  Stats
	broken []string
	healed bool
	lastID mesh.LinkID
}

// Stats sum up a run.
type Stats struct {
	Steps, Frames, Contacts, Kills       int
	Accepted, Refused, Delivered, Purged int
	Expired                              int
	Blobs, BlobsDone                     int
	FrameBytes                           int64
	Faults                               string
}

// faults are the kinds of trouble a seed draws.
type faults struct {
	Kills, Partition, Drift, Forgetful, DiskFull, Replay, Flip, Small bool
}

func (f faults) String() string {
	s := ""
	for _, x := range []struct {
		on   bool
		name string
	}{{f.Kills, "kills"}, {f.Partition, "partition"}, {f.Drift, "drift"}, {f.Forgetful, "forgetful"},
		{f.DiskFull, "disk-full"}, {f.Replay, "replay"}, {f.Flip, "flip"}, {f.Small, "small-store"}} {
		if x.on {
			s += " " + x.name
		}
	}
	return s
}

// rand returns the stream of one purpose: removing a node or a fault does not
// change what the others draw.
func (w *World) rand(purpose string, n int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", purpose, n)
	return rand.New(rand.NewPCG(w.cfg.Seed, h.Sum64()))
}

// An event is something due at a moment; equal moments keep their order.
type event struct {
	at    time.Duration
	order uint64
	run   func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

func (w *World) after(d time.Duration, run func()) {
	w.order++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.order, run})
}

func (w *World) until(end time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= end && len(w.broken) == 0 {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.run()
	}
	w.now = max(w.now, end)
}

// fail notes a violation; the run ends.
func (w *World) fail(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf("at %v: ", w.now)+fmt.Sprintf(format, args...))
}

func (w *World) say(format string, args ...any) {
	if w.cfg.Verbose != nil {
		w.cfg.Verbose("%12v  %s", w.now, fmt.Sprintf(format, args...))
	}
}

// note puts something that happened into the event log's hash.
func (w *World) note(node int, what byte, data []byte) {
	var b [17]byte
	binary.BigEndian.PutUint64(b[:], uint64(w.now))
	binary.BigEndian.PutUint32(b[8:], uint32(node))
	binary.BigEndian.PutUint32(b[12:], uint32(len(data)))
	b[16] = what
	w.log.Write(b[:])
	w.log.Write(data)
}

// Run plays one seed to its end. It returns the hash of the event log and
// what was violated.
func Run(c Config) (logHash string, stats Stats, violations []string) {
	w := &World{
		cfg: c, pairs: map[[2]int]*contact{}, sent: map[bundle.ID]*message{}, purged: map[bundle.ID]bool{}, log: sha256.New(),
	}
	w.drawFaults()
	for i := range c.Nodes {
		w.nodes = append(w.nodes, w.newNode(i))
	}
	for _, n := range w.nodes {
		n.boot()
	}
	w.planContacts()
	w.planFaults()
	w.planMessages()
	w.everyMinute()
	w.until(c.Faulty)
	if len(w.broken) == 0 {
		w.heal()
		w.until(c.Faulty + c.Heal)
	}
	if len(w.broken) == 0 {
		w.checkEnd()
	}
	w.count.Faults = w.faults.String()
	return hex.EncodeToString(w.log.Sum(nil)[:16]), w.count, w.broken
}

func (w *World) drawFaults() {
	r := w.rand("faults", 0)
	coin := func() bool { return r.IntN(2) == 0 }
	w.faults = faults{coin(), coin(), coin(), coin(), r.IntN(4) == 0, coin(), r.IntN(3) == 0, r.IntN(4) == 0}
}

// planContacts lets nodes meet: mostly within units of five or six, sometimes
// across, a few seconds to a few minutes, over all kinds of links.
func (w *World) planContacts() {
	r := w.rand("contacts", 0)
	units := max(1, len(w.nodes)/6)
	for at := time.Duration(0); at < w.cfg.Faulty; {
		at += time.Duration(1+r.IntN(12_000)) * time.Millisecond
		a := r.IntN(len(w.nodes))
		b := r.IntN(len(w.nodes))
		if r.IntN(4) > 0 { // the same unit
			b = (a%units + units*r.IntN(len(w.nodes)/units)) % len(w.nodes)
		}
		if a == b {
			continue
		}
		length := time.Duration(2000+r.IntN(240_000)) * time.Millisecond
		k := kinds[r.IntN(len(kinds))]
		seed := r.Uint64()
		w.after(at, func() { w.meet(a, b, k, length, seed) })
	}
}

// planFaults draws kills, partitions and full disks.
func (w *World) planFaults() {
	if w.faults.Kills {
		r := w.rand("kills", 0)
		for range len(w.nodes) * 2 {
			at := time.Duration(r.Int64N(int64(w.cfg.Faulty)))
			n, off := w.nodes[r.IntN(len(w.nodes))], time.Duration(1+r.IntN(900))*time.Second
			w.after(at, func() { n.kill(off) })
		}
	}
	if w.faults.DiskFull {
		r := w.rand("disk", 0)
		for range len(w.nodes) / 2 {
			at := time.Duration(r.Int64N(int64(w.cfg.Faulty)))
			n, off := w.nodes[r.IntN(len(w.nodes))], time.Duration(1+r.IntN(600))*time.Second
			w.after(at, func() { n.diskFull = true })
			w.after(at+off, func() { n.diskFull = false })
		}
	}
}

// sides splits the network into two halves for the middle of the run.
func (w *World) apart(a, b int) bool {
	return w.faults.Partition && !w.healed && w.now > w.cfg.Faulty/4 && w.now < w.cfg.Faulty*3/4 && a%2 != b%2
}

// heal ends all faults, brings every node up and joins them by a random tree
// and some more links that stay.
func (w *World) heal() {
	w.healed = true
	w.say("heal")
	for _, c := range sortedContacts(w.pairs) {
		c.cut(0)
	}
	for _, n := range w.nodes {
		n.diskFull = false
		if n.machine == nil {
			n.boot()
		}
	}
	r := w.rand("heal", 0)
	order := r.Perm(len(w.nodes))
	stay := func(a, b int) {
		k, seed := kinds[r.IntN(2)], r.Uint64()
		w.after(time.Duration(r.IntN(5000))*time.Millisecond, func() { w.meet(a, b, k, 0, seed) })
	}
	for i := 1; i < len(order); i++ {
		stay(order[i], order[r.IntN(i)])
	}
	for range len(order) / 4 {
		if a, b := r.IntN(len(order)), r.IntN(len(order)); a != b {
			stay(a, b)
		}
	}
}

func sortedContacts(m map[[2]int]*contact) []*contact {
	keys := make([][2]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	list := make([]*contact, 0, len(keys))
	for _, k := range keys {
		list = append(list, m[k])
	}
	return list
}

func (w *World) everyMinute() {
	w.checkNow()
	w.after(time.Minute, w.everyMinute)
}
