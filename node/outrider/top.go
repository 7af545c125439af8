package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"outrider/node/api"
)

// The screen when the terminal does not say its size: a serial line.
const (
	serialWidth  = 80
	serialHeight = 24
	narrowest    = 40
	shortest     = 16
	roomy        = 20 // lines from which on groups are set apart
)

// topSample is what one look at the node brought.
type topSample struct {
	at     time.Time
	health api.Health
	links  []link
}

func (a *app) topCmd() *cobra.Command {
	var once bool
	interval := 2
	c := &cobra.Command{
		Use:     "top",
		GroupID: groupNode,
		Short:   "Watch the node at work",
		Long: `Top shows what is held by precedence, the links with their rates, store, clock,
memory and neighbours, anew every two seconds. Only what changed is sent to the
terminal, so that it can be used over a serial line of 9,600 baud; 40 columns
and 16 lines are enough. q quits. With --once it prints one picture and ends;
rates are then those of one interval.`,
		Example:     "  outrider top\n  outrider top --once\n  outrider top --once --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 1 || interval > 3600 {
				return usageError("--interval must be 1 to 3600")
			}
			pause := time.Duration(interval) * time.Second
			if once || a.json {
				return a.topPlain(cmd.Context(), pause, once)
			}
			return a.topScreen(cmd.Context(), pause)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print one picture and end")
	c.Flags().IntVar(&interval, "interval", interval, "seconds between two looks at the node")
	return c
}

// look asks the node.
func (a *app) lookTop(ctx context.Context) (s topSample, err error) {
	if s.health, err = a.healthOf(ctx); err != nil {
		return s, err
	}
	c, err := a.client()
	if err != nil {
		return s, err
	}
	var out struct{ Links []link }
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err = c.call(ctx, http.MethodGet, "/v1/links", nil, &out)
	s.links, s.at = out.Links, time.Now()
	return s, err
}

// topPlain writes pictures one after the other, for files and programs.
func (a *app) topPlain(ctx context.Context, pause time.Duration, once bool) error {
	before, err := a.lookTop(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		now, err := a.lookTop(ctx)
		if err != nil {
			return err
		}
		if a.json {
			err = a.emit(now.health)
		} else {
			for _, line := range picture(before, now, serialWidth, 0) {
				a.printf("%s\n", strings.TrimRight(line, " "))
			}
			err = a.werr
		}
		if err != nil || once {
			return err
		}
		before = now
	}
}

