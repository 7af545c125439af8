package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// shiftVariable is read by a binary of shiftedBinary: seconds that its clock
// is ahead.
const shiftVariable = "OUTRIDER_TEST_CLOCK_SHIFT_S"

// shiftCode stands behind the time package of such a binary.
const shiftCode = `
var testShift = func() (shift int64) {
	v, _ := syscall.Getenv("` + shiftVariable + `")
	for _, c := range []byte(v) {
		if c >= '0' && c <= '9' {
			shift = 10*shift + int64(c-'0')
		}
	}
	if len(v) > 0 && v[0] == '-' {
		shift = -shift
	}
	return shift
}()
`

var shifted struct {
	once sync.Once
	bin  string
	err  error
}

// shiftedBinary builds the product with a wall clock that a variable shifts,
// and that no kernel vouches for, as on a board without a battery. Both exist
// in this test only: an overlay for the compiler, no switch in the product.
func shiftedBinary(t *testing.T) string {
	t.Helper()
	beside := filepath.Dir(scenario.Binary(t))
	shifted.once.Do(func() { shifted.bin, shifted.err = buildShifted(beside) })
	if shifted.err != nil {
		t.Fatal(shifted.err)
	}
	return shifted.bin
}

func buildShifted(dir string) (string, error) {
	root, err := scenario.Root()
	if err != nil {
		return "", err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, c := range []struct{ file, was, is, more string }{
		{filepath.Join(strings.TrimSpace(string(goroot)), "src", "time", "time.go"),
			"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += testShift\n", shiftCode},
		{filepath.Join(root, "node", "clock.go"),
			"return err == nil && state != unix.TIME_ERROR", "return false && err == nil && state != unix.TIME_ERROR", ""},
	} {
		src, err := os.ReadFile(c.file)
		if err != nil {
			return "", err
		}
		if strings.Count(string(src), c.was) != 1 {
			return "", fmt.Errorf("%s does not read the clock as this test expects: mend the test", c.file)
		}
		changed := strings.Replace(string(src), c.was, c.is, 1) + c.more
		if c.more != "" {
			changed = strings.Replace(changed, "import (\n", "import (\n\t\"syscall\"\n", 1)
		}
		to := filepath.Join(dir, "shifted-"+filepath.Base(c.file))
		if err := os.WriteFile(to, []byte(changed), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[c.file] = to
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file, bin := filepath.Join(dir, "shifted.json"), filepath.Join(dir, "outrider-shifted")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-overlay", file, "-o", bin, "./node/outrider")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with a shifted clock: %w\n%s", err, out)
	}
	return bin, nil
}

// awaitWarning waits until a box's status warns of something.
func (d *duo) awaitWarning(b *scenario.Box, code string) {
	d.t.Helper()
	d.must(scenario.Poll(d.ctx, b.Name+" to warn "+code, func() (bool, error) {
		var out struct{ Warnings []struct{ Code string } }
		err := b.API.Do(d.ctx, "GET", "/v1/status", nil, &out)
		return slices.ContainsFunc(out.Warnings, func(w struct{ Code string }) bool { return w.Code == code }), err
	}))
}

// TestWrongClock: a node whose clock is a year behind or two days ahead takes
// what was waiting for it, sends what it had not sent, talks both ways, says
// in its status that its clock is not to be trusted, and has lost nothing when
// the clock is right again.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		shift time.Duration
		warns string
	}{
		"a year behind":  {-365 * 24 * time.Hour, "clock_behind"},
		"two days ahead": {48 * time.Hour, "clock_unconfirmed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin := shiftedBinary(t)
			d := newDuo(t)
			right := d.b.Bin
			d.up(d.b)
			d.login(d.b, "bob")
			sent := map[string]string{"written before": d.send(d.b, "alice", "written before").ID}
			d.stop(d.b)
			d.up(d.a)
			d.login(d.a, "alice")
			waiting := d.send(d.a, "bob", "waiting for you")

			d.b.Bin, d.b.Wrap = bin, []string{"env", fmt.Sprintf("%s=%d", shiftVariable, int64(c.shift/time.Second))}
			out, err := d.b.CLI(d.ctx, "", "version")
			if err != nil {
				t.Fatalf("the shifted binary does not run: %v %s", err, out)
			}
			d.up(d.b)
			d.login(d.b, "bob")
			d.awaitWarning(d.b, c.warns)
			d.await(d.a, waiting.ID, "delivered")
			sent["from a wrong clock"] = d.send(d.b, "alice", "from a wrong clock").ID
			for _, id := range sent {
				d.await(d.b, id, "delivered")
			}
			live := d.send(d.a, "bob", "to a wrong clock")
			d.await(d.a, live.ID, "delivered")
			d.stop(d.b)
			late := d.send(d.a, "bob", "after the clock was set")

			d.b.Bin, d.b.Wrap = right, nil
			d.up(d.b)
			d.login(d.b, "bob")
			d.await(d.a, late.ID, "delivered")
			got := d.inbox(d.b)
			for _, text := range []string{"waiting for you", "to a wrong clock", "after the clock was set"} {
				if got[text].ID == "" {
					t.Errorf("bob lost %q; he has %d messages", text, len(got))
				}
			}
			in := d.inbox(d.a)
			for text := range sent {
				if in[text].ID == "" {
					t.Errorf("alice lost %q; she has %d messages", text, len(in))
				}
			}
			d.stop(d.a, d.b)
		})
	}
}
