package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser"
	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	code := m.Run()
	scenario.Clean()
	os.Exit(code)
}

// demo runs the demonstration as a newcomer's make run does, to its summary.
func demo(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, append([]string{"-bin", scenario.Binary(t), "-dir", t.TempDir(), "-exit"}, args...)...)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err = cmd.Run()
	return b.String(), err
}

// TestDemonstration: every step is played, all that was sent is delivered, the
// contents equal, Bravo killed on the way, and the summary within a minute.
func TestDemonstration(t *testing.T) {
	out, err := demo(t)
	t.Log(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range steps {
		if strings.Count(out, st.title) != 2 { // as a heading and in the summary
			t.Errorf("the step %q is not told", st.title)
		}
	}
	sum := regexp.MustCompile(`\nsent (\d+), delivered (\d+), contents equal (\d+), ([\d.]+) s\n`).FindStringSubmatch(out)
	if sum == nil || len(sum[1]) < 2 || sum[1] != sum[2] || sum[1] != sum[3] {
		t.Errorf("the summary: %q", sum)
	} else if took, err := strconv.ParseFloat(sum[4], 64); err != nil || took > 60 {
		t.Errorf("it took %s s", sum[4])
	}
	for _, want := range []string{"killed (SIGKILL)", "alpha   -> charlie         0 bytes"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demonstration does not say %q", want)
		}
	}
}

// TestDemonstrationWithoutBravo: nothing can arrive, and it says so and fails.
func TestDemonstrationWithoutBravo(t *testing.T) {
	t.Parallel()
	out, err := demo(t, "-without-bravo", "-limit", "15s")
	t.Log(out)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() == 0 {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(out, "delivered 0,") {
		t.Error("it does not say that nothing was delivered")
	}
}

// TestBrowserToBrowser: a person at Alpha's page writes, and sees "delivered"
// while Charlie's page shows the text (M01, M14).
func TestBrowserToBrowser(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	bin, dir := scenario.Binary(t), t.TempDir()
	trio, err := scenario.NewTrio(ctx, func(name string) (*scenario.Box, error) {
		return scenario.NewBox(dir, name, bin, "127.0.0.1")
	}, scenario.People)
	if err != nil {
		t.Fatal(err)
	}
	s := scenario.NewStory(t.Context(), trio, &bytes.Buffer{})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Raise(ctx); err != nil {
		t.Fatal(err)
	}
	// Keys cross, so that carol is among the people alice can write to.
	err = s.Ferry(ctx, s.AlphaID, func() (bool, error) {
		users, err := s.Alpha.API.Users(ctx)
		for _, u := range users {
			if u.ID == s.Carol && u.HasKeys {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
	chromium, err := browser.Start(ctx, browser.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer chromium.Close()
	alice := login(t, chromium, s.Alpha, scenario.People[0])
	carol := login(t, chromium, s.Charlie, scenario.People[2])

	const text = "Page to page: <b>hold</b> at the ford."
	if err := alice.OpenChat("carol"); err != nil {
		t.Fatal(err)
	}
	if err := alice.Send(text); err != nil {
		t.Fatal(err)
	}
	err = s.Ferry(ctx, s.AlphaID, func() (bool, error) {
		state, err := alice.State(text)
		return state == "delivered", err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := carol.OpenChat("alice"); err != nil {
		t.Fatal(err)
	}
	if err := carol.WaitMessage(text); err != nil {
		t.Fatal(err)
	}
	for who, p := range map[string]*browser.Page{"alice": alice, "carol": carol} {
		if problems := p.Problems(); len(problems) > 0 {
			t.Errorf("%s's page: %v", who, problems)
		}
	}
}

func login(t *testing.T, b *browser.Browser, box *scenario.Box, user string) *browser.Page {
	t.Helper()
	p, err := b.Page(browser.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Open(box.PageURL()); err != nil {
		t.Fatal(err)
	}
	if err := p.Login(user, scenario.UserPassword); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", user, err))
	}
	return p
}
