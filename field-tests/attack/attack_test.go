package attack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/bench"
	"outrider/field-tests/scenario"
)

// What honest work must keep, and the memory that an attack may cost.
const (
	share     = 0.80
	growthMiB = 48
	recovery  = 30 * time.Second
	rounds    = 3 // of windows, before a row has failed
)

// allowed is what listeners take in a second from all that are unknown, or from
// one account (DESIGN.md). On a machine that is busy otherwise attackers may come
// to less than that, and then nobody has to be refused.
var allowed = map[string]float64{
	"mesh": 20, "gossip/tcp": 20, "gossip/udp": 250, "page": 50, "page/requests": 100, "page-ca": 50,
	"socket": 500, "socket/requests": 500, "metrics": 100, "metrics/requests": 100,
}

// form is how long the rows last: the short one is part of make field-short, the
// long one is asked for by ATTACK=long.
type form struct {
	window      time.Duration // with or without the attack
	pairs, most int           // windows of both kinds: at least, and when the machine is loaded
	pace        bool          // honest work comes at a steady rate
}

func formOf() form {
	if os.Getenv("ATTACK") == "long" {
		return form{3 * time.Second, 5, 9, false}
	}
	return form{150 * time.Millisecond, 3, 10, true}
}

// rate is what was done in a window, per second.
type rate struct{ forward, page, scrapes float64 }

func (s *stage) window(ctx context.Context, d time.Duration) rate {
	count := func() [3]int64 { return [3]int64{s.work.arrived.Load(), s.work.asked.Load(), s.work.scraped.Load()} }
	before, begin := count(), time.Now()
	wait(ctx, d)
	after, took := count(), time.Since(begin).Seconds()
	return rate{float64(after[0]-before[0]) / took, float64(after[1]-before[1]) / took, float64(after[2]-before[2]) / took}
}

// result is what a row came to.
type result struct {
	calm, under       []rate
	attacks           float64 // per second
	rss, rssCalm      float64 // MiB, at most: under attack, before it
	cpuCalm, cpuUnder float64 // of one processor
	worst             time.Duration
	refused           uint64
	kept              rate // of 1
}

func median(rs []rate, of func(rate) float64) float64 {
	var x []float64
	for _, r := range rs {
		x = append(x, of(r))
	}
	slices.Sort(x)
	return x[len(x)/2]
}

func (r *result) judge() bool {
	// Of neighbouring windows and of all: the first does not mind a machine whose
	// other load changes slowly, the second not one where it comes in bursts.
	kept := func(of func(rate) float64) float64 {
		var pairs []float64
		for i, c := range r.calm {
			pairs = append(pairs, of(r.under[i])/max(of(c), 1))
		}
		slices.Sort(pairs)
		return max(pairs[len(pairs)/2], median(r.under, of)/max(median(r.calm, of), 1))
	}
	r.kept = rate{
		kept(func(x rate) float64 { return x.forward }), kept(func(x rate) float64 { return x.page }), kept(func(x rate) float64 { return x.scrapes }),
	}
	return min(r.kept.forward, r.kept.page, r.kept.scrapes) >= share
}

// TestAttacks runs all rows against one pair of nodes, which live through
// them all.
func TestAttacks(t *testing.T) {
	f := formOf()
	s := newStage(t, f)
	if !f.pace {
		s.settle(t)
	}
	t.Logf("%-34s %9s %4s %8s %4s %8s %8s %8s %9s %8s %4s %6s", "attack", "times/s", "/s", "forward", "/s", "page", "scrapes", "worst ms", "refused", "cpu", "rss", "grown")
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) { s.play(t, i, r, f) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.work.rest()
	must(t, scenario.Poll(ctx, "everything acknowledged to arrive", func() (bool, error) {
		n := s.work.lost()
		return n == 0, fmt.Errorf("%d bundles are missing", n)
	}))
	s.namesOffenders(t)
	for _, name := range []string{"mesh/tcp silent, many addresses", "gossip/tcp silent, many addresses"} {
		t.Run("a peer comes back amid "+name, func(t *testing.T) { s.comesBack(t, name) })
	}
	must(t, s.a.Stop())
	must(t, s.b.Stop())
}

