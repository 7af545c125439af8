package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"outrider/field-tests/scenario"
)

// fullStore fills a node until it refuses its own mail. From then on everything
// an operator looks at says so, and by the same figures.
func fullStore(t *testing.T) {
	b := founded(t, "brimful")
	configure(t, b, "\n[store]\nlimit_mb = 16\nreserve_percent = 40\n[metrics]\nlisten = \"127.0.0.1\"\n")
	up(t, b)
	if f, found := get(consult(t, b, nil), "store-full"); found {
		t.Errorf("an empty store is called full: %s", f.Sentence)
	}
	if out := cli(t, b, "status"); strings.Contains(out, "% full") {
		t.Errorf("an empty store is warned of: %s", out)
	}
	stuff(t, b)

	text := scrape(t, "http://127.0.0.1:7490/metrics")
	used, limit := value(t, text, `outrider_store_bytes{kind="bundles"}`), value(t, text, `outrider_store_limit_bytes{kind="bundles"}`)
	if threshold := alertThreshold(t, "OutriderStoreNearlyFull"); limit != 8e6 || used > limit || used/limit <= threshold {
		t.Errorf("the node is full, and the metrics say %.0f of %.0f bytes; the alert waits for %v", used, limit, threshold)
	}
	if v, most := value(t, text, `outrider_store_bytes{kind="relayed"}`), value(t, text, `outrider_store_limit_bytes{kind="relayed"}`); v != 0 || most != 4.8e6 {
		t.Errorf("%v of %v bytes came from neighbours; there are none, and they may fill 60 %%", v, most)
	}
	words := regexp.MustCompile(`7\.9\d MB of 8 MB`)
	if out := cli(t, b, "status"); !words.MatchString(out) || !strings.Contains(out, "% full") {
		t.Errorf("status does not say that the store is full: %s", out)
	}
	if out := cli(t, b, "top", "--once", "--interval", "1"); !words.MatchString(out) {
		t.Errorf("top has other figures: %s", out)
	}
	expect(t, consult(t, b, nil), "store-full", "Messages take 7 MB of the 8 MB", "store.limit_mb")
}

func cli(t *testing.T, b *scenario.Box, args ...string) string {
	t.Helper()
	out, err := b.CLI(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stuff hands a node bundles of its own until it has no room for one more.
func stuff(t *testing.T, b *scenario.Box) {
	t.Helper()
	socket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.Socket())
	}}}
	defer socket.CloseIdleConnections()
	payload := make([]byte, 60_000)
	for i := range 1000 {
		copy(payload, fmt.Sprint(i))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://outrider/v1/bundles?tag=aaaaaaaaaaaaa&lifetime_min=60", bytes.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Outrider", "1")
		resp, err := socket.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		switch {
		case resp.StatusCode == http.StatusInsufficientStorage && strings.Contains(string(said), "store_full") && i > 10:
			return
		case resp.StatusCode != http.StatusCreated:
			t.Fatalf("bundle %d: %s: %s", i, resp.Status, said)
		}
	}
	t.Fatal("60 MB found room in 16")
}

// alertThreshold is the figure behind the last > of an alert's expression.
func alertThreshold(t *testing.T, alert string) float64 {
	t.Helper()
	root, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	rules := read(t, filepath.Join(root, "node", "dist", "alerts.yml"))
	m := regexp.MustCompile(`alert: ` + alert + `\n\s+expr: outrider_store_bytes / .* outrider_store_limit_bytes > ([0-9.]+)\n`).FindStringSubmatch(rules)
	if m == nil {
		t.Fatalf("the expression of %s is not the ratio that is looked at here", alert)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
