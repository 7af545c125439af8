package doctor

import (
	"context"
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
)

// checkATAK looks at the TAK bridge when the settings turn it on: its CA, its
// clients, and whether it answers.
func checkATAK(ctx context.Context, e Env) (out []Finding) {
	if !e.Config.ATAK.Enabled || len(e.Mistakes) > 0 || e.Folder.State != Good {
		return nil
	}
	dir := filepath.Join(e.Dir, "atak")
	if _, err := os.Stat(filepath.Join(dir, "ca.crt")); err == nil { // else it has not run yet
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")); err != nil {
			out = append(out, found("atak-ca-damaged", "dir", dir))
		}
		if list, err := os.ReadDir(filepath.Join(dir, "clients")); err == nil && len(list) == 0 {
			out = append(out, found("atak-no-client"))
		}
	}
	if len(e.Config.ATAK.ShareWith) == 0 {
		out = append(out, found("atak-shares-nothing"))
	}
	if e.Config.ATAK.TLS12 {
		out = append(out, found("atak-old-tls"))
	}
	if n := e.Running.TAKRefused; n > 0 {
		out = append(out, found("atak-refused", "count", number(n)))
	}
	if e.Running.Answers && e.Running.Enrolled {
		stream, https := e.Config.ATAKAddrs()
		for _, at := range []netip.AddrPort{stream, https} {
			out = append(out, knockATAK(ctx, at)...)
		}
	}
	return out
}

func knockATAK(ctx context.Context, at netip.AddrPort) []Finding {
	to := at
	if at.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
	}
	if _, err := handshake(ctx, to.String()); err != nil {
		return []Finding{found("atak-silent", "address", at.String(), "why", reason(err))}
	}
	return nil
}
