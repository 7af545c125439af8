package pipe

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"outrider/mesh/cla"
	"outrider/mesh/cla/clatest"
	"outrider/mesh/identity"
)

func streams(t *testing.T, network, addr string) (a, b Conn) {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return c.(Conn), d.(Conn)
}

func TestLink(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			clatest.TestLink(t, clatest.Plain, func(t *testing.T) clatest.Pair {
				addr := "127.0.0.1:0"
				if network == "unix" {
					addr = filepath.Join(t.TempDir(), "s")
				}
				a, b := streams(t, network, addr)
				info := cla.Info{Class: cla.LAN, Addr: "pipe", Version: 1}
				lb := New(b, nil, identity.NodeID{1}, info)
				info.Dialled = true
				la := New(a, nil, identity.NodeID{2}, info)
				return clatest.Pair{A: la, B: lb, Cut: func() { a.Close() }}
			})
		})
	}
}

// A length out of bounds ends the link before anything is kept for it, and
// what came with the request that opened the stream is not lost.
func TestLengths(t *testing.T) {
	for name, raw := range map[string]string{"none": "\x00", "4 GiB": "\x80\x80\x80\x80\x10", "one too long": "\x81\x84\x04", "no end": "\xff\xff\xff\xff\xff\xff"} {
		a, _ := streams(t, "tcp", "127.0.0.1:0")
		l := New(a, strings.NewReader("\x01x"+raw), identity.NodeID{}, cla.Info{})
		if f, err := l.Recv(context.Background()); err != nil || string(f) != "x" {
			t.Fatalf("%s: first frame %q, %v", name, f, err)
		}
		if _, err := l.Recv(context.Background()); !errors.Is(err, cla.ErrFrameSize) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := l.Recv(context.Background()); !errors.Is(err, cla.ErrClosed) {
			t.Errorf("%s: afterwards %v", name, err)
		}
	}
}
