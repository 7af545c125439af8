// Package clatest is the conformance suite for convergence layers: what
// cla.Link and cla.Layer promise, as tests that every implementation runs,
// the fake included, so that fakes stay honest.
package clatest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"outrider/mesh/cla"
)

// patience bounds what has to happen; nothing waits so long unless it fails.
const patience = time.Minute

// A Pair is a fresh link between two nodes. Cut breaks the medium under it
// without telling anybody; an implementation must notice within patience.
type Pair struct {
	A, B cla.Link
	Cut  func()
}

// A Runner runs one test of a suite: Plain, or synctest.Test for an
// implementation that needs no real sockets.
type Runner func(t *testing.T, test func(t *testing.T))

// Plain runs a test as it is.
func Plain(t *testing.T, test func(t *testing.T)) { test(t) }

// TestLink runs the suite for links. open makes a new pair for each test and
// leaves its clean-up to t.
func TestLink(t *testing.T, in Runner, open func(t *testing.T) Pair) {
	tests := []struct {
		name string
		run  func(t *testing.T, p Pair)
	}{
		{"Introduction", testIntroduction},
		{"Order", testOrder},
		{"Sizes", testSizes},
		{"SliceIsTheCallers", testSliceIsTheCallers},
		{"FullDuplex", testFullDuplex},
		{"BackPressure", testBackPressure},
		{"CutMidFrame", testCutMidFrame},
		{"CloseDelivers", testCloseDelivers},
		{"CloseUnblocks", testCloseUnblocks},
		{"RecvCancel", testRecvCancel},
		{"SendCancel", testSendCancel},
		{"Counters", testCounters},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T) { tt.run(t, open(t)) })
		})
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, l cla.Link, frame []byte) {
	t.Helper()
	if err := l.Send(within(t), frame); err != nil {
		t.Fatalf("send %d bytes: %v", len(frame), err)
	}
}

func recv(t *testing.T, l cla.Link) []byte {
	t.Helper()
	frame, err := l.Recv(within(t))
	if err != nil {
		t.Fatalf("recv: %v", err)
	}
	return frame
}

// wantClosed waits until both directions of l have ended.
func wantClosed(t *testing.T, l cla.Link) {
	t.Helper()
	for {
		_, err := l.Recv(within(t))
		if errors.Is(err, cla.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatalf("recv on an ended link: %v, want cla.ErrClosed", err)
		}
	}
	if err := l.Send(within(t), []byte{1}); !errors.Is(err, cla.ErrClosed) {
		t.Fatalf("send on an ended link: %v, want cla.ErrClosed", err)
	}
}

// numbered makes frame i: its number, then bytes that follow from it.
func numbered(i, size int) []byte {
	size = max(size, 4)
	frame := make([]byte, size)
	binary.BigEndian.PutUint32(frame, uint32(i))
	for k := 4; k < size; k++ {
		frame[k] = byte(i*31 + k)
	}
	return frame
}

func testIntroduction(t *testing.T, p Pair) {
	if p.A.Peer() == p.B.Peer() || p.A.Peer().IsZero() || p.B.Peer().IsZero() {
		t.Fatal("the two ends must name each other")
	}
	for _, l := range []cla.Link{p.A, p.B} {
		i := l.Info()
		if i.Class < cla.Radio || i.Class > cla.LAN || i.Version == 0 || i.Addr == "" {
			t.Fatalf("info lacks something: %+v", i)
		}
	}
	if p.A.Info().Dialled == p.B.Info().Dialled {
		t.Fatal("exactly one end dialled")
	}
}

func testOrder(t *testing.T, p Pair) {
	const n = 500
	rnd := rand.New(rand.NewPCG(1, 2))
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 4 + rnd.IntN(3000)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i, size := range sizes {
			if err := p.A.Send(within(t), numbered(i, size)); err != nil {
				t.Errorf("send %d: %v", i, err)
				return
			}
		}
	})
	for i, size := range sizes {
		if got := recv(t, p.B); !bytes.Equal(got, numbered(i, size)) {
			t.Fatalf("frame %d of %d bytes arrived changed or out of order (%d bytes)", i, size, len(got))
		}
	}
}

func testSizes(t *testing.T, p Pair) {
	for _, size := range []int{0, cla.MaxFrame + 1} {
		if err := p.A.Send(within(t), make([]byte, size)); !errors.Is(err, cla.ErrFrameSize) {
			t.Fatalf("send %d bytes: %v, want cla.ErrFrameSize", size, err)
		}
	}
	for _, size := range []int{1, 127, 128, 16383, 16384, cla.MaxFrame - 1, cla.MaxFrame} {
		frame := bytes.Repeat([]byte{byte(size)}, size)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.A.Send(within(t), frame); err != nil {
				t.Errorf("send %d bytes: %v", size, err)
			}
		})
		if got := recv(t, p.B); !bytes.Equal(got, frame) {
			t.Fatalf("a frame of %d bytes arrived as %d other bytes", size, len(got))
		}
		wg.Wait()
	}
}

func testSliceIsTheCallers(t *testing.T, p Pair) {
	frame := numbered(7, 2000)
	want := bytes.Clone(frame)
	send(t, p.A, frame)
	clear(frame)
	first := recv(t, p.B)
	send(t, p.A, numbered(8, 2000))
	recv(t, p.B)
	if !bytes.Equal(first, want) {
		t.Fatal("the link kept using a slice that was the caller's")
	}
}