// play runs one row.
func (s *stage) play(t *testing.T, i int, r row, f form) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	before, err := s.refused(ctx, r.listener)
	must(t, err)
	must(t, resetPeak(s.a.Pid()))
	wait(ctx, f.window)
	res := &result{rssCalm: s.peak(t)}
	must(t, resetPeak(s.a.Pid()))
	if r.warm > 0 {
		must(t, s.crewOf(i).on(i))
		wait(ctx, r.warm)
		_, err := s.crewOf(i).off()
		must(t, err)
	}
	s.work.worst.Store(0)
	var times int64
	var took time.Duration
	for n := 1; n <= rounds*f.most; n++ {
		times, took = s.pair(t, ctx, i, f, res, times, took)
		if len(res.calm) >= f.pairs && res.judge() && float64(times)/took.Seconds() >= float64(r.least) {
			break
		}
		if n%f.most == 0 && n < rounds*f.most { // somebody else has the machine: look again
			*res = result{rssCalm: res.rssCalm}
		}
	}
	res.worst, res.rss = time.Duration(s.work.worst.Load()), s.peak(t)
	res.attacks = float64(times) / took.Seconds()
	after, err := s.refused(ctx, r.listener)
	must(t, err)
	res.refused = after - before
	forward, page := median(res.calm, func(x rate) float64 { return x.forward }), median(res.calm, func(x rate) float64 { return x.page })
	t.Logf("%-34s %9.0f %4.0f %7.0f%% %4.0f %7.0f%% %7.0f%% %8d %9d %3.0f→%3.0f%% %4.0f %6.0f", r.name, res.attacks, forward, 100*res.kept.forward, page, 100*res.kept.page, 100*res.kept.scrapes,
		res.worst.Milliseconds(), res.refused, 100*res.cpuCalm/float64(len(res.calm)), 100*res.cpuUnder/float64(len(res.under)), res.rss, res.rss-res.rssCalm)
	s.check(t, ctx, r, res)
}

// pair is a window without the attack and one with it.
func (s *stage) pair(t *testing.T, ctx context.Context, i int, f form, res *result, times int64, took time.Duration) (int64, time.Duration) {
	t.Helper()
	cpu := func() float64 {
		d, err := bench.CPU(s.a.Pid())
		must(t, err)
		return d.Seconds()
	}
	c := cpu()
	res.calm = append(res.calm, s.window(ctx, f.window))
	res.cpuCalm += (cpu() - c) / f.window.Seconds()
	begin := time.Now()
	must(t, s.crewOf(i).on(i))
	wait(ctx, f.window/4) // until the attack has its strength
	c = cpu()
	res.under = append(res.under, s.window(ctx, f.window))
	res.cpuUnder += (cpu() - c) / f.window.Seconds()
	took += time.Since(begin)
	n, err := s.crewOf(i).off()
	must(t, err)
	return times + n, took
}

// peak is the most the attacked node has held since the peak began anew, in MiB.
func (s *stage) peak(t *testing.T) float64 {
	t.Helper()
	rss, err := bench.PeakRSS(s.a.Pid())
	must(t, err)
	return rss
}

// settle lets honest work go on until the node holds as much as it ever will:
// bundles end as fast as they come. What grows from then on is the attack's.
func (s *stage) settle(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*lifetime*time.Minute)
	defer cancel()
	var most int
	must(t, scenario.Poll(ctx, "the first bundles to end", func() (bool, error) {
		st, err := s.a.API.Status(ctx)
		if err != nil || st.Store.Bundles < most {
			return err == nil, err
		}
		most = st.Store.Bundles
		return false, fmt.Errorf("the node holds %d", most)
	}))
}

