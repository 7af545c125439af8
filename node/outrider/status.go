package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"outrider/mesh/identity"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		GroupID: groupNode,
		Short:   "How the node is doing",
		Long: `Status tells who this node is, whom it is in contact with now, how full its
store is, whether the core can be reached or when it last could, and how many
were turned away at which of its ports; outrider peers names them.`,
		Example:     "  outrider status\n  outrider status --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s status
			return a.do(cmd.Context(), http.MethodGet, "/v1/status", nil, &s, func() { a.showStatus(s) })
		},
	}
}

func (a *app) showStatus(s status) {
	network := "none (outrider network create NAME, or outrider join)"
	if s.Network != nil {
		network = s.Network.Name + " " + short(s.Network.ID)
	}
	a.printf("node     %s\n", clean(strings.TrimSpace(s.Node+" "+s.Name)))
	a.printf("network  %s\n", clean(network))
	a.printf("contact  %s\n", clean(s.Banner.text()))
	a.printf("store    %s, %s of %s\n", plural(int(s.Store.Bundles), "bundle", "bundles"), bytesText(s.Store.Bytes), bytesText(s.Store.LimitBytes))
	a.printf("running  %s, version %s\n", time.Duration(s.UptimeS)*time.Second, clean(s.Version))
	if r := refusedText(s.Refused); r != "" {
		a.printf("refused  %s\n", clean(r))
	}
	for _, w := range s.Warnings {
		a.printf("warning  %s\n         %s\n", clean(w.Message), clean(w.Hint))
	}
	bearers := map[string]int{}
	for _, u := range s.Users {
		bearers[u.Name]++
	}
	for _, u := range s.Users {
		if bearers[u.Name] > 1 {
			u.Name += " " + u.ID // by which they log in
		}
		locked := "locked"
		if u.Unlocked {
			locked = "unlocked"
		}
		if u.Waiting > 0 {
			locked += ", " + plural(u.Waiting, "bundle waits", "bundles wait")
		}
		a.printf("user     %s, %s\n", clean(u.Name), locked)
	}
}

// refusedText says how many were turned away where, the most first.
func refusedText(at map[string]uint64) string {
	var out []string
	names := slices.Collect(maps.Keys(at))
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(cmp.Compare(at[y], at[x]), cmp.Compare(x, y)) })
	for _, name := range names {
		if at[name] > 0 {
			out = append(out, fmt.Sprintf("%d at %s", at[name], name))
		}
	}
	return strings.Join(out, ", ")
}

// text is the banner in words (features.md M16).
func (b banner) text() string {
	core := ""
	if !b.CoreLast.IsZero() {
		core = "; core last reached " + when(b.CoreLast)
	}
	switch b.State {
	case "alone":
		return "alone, nobody in reach" + core
	case "contact":
		return "in contact with " + plural(b.Contacts, "node", "nodes") + core
	case "core":
		return "core reachable, in contact with " + plural(b.Contacts, "node", "nodes")
	}
	return b.State
}

func (a *app) peersCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "peers",
		GroupID: groupNode,
		Short:   "Every node this one has met",
		Long: `Peers lists every node this one knows of: its name and addresses, whether it is
in contact, when it was last heard, and whether the operator has shut the link.
Addresses that were turned away at this node's ports since it started, because
they asked too much or could not prove that they belong here, follow.`,
		Example:     "  outrider peers",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Peers   []peer
				Refused []offender
			}
			return a.do(cmd.Context(), http.MethodGet, "/v1/peers", nil, &out, func() {
				rows := [][]string{}
				for _, p := range out.Peers {
					rows = append(rows, []string{short(p.ID), p.Name, linkState(p.Up, p.Blocked), when(p.LastHeard), strings.Join(p.Addrs, " ")})
				}
				a.tableOr("no node met yet", []string{"NODE", "NAME", "STATE", "LAST HEARD", "ADDRESSES"}, rows)
				a.showOffenders(out.Refused)
			})
		},
	}
}

// showOffenders lists who was turned away, if anybody was.
func (a *app) showOffenders(os []offender) {
	if len(os) == 0 {
		return
	}
	rows := [][]string{}
	for _, o := range os {
		rows = append(rows, []string{o.Listener, o.Addr, fmt.Sprint(o.Refused), when(o.Last)})
	}
	a.printf("\n")
	a.tableOr("", []string{"TURNED AWAY AT", "ADDRESS", "TIMES", "LAST"}, rows)
}

func (a *app) contactsCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "contacts",
		GroupID: groupNode,
		Short:   "Who was near in the last 24 hours, and what it carried",
		Long: `Contacts lists the times when other nodes were near, the newest first: when,
how long, and the bytes sent and received. An interruption of less than a
minute counts as the same contact. The list goes back 24 hours and survives a
restart.`,
		Example:     "  outrider contacts\n  outrider contacts --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Contacts []contact }
			return a.do(cmd.Context(), http.MethodGet, "/v1/contacts", nil, &out, func() { a.showContacts(out.Contacts) })
		},
	}
}

