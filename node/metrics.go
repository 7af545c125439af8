package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/node/api"
	"outrider/node/config"
	"outrider/node/metrics"
)

// A meter gathers the node's figures. It may be asked at any moment of the
// node's life: before the node has met its network, and after that ended, it
// tells what there is.
type meter struct {
	whole sync.RWMutex // held for reading while the node's parts are asked
	open  bool         // the parts are there

	mu    sync.Mutex // guards what follows
	links map[*carried]struct{}
	ended [len(linkClasses)]carriage
}

// linkClasses are the labels of links, by cla.Class.
var linkClasses = [...]string{cla.Radio: "radio", cla.WiFi: "wifi", cla.LAN: "lan"}

// carriage is what links carried, in bytes.
type carriage struct{ tx, rx uint64 }

// carried is an open link.
type carried struct {
	class int
	count func() (tx, rx uint64)
}

func newMeter() *meter { return &meter{links: map[*carried]struct{}{}} }

// begin and end say that the node's parts can be asked, and no more.
func (m *meter) begin() { m.set(true) }
func (m *meter) end()   { m.set(false) }

func (m *meter) set(open bool) {
	m.whole.Lock()
	defer m.whole.Unlock()
	m.open = open
}

// carry counts a link until the function it returns is called.
func (m *meter) carry(class cla.Class, count func() (tx, rx uint64)) (done func()) {
	c := &carried{class: min(int(class), len(linkClasses)-1), count: count}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links[c] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		tx, rx := count()
		m.ended[c.class].tx += tx
		m.ended[c.class].rx += rx
		delete(m.links, c)
	}
}

// byClass sums up the links of this run.
func (m *meter) byClass() [len(linkClasses)]carriage {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.ended
	for c := range m.links {
		tx, rx := c.count()
		sum[c.class].tx += tx
		sum[c.class].rx += rx
	}
	return sum
}

// Health tells how the node is (GET /v1/health).
func (n *Node) health(ctx context.Context) api.Health {
	h := api.Health{Version: n.version, UptimeS: int64(time.Since(n.started) / time.Second), Clock: n.clockHealth(), Memory: n.memoryHealth()}
	h.Store.FloorBytes = uint64(n.cfg.FreeFloor())
	for p := mesh.Precedences - 1; p >= 0; p-- {
		h.Queue = append(h.Queue, api.HealthQueue{Precedence: strings.ToLower(bundle.Precedence(p).String())})
	}
	for c := cla.LAN; c >= cla.Radio; c-- {
		h.Links = append(h.Links, api.HealthLinks{Class: linkClasses[c]})
	}
	h.Counters.DelayBound = mesh.DelayBounds[:]
	h.Counters.Delay = make([]uint64, len(mesh.DelayBounds)+1)
	n.meter.whole.RLock()
	defer n.meter.whole.RUnlock()
	if n.meter.open {
		h.Enrolled = true
		n.agentHealth(&h)
		n.peerHealth(ctx, &h)
		n.storeHealth(&h)
		n.coreHealth(&h)
		h.Calls = n.calls.health()
		h.Archives = n.archiveHealth()
		h.Carry = n.lastCarry.Load()
	}
	return h
}

// agentHealth fills in what the agent and its links tell.
func (n *Node) agentHealth(h *api.Health) {
	st := n.agentStatus.get(n.agent.Status)
	for i := range h.Queue {
		q := st.Queue[mesh.Precedences-1-i]
		h.Queue[i].Bundles, h.Queue[i].Bytes, h.Queue[i].OldestS = q.Bundles, q.Bytes, int64(q.Oldest)
	}
	carried := n.meter.byClass()
	for i := range h.Links {
		c := int(cla.LAN) - i
		l, p := &h.Links[i], st.Counters.Payload[c]
		l.PayloadSent, l.PayloadReceived, l.Sent, l.Received = p.SentBytes, p.ReceivedBytes, carried[c].tx, carried[c].rx
	}
	for _, nb := range n.neighbours() {
		l := &h.Links[int(cla.LAN)-min(max(int(nb.Class), int(cla.Radio)), int(cla.LAN))]
		l.Contacts++
		l.Waiting += nb.Queued
	}
	n.storeShares(st, &h.Store)
	h.Counters = counts(st.Counters)
	h.Crowded, h.Refused = n.links.TurnedAway()
	h.Foreign, h.ForeignLast = n.gossip.Foreign()
	if n.bridge != nil {
		h.TAKRefused = n.bridge.srv.Stats().Refused
	}
}

