package envelope

import (
	"crypto/rand"
	"errors"
	"io"
	"math"
	mrand "math/rand/v2"
	"strings"
	"testing"
)

// sampleHeaderSize and sampleHopSize are those of a typical bundle as
// mesh/bundle writes it.
const (
	sampleHeaderSize = 31
	sampleHopSize    = 6
)

// BenchmarkMessageWire seals a 200-byte text: what one message costs on the
// air and in time.
func BenchmarkMessageWire(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	text := randomText(200)
	b.ReportAllocs()
	var m mail
	for b.Loop() {
		m = alice.send(e, text)
	}
	if len(m.header) != sampleHeaderSize {
		b.Fatalf("sample header has %d bytes", len(m.header))
	}
	b.ReportMetric(float64(len(m.header)+sampleHopSize), "header-B")
	b.ReportMetric(float64(len(m.payload)), "sealed-B")
	b.ReportMetric(float64(len(m.header)+sampleHopSize+len(m.payload)), "air-B")
}

// randomText is text that packing does not shrink below the next padding step.
func randomText(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,0123456789"
	r := mrand.New(mrand.NewPCG(1, 2))
	var s strings.Builder
	for range n {
		s.WriteByte(letters[r.IntN(len(letters))])
	}
	return s.String()
}

func BenchmarkMessageOpen(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	text := randomText(200)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		m := alice.send(e, text)
		b.StartTimer()
		o, err := bob.open(m)
		if err := errors.Join(err, bob.Accept(o)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLocationWire(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	body, err := Location{Kind: LocationLive, Latitude: 1, Altitude: AltitudeUnknown, Accuracy: 500, Time: 1_777_777_777_000, Valid: 3600}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var payload []byte
	for b.Loop() {
		d, err := alice.DraftLive(e)
		if err != nil {
			b.Fatal(err)
		}
		if payload, err = d.Seal(header(d.Tag(), d.PurgeKey()), Inner{Type: TypeLocation, Sent: uint64(w.now.UnixMilli()), Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(payload)), "sealed-B")
}

func BenchmarkStartEpoch(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.node('a', 1), w.node('b', 1)
	to := []Recipient{bob.recipient()}
	b.ReportAllocs()
	var wraps []Wrap
	for b.Loop() {
		var err error
		if _, wraps, err = alice.StartEpoch(to, EpochOptions{Header: headerFunc}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(wraps[0].Payload)), "sealed-B")
}

func BenchmarkOpenEpoch(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.node('a', 1), w.node('b', 1)
	_, wraps := alice.startOnly(bob)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJumpRefused is what a reader of the epoch can make another one
// compute with one worthless bundle.
func BenchmarkJumpRefused(b *testing.B) {
	w := newWorld(b)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	ep := alice.epochs[e]
	payload, _, err := ep.binding().sealMessage(key{1}, position{uint16(ep.slot), MaxJump}, alice.self.Key, []byte("header"), []byte("x"), PadBucket)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := bob.Open(dayTag(ep.tag, 0), []byte("header"), payload); !errors.Is(err, ErrForged) {
			b.Fatal(err)
		}
	}
}

type leafSink struct{ n int }

func (s *leafSink) WriteLeaf(_ int, data []byte) error { s.n += len(data); return nil }

func BenchmarkEncryptFile(b *testing.B) {
	const size = 5 << 20
	raw := make([]byte, size)
	rand.Read(raw)
	b.SetBytes(size)
	b.ReportAllocs()
	var sealed FileSeal
	for b.Loop() {
		var err error
		if sealed, _, err = EncryptFile(strings.NewReader(string(raw)), &leafSink{}, PadBucket); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(math.Round(10000*(float64(sealed.Blob.Length)/size-1))/100, "overhead-%")
}

func BenchmarkDecryptFile(b *testing.B) {
	const size = 5 << 20
	raw := make([]byte, size)
	rand.Read(raw)
	var l leafStore
	sealed, _, err := EncryptFile(strings.NewReader(string(raw)), &l, PadBucket)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if err := DecryptFile(sealed, &l, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