func testFullDuplex(t *testing.T, p Pair) {
	const n = 200
	var wg sync.WaitGroup
	for _, ends := range [][2]cla.Link{{p.A, p.B}, {p.B, p.A}} {
		from, to := ends[0], ends[1]
		wg.Go(func() {
			for i := range n {
				if err := from.Send(within(t), numbered(i, 4000)); err != nil {
					t.Errorf("send %d: %v", i, err)
					return
				}
			}
		})
		wg.Go(func() {
			for i := range n {
				got, err := to.Recv(within(t))
				if err != nil || !bytes.Equal(got, numbered(i, 4000)) {
					t.Errorf("frame %d: %d bytes, %v", i, len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

const (
	mostBuffered = 64 << 20               // a transport may buffer, but not without end
	blocked      = 400 * time.Millisecond // a Send that takes longer is held back
)

// fill sends on l until it blocks for a while, and returns how many frames
// it took, one at least. One more may be on its way.
func fill(t *testing.T, l cla.Link, size int) int {
	t.Helper()
	send(t, l, numbered(0, size)) // a busy machine may be slow with it, and then nothing would be under way
	for i := 1; i*size < mostBuffered; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), blocked)
		err := l.Send(ctx, numbered(i, size))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return i
		}
		if err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
	}
	t.Fatalf("the link took %d bytes that nobody read", mostBuffered)
	return 0
}

func testBackPressure(t *testing.T, p Pair) {
	const size = 32 << 10
	n := fill(t, p.A, size)
	for i := range n {
		if got := recv(t, p.B); !bytes.Equal(got, numbered(i, size)) {
			t.Fatalf("frame %d of %d was lost or changed", i, n)
		}
	}
}

func testSendCancel(t *testing.T, p Pair) {
	const size = 32 << 10
	n := fill(t, p.A, size) // frame n was cancelled: it arrives whole or not at all
	done := make(chan error, 1)
	go func() { done <- p.A.Send(within(t), numbered(n+1, size)) }()
	for i := 0; i <= n+1; i++ {
		got, err := p.B.Recv(within(t))
		if errors.Is(err, cla.ErrClosed) && i >= n {
			break // allowed: the cancelled frame took the link with it
		}
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if i == n && bytes.Equal(got, numbered(n+1, size)) {
			break // allowed: it was not sent
		}
		if !bytes.Equal(got, numbered(i, size)) {
			t.Fatalf("frame %d arrived changed after a cancelled send", i)
		}
	}
	if err := <-done; err != nil && !errors.Is(err, cla.ErrClosed) {
		t.Fatalf("send after a cancelled send: %v", err)
	}
}

func testCutMidFrame(t *testing.T, p Pair) {
	const size = cla.MaxFrame
	n := fill(t, p.A, size) // at least one frame is half on its way now
	recv(t, p.B)
	p.Cut()
	for i := 1; ; i++ {
		got, err := p.B.Recv(within(t))
		if errors.Is(err, cla.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatalf("recv after the cut: %v, want cla.ErrClosed", err)
		}
		if i > n+1 || !bytes.Equal(got, numbered(i, size)) {
			t.Fatalf("frame %d arrived in pieces after the cut", i)
		}
	}
	wantClosed(t, p.A)
	wantClosed(t, p.B)
}

func testCloseDelivers(t *testing.T, p Pair) {
	const n = 20
	for i := range n {
		send(t, p.A, numbered(i, 1000))
	}
	if err := p.A.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	for i := range n {
		if got := recv(t, p.B); !bytes.Equal(got, numbered(i, 1000)) {
			t.Fatalf("frame %d, sent before Close, was lost or changed", i)
		}
	}
	wantClosed(t, p.B)
	wantClosed(t, p.A)
	if err := p.A.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
}

func testCloseUnblocks(t *testing.T, p Pair) {
	fill(t, p.A, cla.MaxFrame)
	errs := make(chan error, 2)
	go func() { errs <- p.A.Send(within(t), numbered(0, cla.MaxFrame)) }()
	go func() {
		_, err := p.A.Recv(within(t))
		errs <- err
	}()
	p.A.Close()
	for range 2 {
		if err := <-errs; !errors.Is(err, cla.ErrClosed) {
			t.Fatalf("a blocked call returned %v at Close, want cla.ErrClosed", err)
		}
	}
}

func testRecvCancel(t *testing.T, p Pair) {
	for i := range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan []byte, 1)
		go func() {
			frame, err := p.B.Recv(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("recv: %v, want context.Canceled", err)
			}
			got <- frame
		}()
		sent := make(chan error, 1)
		go func() { sent <- p.A.Send(within(t), numbered(i, cla.MaxFrame)) }()
		cancel() // somewhere before, within or after the frame
		frame := <-got
		if frame == nil {
			frame = recv(t, p.B)
		}
		if !bytes.Equal(frame, numbered(i, cla.MaxFrame)) {
			t.Fatalf("frame %d was lost by a cancelled Recv", i)
		}
		if err := <-sent; err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
	}
}

func testCounters(t *testing.T, p Pair) {
	const size = 200 // and two bytes of length before it
	tx0, rx0 := p.A.Counters()
	for i := range 10 {
		send(t, p.A, numbered(i, size))
		recv(t, p.B)
	}
	send(t, p.B, numbered(0, size))
	recv(t, p.A)
	tx, rx := p.A.Counters()
	if tx-tx0 != 10*(size+2) || rx-rx0 != size+2 {
		t.Fatalf("A counted %d sent and %d received, want %d and %d", tx-tx0, rx-rx0, 10*(size+2), size+2)
	}
	tx, rx = p.B.Counters()
	if tx < size+2 || rx < 10*(size+2) {
		t.Fatalf("B counted %d sent and %d received", tx, rx)
	}
}