func counts(c mesh.Counters) api.HealthCounts {
	out := api.HealthCounts{
		Submitted: c.Submitted, Received: c.Received, Sent: c.Sent, Delivered: c.Delivered, Demoted: c.Demoted, Stalls: c.Stalls,
		Duplicates: c.Dropped[mesh.DropDuplicate], Dropped: map[string]uint64{},
		Delay: c.Delay.Buckets[:], DelayBound: mesh.DelayBounds[:], DelaySum: c.Delay.Seconds,
	}
	for r, v := range c.Dropped {
		out.Dropped[string(r)] = v
	}
	return out
}

// peerHealth fills in who was ever heard, and who lives here.
func (n *Node) peerHealth(ctx context.Context, h *api.Health) {
	for _, p := range (operator{n}).Peers(ctx) {
		h.PeersKnown++
		if p.LastHeard.After(h.LastHeard) {
			h.LastHeard = p.LastHeard
		}
	}
	for _, u := range n.chat.Hosted() {
		if u.Unlocked {
			h.UsersUnlocked++
		} else {
			h.UsersLocked++
		}
		h.UsersWaiting += u.Waiting
	}
}

func (n *Node) storeHealth(h *api.Health) {
	st, err := n.store.Stats()
	if err != nil {
		n.log.Warn("the store does not tell its size", "err", err)
		return
	}
	h.Store.IndexBytes, h.Store.FreeBytes, h.Store.Syncs = st.IndexBytes, st.FreeBytes, st.Syncs
}

// storeShares fills in how full the store is, by the limits that refuse what
// finds no room. It asks no disk.
func (n *Node) storeShares(st mesh.Status, h *api.HealthStore) {
	h.Bytes, h.LimitBytes = uint64(st.Bytes), uint64(st.MaxByte)
	h.RelayedBytes, h.RelayedLimit = uint64(st.Bytes-st.OwnBytes), uint64(st.MaxRelayed)
	h.FileBytes, h.FileLimit = n.store.Blobs().Bytes(), uint64(n.cfg.FilesLimit())
}

func (n *Node) storeFull(st mesh.Status) bool {
	var h api.HealthStore
	n.storeShares(st, &h)
	return slices.ContainsFunc(h.Shares(), api.StoreShare.Full)
}

// clockSources are what a clock may be believed by.
var clockSources = []string{"kernel", "network", "none"}

func (n *Node) clockHealth() api.HealthClock {
	c := api.HealthClock{Source: "none", BelowFloor: n.clock.Suspect(), OffsetS: kernelOffset().Seconds()}
	switch {
	case kernelSynced():
		c.Source = "kernel"
	case n.clock.Trusted():
		c.Source = "network"
	}
	return c
}

// kernelOffset is what the kernel still has to correct (adjtimex(2)).
func kernelOffset() time.Duration {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return 0
	}
	if t.Status&unix.STA_NANO != 0 {
		return time.Duration(t.Offset)
	}
	return time.Duration(t.Offset) * time.Microsecond
}

func (n *Node) memoryHealth() api.HealthMemory {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	limit := debug.SetMemoryLimit(-1)
	if limit == 1<<63-1 {
		limit = 0
	}
	return api.HealthMemory{HeapBytes: m.HeapAlloc, ResidentBytes: resident(), LimitBytes: limit, Goroutines: runtime.NumGoroutine()}
}

// resident is the process's resident memory in bytes (proc_pid_statm(5)), 0
// where the kernel does not tell.
func resident() uint64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// Limits of the metrics listener. Whoever can reach loopback can ask, and
// nobody else; a scrape is a few kilobytes.
const maxScrapers = 16 // connections, 4 of one account

var scrapeTimes = api.Timeouts{Header: 5 * time.Second, Body: 5 * time.Second, Progress: 10 * time.Second, Drain: time.Second}

// serveMetrics answers on the listener of the settings until ctx ends; without
// one there is nothing to do.
func (n *Node) serveMetrics(ctx context.Context, l net.Listener) error {
	if l == nil {
		return nil
	}
	return api.Listeners{Pages: []api.Page{{Listener: l}}, Guests: n.guests.metrics, Most: maxScrapers, Timeouts: scrapeTimes, Log: n.log}.
		Serve(ctx, metrics.Server{Collect: n.collect})
}

// listenMetrics opens the listener, nil when the settings have none.
func listenMetrics(c config.Config) (net.Listener, error) {
	a, on := c.MetricsAddr()
	if !on {
		return nil, nil
	}
	l, err := net.Listen("tcp", a.String())
	if err != nil {
		return nil, fmt.Errorf("node: up: metrics: %w", err)
	}
	return l, nil
}
