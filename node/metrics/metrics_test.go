package metrics

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write METRICS.md anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full is a set with a sample of every metric.
func full() *Set {
	s := &Set{}
	for _, m := range Table {
		labels := make([]string, len(m.Labels))
		for i := range labels {
			labels[i] = "x"
		}
		if m.Kind == Histogram {
			s.AddHistogram(m.Name, Buckets{Bounds: []float64{1, 2.5}, Counts: []uint64{3, 0, 4}, Sum: 20}, labels...)
		} else {
			s.Add(m.Name, 1, labels...)
		}
	}
	return s
}

func TestTable(t *testing.T) {
	unit := regexp.MustCompile(`_(bytes|seconds|total|bundles|info|contacts|known|enrolled|users|source|floor|goroutines|running|participants)(_total)?$`)
	forbidden := []string{"peer", "node", "user", "room", "addr", "id", "name"}
	seen := map[string]bool{}
	for _, m := range Table {
		if seen[m.Name] || !strings.HasPrefix(m.Name, "outrider_") || !unit.MatchString(m.Name) {
			t.Errorf("%s: twice, without prefix or without unit", m.Name)
		}
		if strings.HasSuffix(m.Name, "_total") != (m.Kind == Counter) {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: the help is no sentence", m.Name)
		}
		for _, l := range m.Labels {
			if slices.Contains(forbidden, l) {
				t.Errorf("%s has label %s, which could tell who", m.Name, l)
			}
		}
		seen[m.Name] = true
	}
}

func TestDocumentHasTheTable(t *testing.T) {
	raw, err := os.ReadFile("METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(raw), "| name |")
	want := head + Markdown()
	if *update {
		if err := os.WriteFile("METRICS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(raw) != want {
		t.Error("METRICS.md is not the table: go test ./node/metrics -update")
	}
}

func TestWrite(t *testing.T) {
	s := &Set{}
	s.Add("outrider_build_info", 1, "v1 \"x\"\\\n")
	s.Add("outrider_mesh_last_heard_seconds", math.Inf(1))
	s.Add("outrider_mesh_contacts", 2, "lan")
	s.Add("outrider_mesh_contacts", 0.5, "radio")
	s.AddHistogram("outrider_mesh_delivery_delay_seconds", Buckets{Bounds: []float64{1, 60}, Counts: []uint64{2, 1, 1}, Sum: 99})
	var b strings.Builder
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`outrider_build_info{version="v1 \"x\"\\\n"} 1` + "\n",
		"# TYPE outrider_mesh_contacts gauge\noutrider_mesh_contacts{class=\"lan\"} 2\noutrider_mesh_contacts{class=\"radio\"} 0.5\n",
		"outrider_mesh_last_heard_seconds +Inf\n",
		`outrider_mesh_delivery_delay_seconds_bucket{le="1"} 2` + "\n" + `outrider_mesh_delivery_delay_seconds_bucket{le="60"} 3` + "\n" +
			`outrider_mesh_delivery_delay_seconds_bucket{le="+Inf"} 4` + "\noutrider_mesh_delivery_delay_seconds_sum 99\noutrider_mesh_delivery_delay_seconds_count 4\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if got := s.Missing(); len(got) != len(Table)-4 || slices.Contains(got, "outrider_build_info") {
		t.Errorf("missing: %v", got)
	}
	if got := full().Missing(); len(got) != 0 {
		t.Errorf("missing: %v", got)
	}
}

func TestMistakesOfOursPanic(t *testing.T) {
	for name, f := range map[string]func(*Set){
		"unknown":      func(s *Set) { s.Add("outrider_nothing", 1) },
		"labels":       func(s *Set) { s.Add("outrider_mesh_contacts", 1) },
		"histogram":    func(s *Set) { s.Add("outrider_mesh_delivery_delay_seconds", 1) },
		"no histogram": func(s *Set) { s.AddHistogram("outrider_mesh_contacts", Buckets{Counts: []uint64{1}}, "lan") },
		"too few buckets": func(s *Set) {
			s.AddHistogram("outrider_mesh_delivery_delay_seconds", Buckets{Bounds: []float64{1}, Counts: []uint64{1}})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f(&Set{})
		}()
	}
}

// serve answers over a real listener.
func serve(t *testing.T) string {
	srv := httptest.NewServer(Server{Collect: func(context.Context) *Set { return full() }})
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func TestServe(t *testing.T) {
	addr := serve(t)
	defer http.DefaultClient.CloseIdleConnections()
	for _, c := range []struct {
		method, path, host string
		code               int
	}{
		{"GET", "/metrics", "", 200}, {"GET", "/metrics", "localhost:7490", 200}, {"GET", "/metrics", "[::1]", 200}, {"HEAD", "/metrics", "", 200},
		{"GET", "/", "", 404}, {"GET", "/debug/pprof/", "", 404}, {"POST", "/metrics", "", 405}, {"GET", "/metrics", "evil.example:7490", 403},
	} {
		r, err := http.NewRequest(c.method, "http://"+addr+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || c.code == 200 && c.method == "GET" && !strings.Contains(string(body), "outrider_build_info") {
			t.Errorf("%+v: %d %v", c, resp.StatusCode, err)
		}
	}
}

var metricName = regexp.MustCompile(`\boutrider_\w+`)

// known says whether a query's word is a metric, or a series of a histogram.
func known(word string) bool {
	for _, m := range Table {
		if word == m.Name || m.Kind == Histogram && slices.Contains([]string{m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}, word) {
			return true
		}
	}
	return false
}

func TestDashboardAsksForWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile("../dist/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for i, p := range d.Panels {
		if len(p.Targets) == 0 || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.ID != i+1 {
			t.Errorf("panel %d %q: no target, or not on the grid", p.ID, p.Title)
		}
		for _, q := range p.Targets {
			words := metricName.FindAllString(q.Expr, -1)
			if len(words) == 0 {
				t.Errorf("panel %q asks for nothing of ours: %s", p.Title, q.Expr)
			}
			for _, w := range words {
				asked[w] = true
				if !known(w) {
					t.Errorf("panel %q: there is no metric %s", p.Title, w)
				}
			}
		}
	}
	if len(asked) < 20 {
		t.Errorf("only %d metrics are shown", len(asked))
	}
}

func TestRulesAskForWhatThereIs(t *testing.T) {
	for _, file := range []string{"../dist/alerts.yml", "../dist/alerts_test.yml"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		words := metricName.FindAllString(string(raw), -1)
		if len(words) < 15 {
			t.Fatalf("%s has %d queries", file, len(words))
		}
		for _, w := range words {
			if !known(w) {
				t.Errorf("%s: there is no metric %s", file, w)
			}
		}
	}
	if known("outrider_mesh_contacts_bucket") || known("outrider_nothing") {
		t.Error("the test knows too much")
	}
}
