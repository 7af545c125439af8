package metrics

import (
	"context"
	"net"
	"net/http"
	"strings"
)

const contentType = "text/plain; version=0.0.4; charset=utf-8"

// A Server answers GET /metrics. Who listens bounds connections, headers and
// times.
type Server struct {
	// Collect gathers the figures of now.
	Collect func(context.Context) *Set
}

// ServeHTTP writes the figures. The host is checked, so that a page from
// elsewhere whose name was bent to loopback cannot read them.
func (s Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !loopbackHost(r.Host):
		http.Error(w, "metrics are for this machine", http.StatusForbidden)
	case r.URL.Path != "/metrics":
		http.Error(w, "ask for /metrics", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-store")
		_, _ = s.Collect(r.Context()).WriteTo(w)
	}
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
