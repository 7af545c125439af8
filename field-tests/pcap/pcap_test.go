package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1772600767, 123456000)
	frames := [][]byte{{}, []byte("one frame"), bytes.Repeat([]byte{7}, MaxPacket)}
	for i, f := range frames {
		if err := w.Write(at.Add(time.Duration(i)*time.Second), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(at, make([]byte, MaxPacket+1)); err == nil {
		t.Error("a frame above the limit was written")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if !IsCapture(b.Bytes()) || IsCapture([]byte("abc")) || IsCapture([]byte("abcdef")) {
		t.Error("IsCapture")
	}
	r, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		p, err := r.Next()
		if err != nil || !bytes.Equal(p.Data, f) || !p.At.Equal(at.Add(time.Duration(i)*time.Second)) || p.Cut {
			t.Errorf("packet %d: %d bytes at %v, %v", i, len(p.Data), p.At, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

// What we write is a capture to others too.
func TestTcpdumpReadsIt(t *testing.T) {
	frame := make([]byte, 60)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}) // IEEE local experimental
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err == nil {
		err = errors.Join(w.Write(time.Unix(1772600767, 0), frame), w.Flush())
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tcpdump", "-Z", "root", "-ttnner", "-")
	cmd.Stdin = &b
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "1772600767.000000 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype Unknown (0x88b5), length 60") {
		t.Errorf("tcpdump: %v\n%s", err, out)
	}
}

func TestOtherForms(t *testing.T) {
	b := make([]byte, 24+16+2)
	be := binary.BigEndian
	be.PutUint32(b, magicNano)
	be.PutUint32(b[20:], ethernet)
	be.PutUint32(b[24:], 5)
	be.PutUint32(b[28:], 6)
	be.PutUint32(b[32:], 2)
	be.PutUint32(b[36:], 9)
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.Next(); err != nil || !p.At.Equal(time.Unix(5, 6)) || !p.Cut || len(p.Data) != 2 {
		t.Errorf("%+v %v", p, err)
	}
	be.PutUint32(b[20:], 113) // Linux cooked
	if _, err := NewReader(bytes.NewReader(b)); !errors.Is(err, ErrMalformed) {
		t.Errorf("other link type: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err != nil {
		f.Fatal(err)
	}
	_ = w.Write(time.Unix(1, 0), []byte("abc"))
	_ = w.Flush()
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:30])
	f.Add(append(b.Bytes()[:24:24], bytes.Repeat([]byte{0xff}, 20)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data))
		for err == nil {
			_, err = r.Next()
		}
		if err != io.EOF && !errors.Is(err, ErrMalformed) {
			t.Fatalf("neither end nor malformed: %v", err)
		}
	})
}
