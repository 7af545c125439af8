package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"outrider/field-tests/linkemu"
)

// A World is a scenario that stands: its nodes, joined by its nets.
type World struct {
	s     *linkemu.Scenario
	ether *linkemu.Ether
	nodes map[string]*Node
	addrs map[[2]string]netip.Addr // node, net

	taps   []*os.File // the ether's once it runs
	cancel context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	closed   bool
	closeErr error
}

// New builds a scenario for a test and takes it down at the test's end.
func New(t testing.TB, s linkemu.Scenario) *World {
	t.Helper()
	w, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Build makes the nodes and nets of a scenario and starts to carry frames. The
// scenario's Run list and Duration are the linkemu command's business and are
// not looked at.
func Build(s linkemu.Scenario) (*World, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	ether, err := linkemu.NewEther(&s)
	if err != nil {
		return nil, err
	}
	w := &World{s: &s, ether: ether, nodes: map[string]*Node{}, addrs: map[[2]string]netip.Addr{}, ended: make(chan error, 1)}
	if err := w.build(); err != nil {
		w.ended <- nil
		for _, tap := range w.taps {
			err = errors.Join(err, tap.Close())
		}
		return nil, errors.Join(err, w.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.ended <- ether.Run(ctx) }()
	return w, nil
}

func (w *World) build() error {
	for _, name := range w.s.Nodes {
		ns, err := newNamespace()
		if err != nil {
			return err
		}
		w.nodes[name] = &Node{Name: name, ns: ns, world: w}
	}
	for _, f := range w.s.Forward {
		if err := w.nodes[f].ns.do(func() error { return sysctl("net/ipv4/ip_forward", "1") }); err != nil {
			return err
		}
	}
	for _, i := range w.ether.Interfaces() {
		w.addrs[[2]string{i.Node, i.Net}] = i.Addr.Addr()
		var tap *os.File
		err := w.nodes[i.Node].ns.do(func() (err error) {
			if tap, err = linkemu.OpenTAP(i.Net); err != nil {
				return err
			}
			return linkemu.Configure(i)
		})
		if tap != nil {
			w.taps = append(w.taps, tap)
			err = errors.Join(err, w.ether.Attach(i.Net, i.Node, tap))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close kills what runs in the nodes and takes everything down. Further calls
// return the same.
func (w *World) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.closeErr
	}
	w.closed = true
	var errs []error
	for _, n := range w.nodes {
		errs = append(errs, n.close())
	}
	if w.cancel != nil {
		w.cancel()
	}
	errs = append(errs, <-w.ended)
	for _, n := range w.nodes {
		errs = append(errs, n.ns.f.Close())
	}
	w.closeErr = errors.Join(errs...)
	return w.closeErr
}

// Node returns a node by its name in the scenario; an unknown name is a bug of
// the test and panics.
func (w *World) Node(name string) *Node {
	n := w.nodes[name]
	if n == nil {
		panic("netns: no node " + name)
	}
	return n
}

// Addr returns a node's address on a net; unknown names panic.
func (w *World) Addr(node, net string) netip.Addr {
	a, ok := w.addrs[[2]string{node, net}]
	if !ok {
		panic(fmt.Sprintf("netns: node %s is not on net %s", node, net))
	}
	return a
}

// Apply changes links now.
func (w *World) Apply(c linkemu.Change) error { return w.ether.Apply(c) }

// Cut takes the links between two nodes down, on a net or ("") on all; "" for
// a node means every one.
func (w *World) Cut(net, a, b string) error { return w.setUp(net, a, b, false) }

// Heal brings the links between two nodes up again.
func (w *World) Heal(net, a, b string) error { return w.setUp(net, a, b, true) }

func (w *World) setUp(net, a, b string, up bool) error {
	return w.ether.Apply(linkemu.Change{Net: net, A: a, B: b, Up: &up})
}

// Report reads the links' counters.
func (w *World) Report() linkemu.Report { return w.ether.Report() }

// Bytes returns the Ethernet bytes that a node's interface on a net took from
// the others (rx) and left the air from it (tx, once per receiver).
func (w *World) Bytes(node, net string) (tx, rx int64) {
	for _, l := range w.Report().Links {
		if l.Net != net {
			continue
		}
		if l.From == node {
			tx += l.C.TxBytes
		}
		if l.To == node {
			rx += l.C.RxBytes
		}
	}
	return tx, rx
}

// A Node is one network namespace of a World.
type Node struct {
	Name  string
	ns    *namespace
	world *World

	mu       sync.Mutex
	closed   bool
	running  map[*Process]bool
	captures map[*Capture]bool
}

// Do runs f on a thread inside the node: sockets it opens and processes it
// starts belong to the node, also afterwards. Goroutines that f starts do not.
func (n *Node) Do(f func() error) error { return n.ns.do(f) }

// Dial connects from inside the node, by IP address.
func (n *Node) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	if _, perr := netip.ParseAddrPort(addr); perr != nil {
		return nil, fmt.Errorf("netns: dial: %w", perr)
	}
	err = n.Do(func() error {
		var d net.Dialer
		d.FallbackDelay = -1 // no second goroutine, which would be outside
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen listens inside the node, by IP address.
func (n *Node) Listen(network, addr string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, addr)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket inside the node, by IP address.
func (n *Node) ListenPacket(network, addr string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenPacket(network, addr)
		return err
	})
	return c, err
}

// close ends what runs in the node and its captures.
func (n *Node) close() error {
	n.mu.Lock()
	n.closed = true
	var processes []*Process
	for p := range n.running {
		processes = append(processes, p)
	}
	var captures []*Capture
	for c := range n.captures {
		captures = append(captures, c)
	}
	n.mu.Unlock()
	var errs []error
	for _, p := range processes {
		p.Kill()
		<-p.exited
	}
	for _, c := range captures {
		_, err := c.Close()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
