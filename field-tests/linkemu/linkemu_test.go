package linkemu

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestExampleScenario(t *testing.T) {
	if _, err := Load("example.json"); err != nil {
		t.Fatal(err)
	}
}

func TestBadScenarios(t *testing.T) {
	for _, b := range []string{
		``, `{}`, `{"nodes":["a","a"]}`, `{"nodes":["a"],"nets":[{"name":"x","subnet":"x"}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"10.77.0.0/24","loss":2}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"fd00::/64"}]}`,
		`{"nodes":["a"],"nets":[{"name":"elevenplus-1","subnet":"10.77.0.0/24"}]}`,
		`{"nodes":["a"],"nets":[{"name":"lo","subnet":"10.77.0.0/24"}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"10.77.0.0/24"},{"name":"x","subnet":"10.78.0.0/24"}]}`,
		`{"nodes":["a","b","c"],"nets":[{"name":"x","subnet":"10.77.0.0/30"}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"10.77.0.0/24","mtu":67}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"10.77.0.0/24","mtu":9001}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"10.77.0.0/24","duplex":"quarter"}]}`,
		`{"nodes":["a"],"nets":[{"name":"x","subnet":"10.77.0.0/24","rate":-1}]}`,
		`{"nodes":["a"],"events":[{"at":1,"net":"no","up":true}]}`,
		`{"nodes":["a"],"events":[{"at":1,"a":"no","up":true}]}`,
		`{"nodes":["a"],"events":[{"at":1,"a":"a","one_way":true,"up":true}]}`,
		`{"nodes":["a"],"events":[{"at":1}]}`,
		`{"nodes":["a"],"events":[{"at":-1,"up":true}]}`,
		`{"nodes":["a"],"forward":["b"]}`, `{"nodes":["a"],"run":[{"node":"a"}]}`,
		`{"nodes":["a"],"typo":1}`, `{"nodes":["a/b"]}`, `{"nodes":["a"]}{}`, `{"nodes":["a"],"prefix":"../"}`,
	} {
		if _, err := Parse([]byte(b)); err == nil {
			t.Errorf("accepted %s", b)
		}
	}
}

func TestCSV(t *testing.T) {
	f := filepath.Join(t.TempDir(), "e.csv")
	write := func(s string) {
		if err := os.WriteFile(f, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("at,net,a,b,up,loss\n# plan\n5,vhf,a,b,false,\n9.5,vhf,,,,0.3\n")
	c, err := LoadCSV(f)
	if err != nil || len(c) != 2 || *c[0].Up || c[0].Loss != nil || c[1].At != 9.5 || *c[1].Loss != 0.3 {
		t.Fatalf("%+v %v", c, err)
	}
	write("at,up\n5,perhaps\n")
	if _, err := LoadCSV(f); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Fatal(err)
	}
	write("at,colour\n5,red\n")
	if _, err := LoadCSV(f); err == nil {
		t.Fatal("unknown column taken")
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("example.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"nodes":["a"],"events":[{"at":1,"up":true},{"at":0,"up":false}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if _, err := NewEther(s); err != nil && len(s.Links) == 0 {
			t.Fatalf("a checked scenario cannot be laid out: %v", err)
		}
	})
}

// wire is a port in memory: a test puts frames in, and takes out what the
// ether delivered, with the time.
type wire struct {
	in   chan []byte
	once sync.Once
	done chan struct{}

	mu  sync.Mutex
	got []arrival
}

type arrival struct {
	n  uint32
	at time.Time
}

func newWire() *wire { return &wire{in: make(chan []byte, 8192), done: make(chan struct{})} }

func (w *wire) Read(p []byte) (int, error) {
	select {
	case b := <-w.in:
		return copy(p, b), nil
	case <-w.done:
		return 0, io.EOF
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, arrival{binary.BigEndian.Uint32(p[14:]), time.Now()})
	return len(p), nil
}

func (w *wire) Close() error { w.once.Do(func() { close(w.done) }); return nil }

func (w *wire) arrived() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]arrival(nil), w.got...)
}

// lab is an ether whose ports are wires, inside a bubble of virtual time.
type lab struct {
	e     *Ether
	wires map[string]*wire
	macs  map[string][6]byte
}

func newLab(t *testing.T, s *Scenario) *lab {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	e, err := NewEther(s)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{e: e, wires: map[string]*wire{}, macs: map[string][6]byte{}}
	for _, i := range e.Interfaces() {
		l.wires[i.Node], l.macs[i.Node] = newWire(), i.MAC
		if err := e.Attach(i.Net, i.Node, l.wires[i.Node]); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// send puts frame number n of size bytes on the way; to "" is everybody.
func (l *lab) send(from, to string, n uint32, size int) {
	b := make([]byte, size)
	dst := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if to != "" {
		dst = l.macs[to]
	}
	src := l.macs[from]
	copy(b, dst[:])
	copy(b[6:], src[:])
	binary.BigEndian.PutUint32(b[14:], n)
	l.wires[from].in <- b
}

func (l *lab) link(from, to string) Counters {
	for _, r := range l.e.Report().Links {
		if r.From == from && r.To == to {
			return r.C
		}
	}
	return Counters{}
}

func scenario(n Net) *Scenario {
	n.Name, n.Subnet = "vhf", "10.77.1.0/24"
	return &Scenario{Seed: 1, Nodes: []string{"a", "b", "c"}, Nets: []Net{n}}
}

func TestHalfDuplexKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, scenario(Net{Duplex: "half", Rate: 9600, KeyMS: 20, DelayMS: 50, QueueMS: 1e6}))
		start := time.Now()
		for i := range uint32(20) { // two senders share one channel
			l.send("a", "c", 2*i, 120)
			l.send("b", "c", 2*i+1, 120)
		}
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		got := l.wires["c"].arrived()
		if len(got) != 40 {
			t.Fatalf("%d of 40 frames arrived", len(got))
		}
		// 120 B at 9,600 bit/s are 100 ms, and 20 ms of keying each.
		want := start.Add(40*120*time.Millisecond + 50*time.Millisecond)
		if d := got[39].at.Sub(want); d < -time.Millisecond || d > time.Millisecond {
			t.Errorf("the last frame came %v from when it should", d)
		}
		var a, b int
		for _, g := range got[:20] { // senders take turns
			if g.n%2 == 0 {
				a++
			} else {
				b++
			}
		}
		if a < 9 || b < 9 {
			t.Errorf("turns are unfair: %d and %d of the first 20", a, b)
		}
		if r := l.e.Report(); r.Nets[0].AirtimeS < 4.799 || r.Nets[0].AirtimeS > 4.801 {
			t.Errorf("airtime %v s, want 4.8", r.Nets[0].AirtimeS)
		}
	})
}

func TestLinksGoUpAndDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		no, yes := false, true
		s := scenario(Net{})
		s.Links = []Change{{A: "a", B: "b", Up: &no}}
		s.Events = []Change{{At: 10, A: "a", B: "b", Up: &yes}, {At: 5, A: "a", B: "c", OneWay: true, Up: &no}}
		l := newLab(t, s)
		synctest.Wait()
		l.send("a", "", 1, 100)
		synctest.Wait()
		time.Sleep(6 * time.Second)
		l.send("a", "", 2, 100) // nobody hears it
		l.send("c", "a", 3, 100)
		time.Sleep(5 * time.Second)
		l.send("a", "b", 4, 100)
		time.Sleep(time.Second)
		synctest.Wait()
		numbers := func(who string) (n []uint32) {
			for _, g := range l.wires[who].arrived() {
				n = append(n, g.n)
			}
			return n
		}
		if b := numbers("b"); len(b) != 1 || b[0] != 4 {
			t.Errorf("b heard %v, want [4]", b)
		}
		if c := numbers("c"); len(c) != 1 || c[0] != 1 {
			t.Errorf("c heard %v, want [1]", c)
		}
		if a := numbers("a"); len(a) != 1 || a[0] != 3 {
			t.Errorf("a heard %v, want [3]: the cut was one way", a)
		}
		if c := l.link("a", "b"); c.DownDrop != 2 || c.RxFrames != 1 {
			t.Errorf("counters of a to b: %+v", c)
		}
	})
}

func TestLossQueueAndCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, scenario(Net{Duplex: "half", Rate: 64000, Loss: 0.3, QueueMS: 1000, JitterMS: 30}))
		const frames = 4000
		for i := range uint32(frames) {
			l.send("a", "b", i, 200) // 25 ms each: 41 fill the queue
			if i%2 == 1 {
				time.Sleep(40 * time.Millisecond) // offered 1.25 times the rate
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		c := l.link("a", "b")
		if c.RxFrames+c.Lost+c.QueueDrop+c.DownDrop+c.Refused != frames {
			t.Errorf("frames unaccounted for: %+v", c)
		}
		if share := float64(c.Lost) / float64(c.TxFrames); share < 0.27 || share > 0.33 {
			t.Errorf("lost %.3f, want 0.3", share)
		}
		if c.QueueDrop < 500 || c.MaxQueueMS > 1060 {
			t.Errorf("queue: %+v", c)
		}
		last := int64(-1)
		for _, g := range l.wires["b"].arrived() {
			if int64(g.n) <= last {
				t.Fatalf("frame %d came after %d", g.n, last)
			}
			last = int64(g.n)
		}
		if bad := l.e.Apply(Change{Net: "uhf", Loss: new(float64)}); bad == nil {
			t.Error("a change of an unknown net was taken")
		}
	})
}

func TestFullDuplexDirectionsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, scenario(Net{Rate: 8000, QueueMS: 1e6})) // 100 B are 100 ms
		start := time.Now()
		for i := range uint32(10) {
			l.send("a", "b", i, 100)
			l.send("b", "a", i, 100)
			l.send("c", "b", i, 100)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for who, want := range map[string]int{"a": 10, "b": 20} {
			got := l.wires[who].arrived()
			if len(got) != want || got[len(got)-1].at.Sub(start) != time.Second {
				t.Errorf("%s: %d frames, last after %v; want %d after 1 s", who, len(got), got[len(got)-1].at.Sub(start), want)
			}
		}
		fast := 80000.0
		if err := l.e.Apply(Change{A: "a", B: "b", OneWay: true, Rate: &fast}); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		l.send("a", "b", 77, 100)
		l.send("b", "a", 78, 100)
		time.Sleep(time.Second)
		synctest.Wait()
		b, a := l.wires["b"].arrived(), l.wires["a"].arrived()
		if d := b[len(b)-1].at.Sub(start); d != 10*time.Millisecond {
			t.Errorf("faster direction took %v", d)
		}
		if d := a[len(a)-1].at.Sub(start); d != 100*time.Millisecond {
			t.Errorf("other direction took %v", d)
		}
	})
}

func TestEveryInterfaceNeedsAPort(t *testing.T) {
	s := scenario(Net{})
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	e, err := NewEther(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err == nil {
		t.Error("ran without ports")
	}
	if err := e.Attach("vhf", "nobody", newWire()); err == nil {
		t.Error("attached an unknown node")
	}
	if err := e.Attach("vhf", "a", newWire()); err != nil {
		t.Error(err)
	}
	if err := e.Attach("vhf", "a", newWire()); err == nil {
		t.Error("attached twice")
	}
}