// topScreen keeps a terminal up to date until q or an end of the node.
func (a *app) topScreen(ctx context.Context, pause time.Duration) error {
	in, ok1 := a.in.(*os.File)
	out, ok2 := a.out.(*os.File)
	if !ok1 || !ok2 || !isTerminal(in) || !isTerminal(out) {
		return &failure{exit: exitUsage, code: "no_terminal", message: "top needs a terminal", next: "outrider top --once"}
	}
	before, err := a.lookTop(ctx)
	if err != nil {
		return err
	}
	back, err := rawMode(in)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	s := &screen{}
	defer func() {
		a.printf("\x1b[%d;1H\r\n", max(1, s.height)) // below the picture
		back()
	}()
	for now := before; ctx.Err() == nil; {
		w, h := terminalSize(out)
		a.printf("%s", s.paint(picture(before, now, w, h), w, h))
		if a.werr != nil || quits(ctx, in, now.at.Add(pause)) {
			return a.werr
		}
		before = now
		if now, err = a.lookTop(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return nil
}

// quits waits for the next look, and tells whether q or Ctrl-C was typed
// meanwhile.
func quits(ctx context.Context, in *os.File, until time.Time) bool {
	const glance = 200 * time.Millisecond // so that a signal is heeded at once
	for ctx.Err() == nil {
		left := time.Until(until)
		if left <= 0 {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(min(left, glance).Milliseconds())+1)
		if err != nil || n == 0 {
			continue // interrupted, or nothing typed
		}
		var b [16]byte
		got, err := in.Read(b[:])
		if err != nil || got == 0 {
			return true // the line is gone
		}
		if strings.ContainsAny(string(b[:got]), "qQ\x03") {
			return true
		}
	}
	return true
}

// picture draws lines of at most width-1 characters; with a height it leaves
// out neighbours that find no room.
func picture(before, now topSample, width, height int) []string {
	h, took := now.health, now.at.Sub(before.at).Seconds()
	lines := []string{
		fmt.Sprintf("%s  up %s  outrider %s", contactText(h), duration(h.UptimeS), clean(h.Version)),
		fmt.Sprintf("clock %s%s  memory %s  users %d/%d", h.Clock.Source, floorText(h), bytesText(int64(h.Memory.ResidentBytes)), h.UsersUnlocked, h.UsersUnlocked+h.UsersLocked),
		fmt.Sprintf("store %s of %s  disk %s free", bytesText(int64(h.Store.Bytes)), bytesText(int64(h.Store.LimitBytes)), bytesText(int64(h.Store.FreeBytes))),
		"",
		fmt.Sprintf("%-9s %7s %8s %8s", "HELD", "bundles", "bytes", "oldest"),
	}
	for _, q := range h.Queue {
		lines = append(lines, fmt.Sprintf("%-9s %7d %8s %8s", q.Precedence, q.Bundles, bytesText(q.Bytes), duration(q.OldestS)))
	}
	lines = append(lines, "", fmt.Sprintf("%-5s %4s %6s %9s %9s", "LINKS", "now", "wait", "in/s", "out/s"))
	for i, l := range h.Links {
		var was api.HealthLinks
		if i < len(before.health.Links) {
			was = before.health.Links[i]
		}
		lines = append(lines, fmt.Sprintf("%-5s %4d %6d %9s %9s", l.Class, l.Contacts, l.Waiting, rate(l.Received, was.Received, took), rate(l.Sent, was.Sent, took)))
	}
	lines = append(lines, "", fmt.Sprintf("%-14s %-4s %9s %9s  %s", "NEIGHBOUR", "", "in/s", "out/s", "address"))
	foot := fmt.Sprintf("q quits  refused %d  foreign %d  again %d", h.Refused+h.Crowded, h.Foreign, h.Counters.Duplicates)
	rows := neighbours(before, now, took)
	if height > 0 && height < roomy {
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	}
	if room := height - len(lines) - 1; height > 0 && len(rows) > room {
		rows = rows[:max(0, room)]
	}
	lines = append(append(lines, rows...), foot)
	for i := range lines {
		lines[i] = clip(lines[i], width-1)
	}
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	return lines
}

// neighbours are the rows of single nodes, those in contact first.
func neighbours(before, now topSample, took float64) (rows []string) {
	was := map[string]link{}
	for _, l := range before.links {
		was[l.Node] = l
	}
	up, down := []string{}, []string{}
	for _, l := range now.links {
		name := l.Name
		if name == "" {
			name = short(l.Node)
		}
		row := fmt.Sprintf("%-14s %-4s %9s %9s  %s", clip(clean(name), 14), linkState(l.Up, l.Blocked),
			rate(uint64(l.RxBytes), uint64(was[l.Node].RxBytes), took), rate(uint64(l.TxBytes), uint64(was[l.Node].TxBytes), took), clean(l.Addr))
		if l.Up {
			up = append(up, row)
		} else {
			down = append(down, row)
		}
	}
	return append(up, down...)
}

func contactText(h api.Health) string {
	n := 0
	for _, l := range h.Links {
		n += l.Contacts
	}
	switch {
	case !h.Enrolled:
		return "looks for its network"
	case n == 0:
		return "alone"
	}
	return plural(n, "contact", "contacts")
}

func floorText(h api.Health) string {
	if h.Clock.BelowFloor {
		return " WRONG"
	}
	return ""
}

// rate is bytes per second since the look before.
func rate(now, before uint64, seconds float64) string {
	if seconds <= 0 || now <= before {
		return "-"
	}
	return bytesText(int64(float64(now-before) / seconds))
}

// duration writes seconds in at most seven characters.
func duration(s int64) string {
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 48*3600:
		return fmt.Sprintf("%d h", s/3600)
	}
	return fmt.Sprintf("%d d", s/86400)
}

func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:max(0, most)])
	}
	return s
}
