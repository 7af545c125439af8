package doctor

import "context"

// checkCalls looks at what calls need of the settings: browsers give their
// microphone to a protected page only, and media must be reachable from where
// the page is. That the port is free is checkPorts' matter.
func checkCalls(_ context.Context, e Env) (out []Finding) {
	if !e.Config.Calls.Enabled || len(e.Mistakes) > 0 {
		return nil
	}
	outside := ""
	for _, l := range e.Config.Page.Listeners() {
		if l.TLS {
			outside = l.Addr.String()
			break
		}
	}
	calls := e.Config.CallsAddr()
	switch {
	case outside != "" && calls.Addr().IsLoopback():
		out = append(out, found("calls-unheard", "page", outside, "calls", calls.String(), "file", e.File))
	case outside == "" && len(e.Config.Page.AllowedHosts) > 0:
		out = append(out, found("calls-page-unprotected", "names", join(e.Config.Page.AllowedHosts)))
	}
	return out
}
