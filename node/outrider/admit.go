package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type enrolment struct {
	ID    string     `json:"id"`
	Name  string     `json:"name"`
	State string     `json:"state"`
	Ends  time.Time  `json:"ends"`
	Users []enrolled `json:"users"`
	Nodes []enrolled `json:"nodes"`
}

type enrolled struct {
	ID   string `json:"id"`
	Here bool   `json:"here"`
}

type admitted struct {
	Users int `json:"users"`
	Nodes int `json:"nodes"`
}

func (a *app) admitCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "admit",
		GroupID: groupUser,
		Short:   "Confirm who has used a join link",
		Long: `Admit confirms with the admin's key who has used a join link. Until then a user
and a node count for the time written in the link plus 30 days. Confirmation
closes the link: whoever uses it later is refused.

A link that was used twice before freezes its users: they receive and what they
send is not accepted. Only a person can tell who is the right one: "admit list"
on that person's own node marks which key and node are theirs.`,
		Example: "  outrider admit list\n  outrider admit accept bravo",
	}
	c.AddCommand(a.admitListCmd(), a.admitAcceptCmd(), a.admitRefuseCmd(), a.admitRenewCmd(), a.admitAutoCmd())
	return c
}

func (a *app) admitListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Links that are open or wait for a decision",
		Long: `List shows each link that is still good: unused, waiting for the admin, or used
more than once (conflict). Keys and nodes of the node it runs on are marked with
a star.`,
		Example:     "  outrider admit list",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitBusy),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Enrolments []enrolment }
			return a.do(cmd.Context(), http.MethodGet, "/v1/network/enrolments", nil, &out, func() {
				rows := [][]string{}
				for _, e := range out.Enrolments {
					rows = append(rows, []string{e.Name, e.ID, e.State, names(e.Users), names(e.Nodes), when(e.Ends)})
				}
				a.tableOr("nothing waits", []string{"NAME", "ID", "STATE", "USER KEYS", "NODES", "ENDS"}, rows)
			})
		},
	}
}

// names lists ids, a star after those of this node.
func names(list []enrolled) string {
	var out []string
	for _, e := range list {
		if e.Here {
			e.ID += "*"
		}
		out = append(out, e.ID)
	}
	return strings.Join(out, " ")
}

func (a *app) admitAcceptCmd() *cobra.Command {
	var in adminCall
	var file string
	c := &cobra.Command{
		Use:   "accept WHO",
		Short: "Confirm a user and their node",
		Long: `Accept issues the final certificates, the node's before the user's. In a conflict
--user-key and --node say which of those that "admit list" shows are the right
ones; the others are refused from then on.`,
		Example:     "  outrider admit accept bravo\n  outrider admit accept bravo --user-key 0123456789abcdef --node NODE",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Who = args[0]
			if err := a.adminPassword(cmd.Context(), &in, file); err != nil {
				return err
			}
			var out admitted
			return a.do(cmd.Context(), http.MethodPost, "/v1/network/enrolments/accept", in, &out, func() { a.showAdmitted(out) })
		},
	}
	c.Flags().StringVar(&in.UserKey, "user-key", "", "the right user key, when there are several")
	c.Flags().StringVar(&in.Node, "node", "", "the right node, when there are several")
	passwordFlag(c, &file, "admin-password-file", "the admin password")
	return c
}

func (a *app) showAdmitted(out admitted) {
	a.printf("confirmed: users %d, nodes %d\n", out.Users, out.Nodes)
}

func (a *app) admitRefuseCmd() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:         "refuse WHO",
		Short:       "Revoke a link and all that was made with it",
		Long:        "Refuse revokes a link with every user key and node that was made with it.",
		Example:     "  outrider admit refuse bravo",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := adminCall{Who: args[0]}
			if err := a.adminPassword(cmd.Context(), &in, file); err != nil {
				return err
			}
			var out revoked
			return a.do(cmd.Context(), http.MethodPost, "/v1/network/enrolments/refuse", in, &out, func() { a.showRevoked(out) })
		},
	}
	passwordFlag(c, &file, "admin-password-file", "the admin password")
	return c
}

func (a *app) admitRenewCmd() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "renew",
		Short: "Confirm what waits and renew what ends soon",
		Long: `Renew confirms every link that was used once, and issues anew the certificates of
users and nodes that end within 30 days. Devices renew themselves when their
user logs in; guests get a new link.`,
		Example:     "  outrider admit renew --admin-password-file admin.pw",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitRefused, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var in adminCall
			if err := a.adminPassword(cmd.Context(), &in, file); err != nil {
				return err
			}
			var out admitted
			return a.do(cmd.Context(), http.MethodPost, "/v1/network/renew", in, &out, func() { a.showAdmitted(out) })
		},
	}
	passwordFlag(c, &file, "admin-password-file", "the admin password")
	return c
}

func (a *app) admitAutoCmd() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "auto on|off",
		Short: "Confirm and renew without being asked",
		Long: `Auto keeps the admin key open in the running node's memory: it does by itself what
"admit renew" does, until auto off or the node's end. Whoever captures the running
node then has the admin key.`,
		Example:     "  outrider admit auto on\n  outrider admit auto off",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in adminCall
			path, text := "/v1/network/admin/lock", "the admin key is closed\n"
			switch args[0] {
			case "on":
				if err := a.adminPassword(cmd.Context(), &in, file); err != nil {
					return err
				}
				path, text = "/v1/network/admin/unlock", "the admin key is open until auto off or the node's end\n"
			case "off":
			default:
				return usageError("auto %q: use on or off", shorten(args[0]))
			}
			return a.do(cmd.Context(), http.MethodPost, path, in, nil, func() { a.printf("%s", text) })
		},
	}
	passwordFlag(c, &file, "admin-password-file", "the admin password")
	return c
}
