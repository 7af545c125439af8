package calls

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"outrider/field-tests/browser"
	"outrider/field-tests/scenario"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// world is what all tests share: two Chromiums and a node with three users.
type world struct {
	browsers [2]*browser.Browser
	box      *scenario.Box
	dir      string
	port     int // of calls
}

var (
	shared   *world
	errWorld error
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "outrider-calls-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared, errWorld = newWorld(dir)
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// names are the users of the node.
var names = []string{"alice", "bob", "carol"}

func newWorld(dir string) (*world, error) {
	w := &world{dir: dir}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range w.browsers {
		wg.Go(func() {
			w.browsers[i], errs[i] = browser.Start(context.Background(), browser.Options{Flags: map[string]any{
				"use-fake-device-for-media-stream": true, "use-fake-ui-for-media-stream": true,
			}})
		})
	}
	wg.Go(func() { errs[2] = w.start(ctx) })
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

// start builds the node with the tap in it and brings it up.
func (w *world) start(ctx context.Context) error {
	root, err := scenario.Root()
	if err != nil {
		return err
	}
	bin := filepath.Join(w.dir, "outrider")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "calltap", "-o", bin, "./node/outrider")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	if err := os.Setenv("OUTRIDER_CALL_TAP", w.tap()); err != nil {
		return err
	}
	ports, err := scenario.FreePorts("127.0.0.1", 4) // at once, so that they differ
	if err != nil {
		return err
	}
	w.box = scenario.NewBoxAlone(w.dir, "alpha", bin, "127.0.0.1")
	w.box.Gossip, w.box.Mesh, w.box.Page, w.port = ports[0], ports[1], ports[2], ports[3]
	if _, err := w.box.Init(ctx); err != nil {
		return err
	}
	if err := w.box.Configure("lan", fmt.Sprintf("\n[calls]\nlisten = \"127.0.0.1:%d\"\n", w.port)); err != nil {
		return err
	}
	if err := w.box.CreateNetwork(ctx, "eagle"); err != nil {
		return err
	}
	for _, name := range names {
		if err := w.box.HostUser(ctx, name); err != nil {
			return err
		}
	}
	return w.box.Up(ctx)
}

func (w *world) tap() string { return filepath.Join(w.dir, "tap") }

func (w *world) close() error {
	for _, b := range w.browsers {
		if b != nil {
			b.Close()
		}
	}
	if w.box == nil {
		return nil
	}
	return w.box.Stop()
}

// payloads empties the tap: everything that the node has forwarded since.
func (w *world) payloads(t *testing.T) (out [][]byte) {
	t.Helper()
	raw, err := os.ReadFile(w.tap())
	if err == nil {
		err = os.Truncate(w.tap(), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) >= 2 && len(raw) >= 2+int(binary.BigEndian.Uint16(raw)) {
		n := int(binary.BigEndian.Uint16(raw))
		out = append(out, raw[2:2+n])
		raw = raw[2+n:]
	}
	return out
}

// figures are what the node counts.
type figures struct {
	Running      int    `json:"running"`
	Participants int    `json:"participants"`
	Forwarded    uint64 `json:"forwarded_packets"`
}

func (w *world) figures(t *testing.T) figures {
	t.Helper()
	var h struct{ Calls figures }
	if err := w.box.API.Do(t.Context(), "GET", "/v1/health", nil, &h); err != nil {
		t.Fatal(err)
	}
	return h.Calls
}

// idle waits until the node has nothing of a call any more, its port included.
func (w *world) idle(t *testing.T) {
	t.Helper()
	until(t, "an idle node", func() bool {
		f := w.figures(t)
		return f.Running == 0 && f.Participants == 0
	})
	until(t, "a closed port", func() bool {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: w.port})
		if err != nil {
			return false
		}
		defer c.Close()
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: w.port})
		if err != nil {
			return false
		}
		return l.Close() == nil
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not come in %v", what, patience)
		}
		<-time.After(20 * time.Millisecond) // polling with a deadline: real processes
	}
}

// A phone is a window of a logged-in user.
type phone struct {
	t    *testing.T
	name string
	*browser.Page
}

