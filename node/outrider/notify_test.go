package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func envOf(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

// listen stands in for systemd.
func listen(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

func next(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotifierSettings(t *testing.T) {
	for usec, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "0": 0, "120000000": 2 * time.Minute, "1": watchdogMin, "9223372036854775807": 0,
	} {
		if got := newNotifier(envOf(map[string]string{"WATCHDOG_USEC": usec})).period; got != want {
			t.Errorf("%q: %v, want %v", usec, got, want)
		}
	}
}

func TestNotifierTells(t *testing.T) {
	if err := newNotifier(envOf(nil)).tell("READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	c, path := listen(t)
	if err := newNotifier(envOf(map[string]string{"NOTIFY_SOCKET": path})).tell("READY=1", "STATUS=up"); err != nil {
		t.Fatal(err)
	}
	if got := next(t, c); got != "READY=1\nSTATUS=up" {
		t.Errorf("%q", got)
	}
	if err := newNotifier(envOf(map[string]string{"NOTIFY_SOCKET": path + "x"})).tell("READY=1"); err == nil {
		t.Error("a socket that is not there")
	}
}

// The watchdog hears of a node that answers, and nothing of one that does not.
func TestWatchdogNeedsALivingNode(t *testing.T) {
	c, path := listen(t)
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		newNotifier(envOf(env)).watch(ctx, os.Getpid(), func(once context.Context) error {
			switch asked++; asked {
			case 1:
				return nil
			case 2: // hangs until its time is over
				<-once.Done()
				return once.Err()
			case 3:
				return errors.New("no answer")
			default:
				cancel()
				return nil
			}
		}, slog.New(slog.DiscardHandler))
	}()
	if got := next(t, c); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
	<-ended
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
	// Of the four only the first, and the last, which raced its end, may speak.
	if err := c.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	said := 0
	for {
		if _, err := c.Read(b); err != nil {
			break
		}
		said++
	}
	if said > 1 {
		t.Errorf("%d signs of life of a node that did not answer", said)
	}
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	_, path := listen(t)
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
	newNotifier(envOf(env)).watch(t.Context(), os.Getpid(), func(context.Context) error {
		t.Error("asked for nobody")
		return nil
	}, slog.New(slog.DiscardHandler))
}
