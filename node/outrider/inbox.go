package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *app) inboxCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "inbox",
		GroupID: groupUser,
		Short:   "Read messages, or watch them come",
		Long:    "Inbox lists conversations and messages, or prints what arrives as it arrives.",
		Example: "  outrider inbox list\n  outrider inbox list bravo\n  outrider inbox watch",
	}
	c.AddCommand(a.inboxListCmd(), a.inboxWatchCmd(), a.inboxDismissCmd())
	return c
}

func (a *app) inboxListCmd() *cobra.Command {
	var limit int
	var before string
	c := &cobra.Command{
		Use:   "list [USER]",
		Short: "Conversations, or the messages of one",
		Long: `List shows every conversation with its last message and how many are unread.
With a user it shows the messages exchanged with them, newest last.`,
		Example:     "  outrider inbox list\n  outrider inbox list bravo --limit 100",
		Args:        cobra.MaximumNArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 || limit > 200 {
				return usageError("--limit: 1 to 200 messages")
			}
			if len(args) == 0 {
				return a.listConversations(cmd.Context())
			}
			return a.listMessages(cmd.Context(), args[0], before, limit)
		},
	}
	c.Flags().IntVar(&limit, "limit", 50, "how many messages")
	c.Flags().StringVar(&before, "before", "", "only messages before this one")
	return c
}

func (a *app) listConversations(ctx context.Context) error {
	var out struct{ Conversations []conversation }
	return a.do(ctx, http.MethodGet, "/v1/conversations", nil, &out, func() {
		rows := [][]string{}
		for _, c := range out.Conversations {
			row := []string{c.With.label(), strconv.Itoa(c.Unread), "", ""}
			if c.Last != nil {
				row[2], row[3] = when(c.Last.Sent), c.Last.gist()
			}
			rows = append(rows, row)
		}
		a.tableOr("no conversations yet", []string{"WITH", "UNREAD", "LAST", ""}, rows)
	})
}

func (a *app) listMessages(ctx context.Context, who, before string, limit int) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	id, err := c.findConversation(ctx, who)
	if err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if before != "" {
		q.Set("before", before)
	}
	var out struct{ Messages []message }
	raw, err := c.call(ctx, http.MethodGet, "/v1/conversations/"+url.PathEscape(id)+"/messages?"+q.Encode(), nil, &out)
	if err != nil {
		return err
	}
	return a.answer(raw, func() {
		for _, m := range out.Messages {
			a.showLine(m)
		}
	})
}

// findConversation finds the conversation with a user by name or identifier.
func (c *client) findConversation(ctx context.Context, who string) (string, error) {
	var out struct{ Conversations []conversation }
	if _, err := c.call(ctx, http.MethodGet, "/v1/conversations", nil, &out); err != nil {
		return "", err
	}
	var hits []string
	for _, v := range out.Conversations {
		if who == v.ID || who == v.With.ID || who == v.With.Name {
			hits = append(hits, v.ID)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return "", &failure{exit: exitMissing, code: "not_found", message: fmt.Sprintf("no conversation with %q", shorten(who)), next: "outrider inbox list"}
	}
	return "", &failure{exit: exitConflict, code: "ambiguous", message: fmt.Sprintf("%d people are called %q", len(hits), shorten(who)),
		hint: "use the identifier", next: "outrider user list"}
}

func (a *app) showLine(m message) {
	a.printf("%s  %s > %s  %s  [%s %s]\n", when(m.Sent), clean(m.From.label()), clean(m.To.label()), clean(m.gist()), clean(m.stateText()), clean(m.ID))
}

func (a *app) inboxDismissCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "dismiss MESSAGE",
		Short: "Take a message out of the list of failures",
		Long: `Dismiss takes a message out of the list of failures for good. The message stays
as it is; should it fail in another way, it is listed again.`,
		Example:     "  outrider failures\n  outrider inbox dismiss k3v7x2ma5qhd6yw2nfzj4tbe4u",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.postAction(cmd.Context(), args[0], "dismiss")
		},
	}
}

func (a *app) inboxWatchCmd() *cobra.Command {
	var count int
	c := &cobra.Command{
		Use:   "watch",
		Short: "Print messages and their states as they change",
		Long: `Watch prints what happens until it is interrupted: messages that arrive, states
that change, files that grow, contacts. A connection that breaks is taken up
again where it was. With --json each line is one event with its name and data.`,
		Example:     "  outrider inbox watch\n  outrider inbox watch --json --count 1",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 0 {
				return usageError("--count: 0 or more events")
			}
			return a.watch(cmd.Context(), count)
		},
	}
	c.Flags().IntVar(&count, "count", 0, "end after this many events (default: never)")
	return c
}

func (a *app) watch(ctx context.Context, count int) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	// Without a session the socket gives the node's own events, which are
	// not what was asked for.
	if _, err := c.call(ctx, http.MethodGet, "/v1/session", nil, nil); err != nil {
		return err
	}
	seen := 0
	return c.events(ctx, func(e event) (bool, error) {
		switch e.name {
		case "hello":
			return true, nil
		case "reset":
			if !a.json {
				a.printf("(some events were missed; see outrider inbox list)\n")
				return true, a.werr
			}
		}
		if err := a.showEvent(e); err != nil {
			return false, err
		}
		seen++
		return count == 0 || seen < count, a.werr
	})
}

func (a *app) showEvent(e event) error {
	if a.json {
		return a.emit(map[string]any{"event": e.name, "data": json.RawMessage(e.data)})
	}
	switch e.name {
	case "message", "state", "file":
		var m message
		if json.Unmarshal(e.data, &m) == nil && m.ID != "" {
			a.showLine(m)
			return nil
		}
	case "banner":
		var b banner
		if json.Unmarshal(e.data, &b) == nil && b.State != "" {
			a.printf("%s\n", clean(b.text()))
			return nil
		}
	}
	a.printf("%s %s\n", clean(e.name), clean(string(e.data)))
	return nil
}