func (a *app) showContacts(cs []contact) {
	rows := [][]string{}
	for _, c := range cs {
		end, long := "now", time.Since(c.Start)
		if !c.End.IsZero() {
			end, long = when(c.End), c.End.Sub(c.Start)
		}
		rows = append(rows, []string{short(c.Node), c.Name, when(c.Start), end, long.Round(time.Second).String(), c.Class, bytesText(c.TxBytes), bytesText(c.RxBytes)})
	}
	a.tableOr("no contact in the last 24 hours", []string{"NODE", "NAME", "FROM", "TO", "LASTED", "CLASS", "SENT", "RECEIVED"}, rows)
}

func (a *app) linksCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "links",
		GroupID: groupNode,
		Short:   "Links and the bytes they carried",
		Long: `Links lists the links to other nodes: address, class of link, bytes sent and
received. The bytes are the links' own counters.`,
		Example:     "  outrider links",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Links []link }
			return a.do(cmd.Context(), http.MethodGet, "/v1/links", nil, &out, func() {
				rows := [][]string{}
				for _, p := range out.Links {
					rows = append(rows, []string{short(p.Node), p.Name, linkState(p.Up, p.Blocked), p.Class, bytesText(p.TxBytes), bytesText(p.RxBytes), p.Addr})
				}
				a.tableOr("no link yet", []string{"NODE", "NAME", "STATE", "CLASS", "SENT", "RECEIVED", "ADDRESS"}, rows)
			})
		},
	}
}

func linkState(up, blocked bool) string {
	switch {
	case blocked:
		return "shut"
	case up:
		return "up"
	}
	return "down"
}

// short is a node's identifier as logs have it.
func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// tableOr prints a table, or a sentence when it would be empty.
func (a *app) tableOr(none string, head []string, rows [][]string) {
	if len(rows) == 0 {
		a.printf("%s\n", none)
		return
	}
	a.table(head, rows)
}

func (a *app) linkCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "link",
		GroupID: groupNode,
		Short:   "Open or shut the link to one node",
		Long: `Link opens or shuts this node's own gate towards another node: when shut, this
node neither dials it nor answers it. The change is kept over restarts and takes
effect at once. It can be made while the node is not running, too.`,
		Example: "  outrider link down q5j2w6ay\n  outrider link up q5j2w6ay",
	}
	for _, word := range []string{"up", "down"} {
		text := map[string]string{"up": "Open the link to a node again", "down": "Shut the link to a node"}[word]
		c.AddCommand(&cobra.Command{
			Use:         word + " NODE",
			Short:       text,
			Long:        text + ". NODE is a node's identifier, its first\ncharacters, or its name as \"outrider peers\" shows them.",
			Example:     "  outrider link " + word + " q5j2w6ay",
			Args:        cobra.ExactArgs(1),
			Annotations: exits(exitNotRunning, exitRefused, exitMissing, exitConflict),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.setLink(cmd.Context(), args[0], word)
			},
		})
	}
	return c
}

func (a *app) setLink(ctx context.Context, word, up string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	id, raw, err := a.changeLink(ctx, c, word, up)
	if err != nil {
		return err
	}
	return a.answer(raw, func() { a.printf("link to %s is %s\n", short(id), map[string]string{"up": "open", "down": "shut"}[up]) })
}

// changeLink asks the running node, or opens the folder when none runs: then
// there is nobody to ask for names.
func (a *app) changeLink(ctx context.Context, c *client, word, up string) (id string, raw json.RawMessage, err error) {
	if word != "" && !running(ctx, c.dir) {
		node, perr := identity.ParseNodeID(word)
		if perr != nil {
			return "", nil, notRunning(c.dir, "while none runs, name the other node by its whole identifier")
		}
		return node.String(), nil, provision.SetLink(ctx, c.dir, node.String(), up == "up")
	}
	if id, err = c.findNode(ctx, word); err != nil {
		return "", nil, err
	}
	raw, err = c.call(ctx, http.MethodPost, "/v1/links/"+url.PathEscape(id)+"/"+up, nil, nil)
	return id, raw, err
}

// findNode turns an identifier, its beginning or a name into an identifier.
func (c *client) findNode(ctx context.Context, word string) (string, error) {
	if id, err := identity.ParseNodeID(word); err == nil {
		return id.String(), nil
	}
	if word == "" {
		return "", usageError("which node? its identifier, the first characters of it, or its name")
	}
	var out struct{ Peers []peer }
	if _, err := c.call(ctx, http.MethodGet, "/v1/peers", nil, &out); err != nil {
		return "", err
	}
	var hits []string
	for _, p := range out.Peers {
		if strings.HasPrefix(p.ID, strings.ToLower(word)) || p.Name == word {
			hits = append(hits, p.ID)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return "", &failure{exit: exitMissing, code: "not_found", message: fmt.Sprintf("no node %q among the peers", shorten(word)),
			hint: "a node that was never met can be named by its whole identifier", next: "outrider peers"}
	}
	return "", &failure{exit: exitConflict, code: "ambiguous", message: fmt.Sprintf("%q names %d nodes", shorten(word), len(hits)),
		hint: "give more characters of the identifier", next: "outrider peers"}
}

// decodeRaw decodes an answer that was kept as it came.
func decodeRaw(raw json.RawMessage, out any) error {
	if err := json.Unmarshal(raw, out); err != nil {
		return &failure{exit: exitFailed, code: "bad_answer", message: "the node's answer is no JSON of the expected form"}
	}
	return nil
}
