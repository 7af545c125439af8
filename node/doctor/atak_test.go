package doctor

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"outrider/atak"
)

func TestL03ATAK(t *testing.T) {
	e := quiet(t)
	find := func(id string) bool { return slices.Contains(ids(checkATAK(t.Context(), e)), id) }
	e.Config.ATAK.TLS12, e.Config.ATAK.ShareWith = true, nil
	if got := checkATAK(t.Context(), e); got != nil {
		t.Errorf("a bridge that is off: %v", ids(got))
	}
	e.Config.ATAK.Enabled = true
	if got := ids(checkATAK(t.Context(), e)); !slices.Equal(got, []string{"atak-shares-nothing", "atak-old-tls"}) {
		t.Errorf("%v", got)
	}
	dir := filepath.Join(e.Dir, "atak")
	if _, err := atak.OpenCA(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "clients"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !find("atak-no-client") || find("atak-ca-damaged") {
		t.Errorf("%v", ids(checkATAK(t.Context(), e)))
	}
	if err := os.WriteFile(filepath.Join(dir, "clients", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if find("atak-no-client") {
		t.Error("a client is not seen")
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !find("atak-ca-damaged") {
		t.Error("a damaged key is not seen")
	}

	e.Running.TAKRefused = 3
	if !find("atak-refused") {
		t.Error("clients that are turned away are not seen")
	}
	e.Running.TAKRefused = 0
	if find("atak-refused") {
		t.Error("turned away, and nobody was")
	}
	served := page(t, time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC), net.IPv4(127, 0, 0, 1)).Page.Listeners()[0].Addr.String()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	e.Running.Answers, e.Running.Enrolled = true, true
	e.Config.ATAK.Listen, e.Config.ATAK.ListenHTTPS = served, served
	if find("atak-silent") {
		t.Error("a bridge that answers is called silent")
	}
	e.Config.ATAK.ListenHTTPS = silent.Addr().String()
	if !find("atak-silent") {
		t.Error("a silent port is not seen")
	}
}