// check is what must be true of every row.
func (s *stage) check(t *testing.T, ctx context.Context, r row, res *result) {
	t.Helper()
	if !res.judge() {
		t.Errorf("honest work kept %.0f %% of forwarding, %.0f %% of the page and %.0f %% of scrapes, want %.0f", 100*res.kept.forward, 100*res.kept.page, 100*res.kept.scrapes, 100*share)
	}
	if res.attacks < float64(r.least) {
		t.Errorf("only %.0f attacks a second: the row means nothing below %d", res.attacks, r.least)
	}
	if grown, most := res.rss-res.rssCalm, growthMiB+r.grow; grown > most { // one password's derivation takes 64 MiB
		t.Errorf("the node grew by %.0f MiB, at most %.0f are allowed", grown, most)
	}
	if r.listener != "" && res.refused == 0 && res.attacks > 3*allowed[r.listener] {
		t.Error("the node counted nobody as refused")
	}
	if err := s.work.failed(); err != nil {
		t.Errorf("an honest call failed: %v", err)
		s.work.mu.Lock()
		s.work.err = nil
		s.work.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	must(t, s.meet(ctx))
	must(t, scenario.Poll(ctx, "a newcomer to be served afterwards", func() (bool, error) {
		err := s.work.newcomer(ctx)
		return err == nil, err
	}))
}

// comesBack kills the honest peer during an attack and starts it again. It
// must be linked anew while the attack goes on.
func (s *stage) comesBack(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must(t, s.outside.on(slices.IndexFunc(rows, func(r row) bool { return r.name == name })))
	defer func() {
		if _, err := s.outside.off(); err != nil {
			t.Error(err)
		}
	}()
	s.b.Kill()
	must(t, s.b.Up(ctx)) // its contacts begin at none
	must(t, s.meet(ctx))
}

// resetPeak lets VmHWM begin anew; proc(5), clear_refs.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

func (s *stage) refused(ctx context.Context, listener string) (uint64, error) {
	var st struct{ Refused map[string]uint64 }
	err := s.a.API.Do(ctx, "GET", "/v1/status", nil, &st)
	if err == nil && listener != "" {
		if _, ok := st.Refused[listener]; !ok {
			err = fmt.Errorf("the status does not tell who was refused at %s", listener)
		}
	}
	return st.Refused[listener], err
}

// namesOffenders checks that the one attacker with one address is named where
// operators look, and that it did not fill the log.
func (s *stage) namesOffenders(t *testing.T) {
	t.Helper()
	var peers struct {
		Refused []struct{ Listener, Addr string }
	}
	must(t, s.a.API.Do(t.Context(), "GET", "/v1/peers", nil, &peers))
	nextDoor := fmt.Sprintf("uid %d", neighbourUID)
	for listener, who := range map[string]string{
		"mesh": villain.String(), "gossip/tcp": villain.String(), "page": villain.String(), "page-ca": "10.66.", "socket": nextDoor, "metrics": nextDoor,
	} {
		if !slices.ContainsFunc(peers.Refused, func(o struct{ Listener, Addr string }) bool {
			return o.Listener == listener && strings.HasPrefix(o.Addr, who)
		}) {
			t.Errorf("the peers do not name %s as an offender at %s: %v", who, listener, peers.Refused)
		}
	}
	out, err := s.a.CLI(t.Context(), "", "status")
	must(t, err)
	for _, listener := range []string{"mesh", "page-ca", "socket", "metrics"} {
		if !regexp.MustCompile(`(?m)^refused .*[0-9]+ at ` + listener + `(,|$)`).MatchString(out) {
			t.Errorf("outrider status does not tell of %s:\n%s", listener, out)
		}
	}
	log, err := os.ReadFile(s.a.Log())
	must(t, err)
	const most = 256 << 10
	lines := bytes.Count(log, []byte("strangers refused"))
	named := strings.Contains(string(log), "addr=10.66.") && strings.Contains(string(log), "listener=page-ca")
	if lines == 0 || len(log) > most || !named {
		t.Errorf("the log has %d bytes, %d lines about strangers:\n%s", len(log), lines, log[:min(len(log), 4000)])
	}
}