// options alter the windows of a pair.
type options struct {
	script [2]string // run before the page, in alice's and bob's window
	url    string    // of the page; the node's own
}

// pair is alice and bob at their windows, each with the other's chat open.
func pair(t *testing.T, o options) (alice, bob *phone) {
	t.Helper()
	if errWorld != nil {
		t.Fatal(errWorld)
	}
	if o.url == "" {
		o.url = shared.box.PageURL()
	}
	var phones [2]*phone
	for i, name := range names[:2] {
		p, err := shared.browsers[i].Page(browser.PageOptions{Width: 900, Height: 700, Script: o.script[i]})
		if err != nil {
			t.Fatal(err)
		}
		ph := &phone{t, name, p}
		t.Cleanup(func() {
			for _, problem := range p.Problems() {
				t.Errorf("%s's page: %s", name, problem)
			}
			ph.do(`fetch('/v1/session', { method: 'DELETE', headers: { 'X-Outrider': '1' } }).then(() => true)`)
			p.Close()
		})
		ph.must(p.Open(o.url))
		ph.must(p.Login(name, scenario.UserPassword))
		phones[i] = ph
	}
	for i, ph := range phones {
		ph.must(ph.OpenChat(names[1-i]))
		ph.must(ph.Wait("the button to call", `document.querySelector('#call-start')`))
	}
	shared.idle(t)
	_, _ = os.Create(shared.tap())
	return phones[0], phones[1]
}

func (p *phone) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

func (p *phone) do(expression string) {
	_, _ = browser.Eval[bool](p.Page, expression)
}

// call is the JavaScript of a module of calls.
func call(module string) string {
	return `(await import(new URL('call/` + module + `', document.querySelector('script[type="module"]').src).href))`
}

// report is how a window's call is.
type report struct {
	State      string  `json:"state"`
	Stage      string  `json:"stage"`
	Code       string  `json:"code"`
	Sealed     int     `json:"sealed"`
	Opened     int     `json:"opened"`
	Failed     int     `json:"failed"`
	Packets    int     `json:"packets"`
	Energy     float64 `json:"energy"`
	Silent     bool    `json:"silent"`
	Speaking   bool    `json:"speaking"`
	Rebuilds   int     `json:"rebuilds"`
	Connection string  `json:"connection"`
}

// plays tells whether anything of the call can be heard.
func (r report) plays() bool { return r.Connection != "" && (r.Opened != 0 || !r.Silent) }

// report asks a window; there is none without a call.
func (p *phone) report() (r report, ok bool) {
	p.t.Helper()
	text, err := browser.Eval[string](p.Page, `(async () => JSON.stringify(`+call("call.mjs")+`.report()))()`)
	p.must(err)
	if text == "null" {
		return r, false
	}
	p.must(json.Unmarshal([]byte(text), &r))
	return r, true
}

// ring lets alice call and waits until it rings at bob.
func ring(alice, bob *phone) {
	alice.t.Helper()
	alice.must(alice.Click("#call-start"))
	bob.must(bob.Wait("the ringing", `document.querySelector('#call-accept')`))
}

// talking is ring, and bob accepts.
func talking(alice, bob *phone) {
	alice.t.Helper()
	ring(alice, bob)
	bob.must(bob.Click("#call-accept"))
}

// heard waits until both have opened n frames and both speak.
func heard(t *testing.T, n int, phones ...*phone) {
	t.Helper()
	for _, p := range phones {
		until(t, p.name+" hears", func() bool {
			r, ok := p.report()
			return ok && r.Opened >= n && r.Speaking && !r.Silent
		})
	}
}

// hangUp ends the call at one window and waits until the other knows.
func hangUp(by, other *phone) {
	by.t.Helper()
	by.must(by.Click("#call-end"))
	until(by.t, "the end at "+other.name, func() bool { _, ok := other.report(); return !ok })
}

// over ends a call that may have ended by itself meanwhile, and waits until both
// windows know.
func over(phones ...*phone) {
	phones[0].t.Helper()
	phones[0].do(`(document.querySelector('#call-end')?.click(), true)`)
	for _, p := range phones {
		until(p.t, "the end at "+p.name, func() bool { _, ok := p.report(); return !ok })
	}
}
