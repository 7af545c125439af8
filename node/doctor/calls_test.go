package doctor

import (
	"net"
	"slices"
	"strings"
	"testing"
)

func TestC01CallsThatCannotWorkAreFound(t *testing.T) {
	e := quiet(t)
	found := func() []string { return ids(checkCalls(t.Context(), e)) }
	if got := found(); got != nil {
		t.Errorf("as shipped: %v", got)
	}
	e.Config.Page.AllowedHosts = []string{"node7.example"}
	if got := found(); !slices.Equal(got, []string{"calls-page-unprotected"}) {
		t.Errorf("a page behind a proxy: %v", got)
	}
	e.Config.Page.Listen = append(e.Config.Page.Listen, "0.0.0.0")
	if got := found(); got != nil {
		t.Errorf("a page with TLS: %v", got)
	}
	e.Config.Calls.Listen = "127.0.0.1"
	if got := found(); !slices.Equal(got, []string{"calls-unheard"}) {
		t.Errorf("media on loopback: %v", got)
	}
	e.Config.Calls.Enabled = false
	if got := found(); got != nil {
		t.Errorf("calls are off: %v", got)
	}
}

// C05: somebody else has the port of calls.
func TestC05BusyPortOfCallsIsFound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := quiet(t)
	e.Config.Calls.Listen = l.Addr().String()
	all := checkPorts(t.Context(), e)
	if !slices.ContainsFunc(all, func(f Finding) bool { return f.ID == "port-busy" && strings.Contains(f.Cure, "calls.listen") }) {
		t.Errorf("%+v", all)
	}
}
