package operate

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"outrider/field-tests/scenario"
	"outrider/node/metrics"
)

const bobName = "Bob Cratchit-Fezziwig"

// pair is two nodes in contact, each with figures on a port of its own: alice
// lives on the first, bob on the second.
func pair(t *testing.T) (a, b *scenario.Box, figures [2]string) {
	t.Helper()
	a, b = founded(t, "alpha"), box(t, "bravo")
	inv, err := a.Invite(t.Context(), bobName, a.GossipAddr())
	if err == nil {
		_, err = b.Init(t.Context())
	}
	if err == nil {
		err = b.Join(t.Context(), inv)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, box := range []*scenario.Box{a, b} {
		port := 7490 + 10*i
		figures[i] = fmt.Sprintf("http://127.0.0.1:%d/metrics", port)
		configure(t, box, fmt.Sprintf("\n[metrics]\nlisten = \"127.0.0.1:%d\"\n", port))
		up(t, box)
	}
	return a, b, figures
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", url, resp.StatusCode, err)
	}
	return string(body)
}

// value is a sample's value; name with labels as written.
func value(t *testing.T, text, name string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no %s in\n%s", name, text)
	return 0
}

func promtool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(need(t, "promtool", "prometheus"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestM16FiguresOfTheRealBinary(t *testing.T) {
	a, b, figures := pair(t)
	awaitMail(t, a, b)
	for i, url := range figures {
		text := scrape(t, url)
		if out := promtool(t, text, "check", "metrics"); strings.TrimSpace(out) != "" {
			t.Errorf("promtool has something to say: %s", out)
		}
		for _, m := range metrics.Table {
			if !strings.Contains(text, "# TYPE "+m.Name+" "+string(m.Kind)+"\n") {
				t.Errorf("%s is missing", m.Name)
			}
		}
		tellsNobody(t, text, a, b)
		if v := value(t, text, `outrider_mesh_contacts{class="lan"}`); v != 1 {
			t.Errorf("node %d: %v contacts", i, v)
		}
		for _, name := range []string{
			`outrider_mesh_payload_sent_bytes_total{class="lan"}`, `outrider_mesh_payload_received_bytes_total{class="lan"}`,
			`outrider_mesh_link_sent_bytes_total{class="lan"}`, `outrider_mesh_link_received_bytes_total{class="lan"}`,
			"outrider_store_fsyncs_total", "outrider_memory_resident_bytes", "outrider_enrolled", "outrider_mesh_neighbours_known", "outrider_store_free_bytes",
		} {
			if value(t, text, name) <= 0 {
				t.Errorf("node %d: %s is 0", i, name)
			}
		}
		if v := value(t, text, "outrider_mesh_last_heard_seconds"); v > 60 {
			t.Errorf("node %d heard nobody for %v s", i, v)
		}
	}
	text := scrape(t, figures[1])
	if n := value(t, text, "outrider_mesh_delivery_delay_seconds_count"); n < 1 {
		t.Errorf("%v deliveries were measured", n)
	}
	if n := value(t, text, `outrider_mesh_delivery_delay_seconds_bucket{le="300"}`); n < 1 {
		t.Errorf("no delivery was within five minutes")
	}
	if v := value(t, scrape(t, figures[0]), `outrider_users{state="unlocked"}`); v != 1 {
		t.Errorf("%v users are unlocked at alpha", v)
	}
	// What a link carried stays counted when the link has gone.
	before := value(t, scrape(t, figures[0]), `outrider_mesh_link_sent_bytes_total{class="lan"}`)
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
	err := scenario.Poll(soon(t), "the contact to end", func() (bool, error) {
		return value(t, scrape(t, figures[0]), `outrider_mesh_contacts{class="lan"}`) == 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := value(t, scrape(t, figures[0]), `outrider_mesh_link_sent_bytes_total{class="lan"}`); after < before {
		t.Errorf("a counter went back from %v to %v", before, after)
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
}

// A node that looks for its first neighbour has figures, too, all of them.
func TestFiguresWhileEnrolling(t *testing.T) {
	a, b := founded(t, "inviter"), box(t, "seeker")
	inv, err := a.Invite(t.Context(), bobName, "10.9.0.77")
	if err == nil {
		_, err = b.Init(t.Context())
	}
	if err == nil {
		err = b.Join(t.Context(), inv)
	}
	if err != nil {
		t.Fatal(err)
	}
	configure(t, b, "\n[metrics]\nlisten = \"127.0.0.1\"\n")
	up(t, b)
	text := scrape(t, "http://127.0.0.1:7490/metrics")
	promtool(t, text, "check", "metrics")
	for _, m := range metrics.Table {
		if !strings.Contains(text, "# TYPE "+m.Name+" ") {
			t.Errorf("%s is missing", m.Name)
		}
	}
	if value(t, text, "outrider_enrolled") != 0 {
		t.Error("it says that it has met its network")
	}
}

// awaitMail sends from alice to bob and waits for the delivery.
func awaitMail(t *testing.T, a, b *scenario.Box) {
	t.Helper()
	ctx := soon(t)
	for name, box := range map[string]*scenario.Box{aliceName: a, bobName: b} { // a node knows its users' names a moment after it is up
		err := scenario.Poll(ctx, name+" to log in", func() (bool, error) {
			_, err := box.API.Login(ctx, name, scenario.UserPassword)
			return err == nil, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var id string
	err := scenario.Poll(ctx, "alice to know bob", func() (bool, error) {
		m, err := a.API.Send(ctx, bobName, secretText)
		id = m.ID
		return err == nil, err
	})
	if err == nil {
		err = scenario.Poll(ctx, "the message to arrive", func() (bool, error) {
			m, err := a.API.Message(ctx, id)
			return m.State == "delivered" || m.State == "read", err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

const secretText = "the ford at the old mill is passable after dark"

// tellsNobody looks for ids, names and addresses in figures.
func tellsNobody(t *testing.T, text string, boxes ...*scenario.Box) {
	t.Helper()
	for _, word := range []string{aliceName, bobName, "alice", "bob", "eaglesnest", outside, secretText} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			t.Errorf("the figures hold %q", word)
		}
	}
	for _, b := range boxes {
		s, err := b.API.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, s.Node[:8]) {
			t.Errorf("the figures name a node")
		}
	}
	// A label's value is a word of ours, never something that was heard.
	ours := regexp.MustCompile(`^([a-z_]+|\+Inf|[0-9.e+]+)$`)
	for _, m := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if m[1] != "version" && !ours.MatchString(m[2]) {
			t.Errorf("label %s has the value %q", m[1], m[2])
		}
	}
}

func TestRulesHold(t *testing.T) {
	root, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	dist := filepath.Join(root, "node", "dist")
	promtool(t, "", "check", "rules", filepath.Join(dist, "alerts.yml"))
	promtool(t, "", "test", "rules", filepath.Join(dist, "alerts_test.yml"))
	// Each alert has a test in which it fires and a line in the one where all is well.
	rules, tests := read(t, filepath.Join(dist, "alerts.yml")), read(t, filepath.Join(dist, "alerts_test.yml"))
	names := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(names) < 10 {
		t.Fatalf("%d alerts", len(names))
	}
	for _, n := range names {
		if strings.Count(tests, "alertname: "+n[1]) != 2 {
			t.Errorf("%s is not tested both ways", n[1])
		}
	}
	if !slices.Contains(strings.Fields(rules), "cure:") {
		t.Error("alerts do not say what to do")
	}
}
