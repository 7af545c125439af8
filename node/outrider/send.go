package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// textMax is the longest text taken, in bytes; the node's limit is lower or
// the same.
const textMax = 128 << 10

// onceMax is the longest name of an act, in bytes; the node's limit.
const onceMax = 128

// precedences in the order of urgency, as the API spells them.
var precedences = []string{"routine", "priority", "immediate", "flash"}

// sendFlags are common to everything that is sent.
type sendFlags struct {
	precedence string
	ttl        string
	once       string
}

func (f *sendFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.precedence, "precedence", "p", "", "routine, priority, immediate or flash (default routine)")
	c.Flags().StringVar(&f.once, "once", "", "name this message: sent again under the same name it exists once (default: a new name)")
	c.Flags().StringVar(&f.ttl, "ttl", "", "give up after this time, 1m to 366d, for example 90m, 36h or 5d; at most and by default the network's limit")
}

// parse checks the flags; ttl is in whole seconds, 0 = not given.
func (f *sendFlags) parse() (precedence string, ttlS int64, err error) {
	p := strings.ToLower(f.precedence)
	if p != "" && !slices.Contains(precedences, p) {
		return "", 0, usageError("--precedence %q: use one of %s", shorten(f.precedence), strings.Join(precedences, ", "))
	}
	if len(f.once) > onceMax {
		return "", 0, usageError("--once: at most %d characters", onceMax)
	}
	if f.once == "" {
		f.once = newOnce()
	}
	if f.ttl == "" {
		return p, 0, nil
	}
	d, err := parseSpan(f.ttl, time.Minute, spanMax)
	if err != nil {
		return "", 0, usageError("--ttl %q: %v", shorten(f.ttl), err)
	}
	return p, int64(d / time.Second), nil
}

// spanMax is the longest time anything here can be given.
const spanMax = 366 * 24 * time.Hour

// parseDuration reads a time that is bounded by its user.
func parseDuration(s string) (time.Duration, error) { return parseSpan(s, time.Second, spanMax) }

// parseSpan reads Go's durations and whole days ("5d"), from least to most.
func parseSpan(s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, derr := strconv.ParseUint(days, 10, 16)
		d, err = time.Duration(n)*24*time.Hour, derr
	}
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("want a time from %s to %s, such as 90m, 36h or 5d", spanText(least), spanText(most))
	}
	return d, nil
}

// spanText writes a time as parseSpan reads it.
func spanText(d time.Duration) string {
	for _, u := range []struct {
		unit, least time.Duration
		name        string
	}{{24 * time.Hour, 48 * time.Hour, "d"}, {time.Hour, time.Hour, "h"}, {time.Minute, time.Minute, "m"}} {
		if d >= u.least && d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return d.String()
}

func (a *app) sendCmd() *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use:     "send TO TEXT...",
		GroupID: groupUser,
		Short:   "Send a text",
		Long: `Send writes a text to a user, named by name or identifier. It returns when the
message is safe on this node's disk; from there it goes by itself, also after a
power cut. With - for TEXT it is read from standard input.

If the recipient's keys have not arrived yet the message waits and goes as soon
as they do.`,
		Example:     "  outrider send bravo \"bridge is down, use the ford\"\n  outrider send bravo --precedence flash --ttl 30m contact north\n  date | outrider send bravo -",
		Args:        cobra.MinimumNArgs(2),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd.Context(), args[0], args[1:], f)
		},
	}
	f.add(c)
	return c
}

func (a *app) send(ctx context.Context, to string, words []string, f sendFlags) error {
	precedence, ttl, err := f.parse()
	if err != nil {
		return err
	}
	text := strings.Join(words, " ")
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(a.in, textMax+1))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		text = strings.TrimSuffix(string(b), "\n")
	}
	switch {
	case text == "":
		return usageError("the text is empty")
	case len(text) > textMax:
		return usageError("the text is longer than %d KiB; send it as a file", textMax>>10)
	case !utf8.ValidString(text):
		return usageError("the text is not UTF-8; send it as a file")
	}
	in := map[string]any{"to": to, "text": text}
	addOptional(in, precedence, ttl)
	return a.post(ctx, "/v1/messages", f, in)
}

func addOptional(in map[string]any, precedence string, ttlS int64) {
	if precedence != "" {
		in["precedence"] = precedence
	}
	if ttlS > 0 {
		in["ttl_s"] = ttlS
	}
}

// post sends something and prints what became of it; f names the act and the
// time that was asked for.
func (a *app) post(ctx context.Context, path string, f sendFlags, in any) error {
	var m message
	c, err := a.client()
	if err != nil {
		return err
	}
	a.archiveNotice(ctx, c)
	var raw json.RawMessage
	err = c.sendOnce(ctx, f.once, func() (err error) {
		raw, err = c.call(ctx, http.MethodPost, path, in, &m)
		return err
	})
	if err != nil {
		return err
	}
	return a.answer(raw, func() {
		a.sent(m)
		a.cut(m, f)
	})
}

// cut says that the network keeps a message for less long than was asked for.
func (a *app) cut(m message, f sendFlags) {
	asked, err := parseSpan(f.ttl, time.Minute, spanMax)
	if err != nil || m.Sent.IsZero() || m.Expires.IsZero() {
		return
	}
	if given := m.Expires.Sub(m.Sent).Round(time.Minute); given < asked-time.Minute {
		a.printf("  it is kept for %s, the most this network allows, not for %s\n", spanText(given), spanText(asked))
	}
}

func (a *app) sent(m message) {
	a.printf("%s %s\n", clean(m.ID), clean(m.stateText()))
	if m.ReasonCode == "unknown_id" {
		a.printf("  %s\n", clean(m.Reason))
	}
	if m.Hint != "" {
		a.printf("  %s\n", clean(m.Hint))
	}
}

// stateText is a message's state in the words of the state table.
func (m message) stateText() string {
	s := m.State
	if m.Delivered != nil && (s == "delivered" || m.Delivered.N > 0) {
		s = fmt.Sprintf("%s %d/%d", s, m.Delivered.N, m.Delivered.M)
	}
	return s
}
