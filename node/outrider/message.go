package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"outrider/node/chat"
)

func (a *app) messageCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "message",
		GroupID: groupUser,
		Short:   "Show a message",
		Long:    "Message shows one message with all that is known about it.",
		Example: "  outrider message show k3v7x2ma5qhd6yw2nfzj4tbe4u",
	}
	c.AddCommand(&cobra.Command{
		Use:         "show MESSAGE",
		Short:       "Show one message",
		Long:        "Show prints a message: who, when, what, and how far it has got.",
		Example:     "  outrider message show k3v7x2ma5qhd6yw2nfzj4tbe4u",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := messagePath(args[0], "")
			if err != nil {
				return err
			}
			var m message
			return a.do(cmd.Context(), http.MethodGet, path, nil, &m, func() {
				a.showMessage(m)
				if m.Location != nil {
					a.showPlace(*m.Location, a.whereHere(cmd.Context()), time.Now())
				}
			})
		},
	})
	return c
}

// messageID reads the identifier of a message: no other word is put into a path.
func messageID(word string) (string, error) {
	id, err := chat.ParseMessageID(word)
	if err != nil {
		return "", &failure{exit: exitUsage, code: "usage", message: fmt.Sprintf("%q is no identifier of a message: 26 characters, a to z and 2 to 7", shorten(word)),
			hint: "outrider inbox list USER shows it at the end of each line"}
	}
	return id.String(), nil
}

func messagePath(word, action string) (string, error) {
	id, err := messageID(word)
	if action != "" {
		action = "/" + action
	}
	return "/v1/messages/" + id + action, err
}

func (a *app) showMessage(m message) {
	row := func(name, value string) {
		if value != "" {
			a.printf("%-11s %s\n", name, clean(value))
		}
	}
	row("message", m.ID)
	row("from", m.From.label())
	row("to", m.To.label())
	row("sent", when(m.Sent))
	row("received", when(m.Received))
	row("expires", when(m.Expires))
	row("precedence", m.Precedence)
	row("state", m.stateText())
	row("reason", m.Reason)
	row("to do", m.Hint)
	if m.Hops > 0 {
		row("hops", strconv.Itoa(m.Hops))
	}
	switch {
	case m.File != nil:
		row("file", m.File.text())
	case m.Location != nil:
		row("position", m.Location.text())
	}
	if m.Text != "" {
		a.printf("\n")
		for _, line := range strings.Split(m.Text, "\n") {
			a.printf("  %s\n", clean(line))
		}
	}
}

func (f file) text() string {
	s := f.Name + ", " + bytesText(f.Size)
	if f.MediaType != "" {
		s += ", " + f.MediaType
	}
	if !f.Complete && f.Total > 0 {
		s += ", " + strconv.FormatInt(f.Have*100/f.Total, 10) + " % here"
	}
	return s
}

func (l location) text() string {
	s := strconv.FormatFloat(l.Lat, 'f', -1, 64) + " " + strconv.FormatFloat(l.Lon, 'f', -1, 64)
	if l.AccuracyM > 0 {
		s += " (within " + strconv.FormatFloat(l.AccuracyM, 'f', -1, 64) + " m)"
	}
	if l.Note != "" {
		s += " " + l.Note
	}
	return s
}

// gist is a message's content in one line.
func (m message) gist() string {
	switch {
	case m.Withheld != "":
		what := map[string]string{"file": "file", "location": "position"}[m.Type]
		return "[" + cmp.Or(what, "message") + " withheld by the policy of group " + m.Withheld + "]"
	case m.File != nil:
		return "[file] " + m.File.text()
	case m.Location != nil:
		return "[position] " + m.Location.text()
	}
	return shorten(m.Text)
}

func (a *app) whyCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "why MESSAGE",
		GroupID: groupUser,
		Short:   "Where a message is and what it waits for",
		Long: `Why tells in plain words where a message is, what this node knows of it, what
will happen by itself, and what a person can do: in German where LC_ALL,
LC_MESSAGES or LANG says so, else in English.`,
		Example:     "  outrider why k3v7x2ma5qhd6yw2nfzj4tbe4u",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := messagePath(args[0], "why")
			if err != nil {
				return err
			}
			var w whyAnswer
			return a.do(cmd.Context(), http.MethodGet, path, nil, &w, func() { a.showWhy(w) })
		},
	}
}

func (a *app) retryCmd() *cobra.Command {
	return a.actOnMessage("retry", "Send a message that is queued or failed once more",
		`Retry offers the same message again, under the same identity: a recipient who
has it already sees it once. It applies to messages that are queued or failed.`)
}

func (a *app) recallCmd() *cobra.Command {
	return a.actOnMessage("recall", "Take a message back",
		`Recall withdraws a message that was not delivered yet: every node that carries
it drops it when the recall reaches it. What was read cannot be unread.`)
}

func (a *app) actOnMessage(verb, shortText, long string) *cobra.Command {
	return &cobra.Command{
		Use:         verb + " MESSAGE",
		GroupID:     groupUser,
		Short:       shortText,
		Long:        long,
		Example:     "  outrider " + verb + " k3v7x2ma5qhd6yw2nfzj4tbe4u",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.postAction(cmd.Context(), args[0], verb)
		},
	}
}

// postAction does something to one message and prints what became of it.
func (a *app) postAction(ctx context.Context, word, verb string) error {
	path, err := messagePath(word, verb)
	if err != nil {
		return err
	}
	var m message
	return a.do(ctx, http.MethodPost, path, nil, &m, func() { a.sent(m) })
}

func (a *app) failuresCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "failures",
		GroupID: groupUser,
		Short:   "Messages that cannot go on, and why",
		Long: `Failures lists the messages that cannot go on by themselves, each with the
reason and what to do: retry it, recall it, or wait for what it names.`,
		Example:     "  outrider failures\n  outrider retry k3v7x2ma5qhd6yw2nfzj4tbe4u",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Messages []message }
			return a.do(cmd.Context(), http.MethodGet, "/v1/failures", nil, &out, func() {
				if len(out.Messages) == 0 {
					a.printf("nothing has failed\n")
				}
				for _, m := range out.Messages {
					a.printf("%s to %s, %s: %s\n", clean(m.ID), clean(m.To.label()), clean(m.stateText()), clean(m.gist()))
					if m.Reason != "" {
						a.printf("  why: %s\n", clean(m.Reason))
					}
					if m.Hint != "" {
						a.printf("  do:  %s\n", clean(m.Hint))
					}
				}
			})
		},
	}
}
