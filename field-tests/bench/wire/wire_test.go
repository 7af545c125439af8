package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"outrider/field-tests/bench"
	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
	"outrider/mesh/bundle"
	"outrider/store"
)

func TestMain(m *testing.M) {
	os.Exit(netns.Main(func() int {
		code := m.Run()
		bench.Clean()
		return code
	}))
}

const (
	messageBytes = 200
	messages     = 7                // measured; the median counts
	after        = 4 * time.Second  // from a message's end to the next: what is batched goes out
	limit        = 10 * time.Minute // for everything
)

// BenchmarkMessageWire measures one direct message of 200 bytes that do not
// compress, on an open link between two nodes whose users have written each
// other before (decisions 26).
//
//	header-B  header and hop part of its bundle
//	sealed-B  the bundle's payload
//	wire-B    Ethernet bytes of the link in both directions, from sending to
//	          four seconds after "delivered": the bundle, its acknowledgement,
//	          the purge record that is its receipt, what the transports add;
//	          the median of seven messages
//	frames    of these bytes
//	idle-B    bytes of the same open link in as long a time without a message
func BenchmarkMessageWire(b *testing.B) {
	for _, profile := range []string{"lan", "wifi", "radio"} {
		b.Run(profile, func(b *testing.B) {
			for b.Loop() {
				measure(b, profile)
			}
		})
	}
}

// air is two nodes that share a medium, and what is heard on it.
type air struct {
	*bench.Pair
	capture *netns.Capture
	path    string
	alice   scenario.Person
	bob     scenario.Person
}

