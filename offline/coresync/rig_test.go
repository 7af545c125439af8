package coresync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/field-tests/core"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

func TestMain(m *testing.M) {
	code := m.Run()
	theRig.close()
	err := goleak.Find()
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); { // what the last test left behind ends
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// rig is a real cluster of three servers and its desk, one for all tests of
// this package: each uses nodes and tags of its own.
type rig struct {
	once sync.Once
	err  error
	dir  string
	dev  *Dev
	mu   sync.Mutex
	stop func()
}

var theRig rig

// cluster starts the servers when the first test needs them.
func cluster(t testing.TB) *Dev {
	t.Helper()
	theRig.once.Do(theRig.start)
	if theRig.err != nil {
		t.Fatal(theRig.err)
	}
	return theRig.dev
}

func (r *rig) start() {
	server, err := core.Server()
	if err != nil {
		r.err = err
		return
	}
	if r.dir, r.err = os.MkdirTemp("", "outrider-core-"); r.err != nil {
		return
	}
	if r.dev, r.err = makeDev(r.dir); r.err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.dev.Run(ctx, server, slog.New(slog.DiscardHandler), func() { close(ready) }) }()
	r.stop = func() {
		cancel()
		<-ended
	}
	select {
	case <-ready:
	case r.err = <-ended:
		r.stop = cancel
	}
}

// makeDev chooses ports below those that the system gives to whoever asks for
// any: until the servers listen, and while one of them is down, nobody else is
// given theirs.
func makeDev(dir string) (d *Dev, err error) {
	for range 100 {
		if d, err = MakeDev(dir, 10_000+20*mrand.IntN(1000)); err == nil || !strings.Contains(err.Error(), "is taken") {
			return d, err
		}
	}
	return d, err
}

func (r *rig) close() {
	if r.stop != nil {
		r.stop()
	}
	os.RemoveAll(r.dir)
}

// settings are a new node's.
func settings(t testing.TB, name string) Config {
	t.Helper()
	d := cluster(t)
	theRig.mu.Lock()
	defer theRig.mu.Unlock()
	c, err := d.Add(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running starts an edge that ends with the test.
func running(t testing.TB, c Config) *Edge {
	t.Helper()
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return e
}

func edge(t testing.TB, name string) *Edge { return running(t, settings(t, name)) }

// patiently bounds a test's waiting; nothing takes nearly as long.
func patiently(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := patiently(t)
	for !ok() {
		if !pause(ctx, context.Background(), 10*time.Millisecond) {
			t.Fatalf("never: %s", what)
		}
	}
}

func newTag() (t identity.Tag) {
	_, _ = rand.Read(t[:])
	return t
}

var aKey = bundle.PurgeKey{1, 2, 3}

// mail makes a bundle of random bytes, which stand for ciphertext.
func mail(t testing.TB, tag identity.Tag, size int) bundle.Bundle {
	t.Helper()
	payload := make([]byte, size)
	_, _ = rand.Read(payload)
	return letter(t, tag, bundle.KindMessage, payload)
}

func letter(t testing.TB, tag identity.Tag, kind bundle.Kind, payload []byte) bundle.Bundle {
	t.Helper()
	b, err := bundle.New(bundle.Header{Version: 1, Tag: tag, Lifetime: 24 * time.Hour, Commitment: aKey.Commit(tag), Kind: kind}, payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file makes a blob of random bytes, as chunks.
func file(t testing.TB, size int) (d blob.Descriptor, chunks []Chunk) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	bld := new(blob.Builder)
	d.Length = uint64(size)
	geo := d.Geometry()
	for i := range geo.Leaves() {
		if err := bld.AddLeaf(data[geo.Offset(i):][:geo.LeafLen(i)]); err != nil {
			t.Fatal(err)
		}
	}
	root, h := bld.Finish()
	d.Root = root
	for g := range geo.Groups() {
		proof, err := blob.Proof(h, g).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		c := Chunk{Blob: d, Index: g, Proof: proof}
		first, end := geo.GroupRange(g)
		for i := first; i < end; i++ {
			c.Leaves = append(c.Leaves, data[geo.Offset(i):][:geo.LeafLen(i)])
		}
		chunks = append(chunks, c)
	}
	return d, chunks
}

// inbox collects what an edge pulls.
type inbox struct {
	mu   sync.Mutex
	got  map[bundle.ID]int
	last map[bundle.ID]Parcel
}

// pulling keeps pulling until the test ends, and acknowledges.
func pulling(t testing.TB, e *Edge) *inbox {
	in := &inbox{got: map[bundle.ID]int{}, last: map[bundle.ID]Parcel{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = e.Pull(ctx, func(p Parcel) error {
				in.mu.Lock()
				defer in.mu.Unlock()
				in.got[p.ID]++
				in.last[p.ID] = p
				e.Ack(p)
				return nil
			})
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return in
}

func (in *inbox) count(id bundle.ID) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.got[id]
}

func (in *inbox) parcel(id bundle.ID) Parcel {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.last[id]
}

func (in *inbox) len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.got)
}

func put(t testing.TB, e *Edge, it Item) Fate {
	t.Helper()
	f, err := e.Put(patiently(t), it)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// watch names mailboxes, and returns since when the core delivers; on a busy
// machine the servers may take their time.
func watch(t testing.TB, e *Edge, m Mailboxes) (since time.Time) {
	t.Helper()
	until(t, "the core takes the mailboxes", func() (ok bool) {
		var err error
		since, err = e.Watch(patiently(t), m)
		return err == nil
	})
	return since
}
