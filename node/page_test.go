package node

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"outrider/node/api"
)

// TestN04HandoutTells: why the CA cannot be handed out, and what to do.
func TestN04HandoutTells(t *testing.T) {
	h, _, _ := founded(t)
	c := onLoopback(t)
	p := newPage(h, c, time.Now, New(Options{Home: h, Config: c}).log)
	err := p.OpenCA(t.Context(), time.Minute)
	var hint api.Hinted
	if !errors.Is(err, api.ErrConflict) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "page.listen") {
		t.Errorf("alone: %v", err)
	}
	l, lerr := net.Listen("tcp", "127.0.0.1:0")
	if lerr != nil {
		t.Fatal(lerr)
	}
	defer l.Close()
	free, taken := netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort(l.Addr().String())
	err = p.handout.openAt([]netip.AddrPort{free, taken}, time.Now().Add(time.Minute))
	if !errors.Is(err, api.ErrConflict) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "page.ca_port") || p.handout.open() {
		t.Errorf("busy: %v", err)
	}
}

// TestN04HandoutEndsByItself: when its time is over, and when the node stops.
func TestN04HandoutEndsByItself(t *testing.T) {
	h, _, _ := founded(t)
	c := onLoopback(t)
	p := newPage(h, c, time.Now, New(Options{Home: h, Config: c}).log)
	done := make(chan struct{})
	ctx := t.Context()
	go func() { defer close(done); p.handout.run(ctx) }()
	t.Cleanup(func() { <-done })
	at := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	serves := func() error {
		l := p.handout.port()
		res, err := http.Get("http://" + netip.AddrPortFrom(at[0].Addr(), uint16(l)).String() + "/outrider-ca.pem")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != 200 {
			return errors.New(res.Status)
		}
		return nil
	}
	if err := p.handout.openAt(at, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hand-out", serves)
	if err := p.handout.openAt(at, time.Now().Add(time.Millisecond)); err != nil { // sooner than before
		t.Fatal(err)
	}
	eventually(t, "its end", func() error {
		if p.handout.open() {
			return errors.New("it is open")
		}
		return nil
	})
	if err := p.handout.openAt(at, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hand-out again", serves)
	p.handout.shut()
	if err := serves(); err == nil {
		t.Error("it serves when shut")
	}
}