func measure(b *testing.B, profile string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	defer cancel()
	a, err := newAir(b, ctx, profile)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Kill()
	windows, err := a.talk(ctx)
	if err != nil {
		b.Fatalf("%v\na: %s\nb: %s", err, a.A.Tail(), a.B.Tail())
	}
	header, sealed, err := a.hold(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if r, err := a.capture.Close(); err != nil {
		b.Fatalf("capture of %d frames, %d dropped: %v", r.Packets, r.Dropped, err)
	}
	sizes, frames, err := Count(a.path, uint16(a.A.Mesh), windows)
	if err != nil {
		b.Fatal(err)
	}
	for i, n := range sizes[1:] {
		if n < header+sealed {
			b.Fatalf("message %d: %d bytes on the wire, fewer than the %d of its bundle", i+1, n, header+sealed)
		}
	}
	b.ReportMetric(float64(header), "header-B")
	b.ReportMetric(float64(sealed), "sealed-B")
	b.ReportMetric(float64(median(sizes[1:])), "wire-B")
	b.ReportMetric(float64(median(frames[1:])), "frames")
	b.ReportMetric(float64(sizes[0]), "idle-B")
}

func median(list []int) int {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func newAir(b *testing.B, ctx context.Context, profile string) (*air, error) {
	dir, bin := bench.Dir(b), bench.Binary(b)
	world := netns.New(b, linkemu.Scenario{
		Nodes: []string{"a", "b"},
		Nets:  []linkemu.Net{{Name: "air", Subnet: "10.78.0.0/24", DelayMS: 1}},
	})
	a := &air{path: filepath.Join(dir, "air.pcap")}
	var err error
	if a.Pair, err = bench.NewPair(ctx, profile, boxes(world, dir, bin)); err != nil {
		return nil, err
	}
	if a.capture, err = world.Node("a").Capture("air", a.path); err != nil {
		return nil, err
	}
	if err := a.Up(ctx); err != nil {
		a.Kill()
		return nil, err
	}
	return a, nil
}

// boxes makes nodes for bench.NewPair that live in the namespaces of a world.
func boxes(world *netns.World, dir, bin string) func(name string) (*scenario.Box, error) {
	return func(name string) (*scenario.Box, error) {
		box := scenario.NewBoxAlone(dir, name, bin, world.Addr(name, "air").String())
		box.Launch = func(cmd *exec.Cmd) error {
			cmd.SysProcAttr.Pdeathsig = 0 // it would act when the namespace's thread ends
			return world.Node(name).Do(cmd.Start)
		}
		return box, nil
	}
}

// talk lets both users write once, so that each has keys and an open epoch of
// the other, and then sends what is measured. The first window is without a
// message.
func (a *air) talk(ctx context.Context) (windows []Window, err error) {
	if a.alice, err = a.A.API.Login(ctx, "alice", scenario.UserPassword); err != nil {
		return nil, err
	}
	if a.bob, err = a.B.API.Login(ctx, "bob", scenario.UserPassword); err != nil {
		return nil, err
	}
	for _, x := range []struct {
		api *scenario.Client
		to  string
	}{{a.A.API, a.bob.ID}, {a.B.API, a.alice.ID}} {
		if err := known(ctx, x.api, x.to); err != nil {
			return nil, err
		}
		if err := deliver(ctx, x.api, x.to, "set-up"); err != nil {
			return nil, err
		}
	}
	r := rand.NewChaCha8([32]byte{26})
	<-time.After(2 * after)
	for i := range messages + 1 {
		w := Window{From: time.Now()}
		if i > 0 {
			if err := deliver(ctx, a.A.API, a.bob.ID, text(r)); err != nil {
				return nil, err
			}
		}
		<-time.After(after)
		w.To = time.Now()
		windows = append(windows, w)
	}
	return windows, nil
}

// known waits until a user's keys have come.
func known(ctx context.Context, api *scenario.Client, user string) error {
	return scenario.Poll(ctx, "the other user's keys", func() (bool, error) {
		people, err := api.Users(ctx)
		return slices.ContainsFunc(people, func(p scenario.Person) bool { return p.ID == user && p.HasKeys }), err
	})
}

// deliver sends a text and waits until it was read by the other device.
func deliver(ctx context.Context, api *scenario.Client, to, text string) error {
	m, err := api.Send(ctx, to, text)
	if err != nil {
		return err
	}
	return scenario.Poll(ctx, "a message to be delivered", func() (bool, error) {
		m, err := api.Message(ctx, m.ID)
		if err == nil && m.State != "delivered" && m.State != "read" {
			err = fmt.Errorf("it is %s %s", m.State, m.Reason)
			return false, err
		}
		return err == nil, err
	})
}

// text is random printable ASCII: 6.6 bits in each byte, nothing for a
// compressor.
func text(r *rand.ChaCha8) string {
	out := make([]byte, messageBytes)
	for i := range out {
		out[i] = '!' + byte(r.Uint64()%94)
	}
	return string(out)
}

// hold sends a message while the way is shut, stops the sender and looks at
// what it keeps: the header and hop part of the message's bundle, and its
// payload, in bytes.
func (a *air) hold(ctx context.Context) (header, sealed int, err error) {
	if err := a.B.API.SetLink(ctx, a.AID, false); err != nil {
		return 0, 0, err
	}
	if err := a.Part(ctx); err != nil {
		return 0, 0, err
	}
	if _, err := a.A.API.Send(ctx, a.bob.ID, text(rand.NewChaCha8([32]byte{27}))); err != nil {
		return 0, 0, err
	}
	if err := a.Stop(); err != nil {
		return 0, 0, err
	}
	s, err := store.Open(filepath.Join(a.A.Dir, "db"), store.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	n := 0
	for r, err := range s.Bundles(store.Query{}) {
		if err != nil {
			return 0, 0, err
		}
		h, err := bundle.ParseHeader(r.Header)
		if err != nil {
			return 0, 0, err
		}
		if h.Kind == bundle.KindMessage && r.Meta.Own {
			n++
			header, sealed = len(r.Header)+len(r.Hop.Append(nil)), int(r.PayloadLen)
		}
	}
	if n != 1 {
		return 0, 0, fmt.Errorf("wire: the sender holds %d messages of its own, want the one that waits", n)
	}
	return header, sealed, nil
}
