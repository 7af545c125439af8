package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

// fakeCarrier says what it met on the stream it was given.
type fakeCarrier struct {
	rootless bool
	results  *[]CarryResult
}

func (f fakeCarrier) Carried(r CarryResult) { *f.results = append(*f.results, r) }

func (f fakeCarrier) CarryTerms() CarryTerms {
	t := CarryTerms{Network: identity.NetworkID{5}, Root: []byte("root"), Salt: [16]byte{9}, Generation: 3, Ceiling: 3600e9}
	if f.rootless {
		t.Root = nil
	}
	return t
}

func (f fakeCarrier) TakeRoot(_ context.Context, raw []byte) error {
	if string(raw) != "root" {
		return fmt.Errorf("not that of the network: %w", chat.ErrInvalid)
	}
	return nil
}

func (f fakeCarrier) Carry(_ context.Context, conn net.Conn, medium identity.NodeID) error {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, medium.Short()+" said "+line)
	return err
}

// What is not a stick's request is refused with what is wrong, and none of it
// is there for a browser.
func TestM01CarryRefusals(t *testing.T) {
	var results []CarryResult
	b := newBench(t, func(c *Config) { c.Carrier = fakeCarrier{results: &results} })
	b.page("GET", "/v1/carry", "").want(403, "operator_only")
	b.page("POST", "/v1/carry", "").with("Upgrade", carryProtocol).want(403, "operator_only")
	b.socket("POST", "/v1/carry", "").want(426, "upgrade")
	b.socket("POST", "/v1/carry", "").with("Upgrade", carryProtocol).want(400, "bad_medium")
	b.socket("POST", "/v1/carry", "").with("Upgrade", carryProtocol).with("Outrider-Medium", "../../etc").want(400, "bad_medium")
	b.socket("POST", "/v1/carry/root", "root").want(204, "")
	b.socket("POST", "/v1/carry/root", "boot").want(400, "bad_request")
	b.socket("POST", "/v1/carry/root", strings.Repeat("x", maxRootRecord+1)).want(413, "too_large")
	b.page("POST", "/v1/carry/result", `{"full":true}`).want(403, "operator_only")
	b.socket("POST", "/v1/carry/result", `{"full":1}`).want(400, "bad_request")
	b.socket("POST", "/v1/carry/result", `{"full":true,"damaged":true}`).want(204, "")
	if len(results) != 1 || !results[0].Full || !results[0].Damaged {
		t.Errorf("the node was told %+v", results)
	}
	if w := b.socket("GET", "/v1/carry", "").want(200, ""); !strings.Contains(w.Body.String(), `"ceiling_s":3600`) || !strings.Contains(w.Body.String(), `"root":"`) {
		t.Errorf("terms are %s", w.Body)
	}
	b = newBench(t, func(c *Config) { c.Carrier = fakeCarrier{rootless: true} })
	if w := b.socket("GET", "/v1/carry", "").want(200, ""); strings.Contains(w.Body.String(), `"root"`) {
		t.Errorf("terms without a root record are %s", w.Body)
	}
}

// The connection becomes the stick's, in both directions.
func TestM01CarryUpgrades(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *Config) { c.Carrier = fakeCarrier{} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Listeners{Socket: ln}.Serve(ctx, b.srv.Handler()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	medium := identity.NodeID{1}
	fmt.Fprintf(conn, "POST /v1/carry HTTP/1.1\r\nHost: outrider\r\nConnection: Upgrade\r\nUpgrade: %s\r\nOutrider-Medium: %s\r\n\r\n", carryProtocol, medium)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	fmt.Fprintln(conn, "hello")
	if got, err := io.ReadAll(in); err != nil || string(got) != medium.Short()+" said hello\n" {
		t.Errorf("heard %q, %v", got, err)
	}
}
