package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A notifier tells systemd how the node fares, by datagrams of the form
// KEY=VALUE to the socket it names (sd_notify(3)). Without one it says nothing.
type notifier struct {
	socket string        // NOTIFY_SOCKET
	period time.Duration // WATCHDOG_USEC; 0 when nobody watches
	pid    string        // WATCHDOG_PID: whom the watchdog is for; empty is anybody
}

// watchdogMin keeps a mistaken setting from becoming a busy loop.
const watchdogMin = 100 * time.Millisecond

func newNotifier(env func(string) string) notifier {
	n := notifier{socket: env("NOTIFY_SOCKET"), pid: env("WATCHDOG_PID")}
	if usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && usec < int64(time.Duration(1<<62)/time.Microsecond) {
		n.period = max(time.Duration(usec)*time.Microsecond, watchdogMin)
	}
	return n
}

// tell sends a state. An abstract socket's name begins with @ here and with a
// zero byte for the kernel; net knows that.
func (n notifier) tell(state ...string) error {
	if n.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	_, err = c.Write([]byte(strings.Join(state, "\n")))
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// watch tells the watchdog that the node lives, as long as alive says so, until
// ctx ends. Each sign needs an answer of its own: a node whose agent hangs is
// silent, and systemd starts it anew.
func (n notifier) watch(ctx context.Context, pid int, alive func(context.Context) error, log *slog.Logger) {
	if n.socket == "" || n.period == 0 || n.pid != "" && n.pid != strconv.Itoa(pid) {
		return
	}
	tick := time.NewTicker(n.period / 4)
	defer tick.Stop()
	for {
		once, done := context.WithTimeout(ctx, n.period/2)
		err := alive(once)
		done()
		if err == nil {
			err = n.tell("WATCHDOG=1")
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Warn("no sign of life to the watchdog", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// alive asks the node on dir for its status through its own socket. The answer
// has gone through the API and, once the node is whole, the agent's step.
func alive(dir string) func(context.Context) error {
	t := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, dir) },
		DisableKeepAlives: true,
	}
	c := &client{dir: dir, http: &http.Client{Transport: t}}
	return func(ctx context.Context) error {
		resp, err := c.request(ctx, http.MethodGet, "/v1/status", "", nil, 0)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}
