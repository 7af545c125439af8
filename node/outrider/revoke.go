package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

// adminCall is what the calls of an administrator take; each uses some of it.
type adminCall struct {
	Kind          string `json:"kind,omitempty"`
	Who           string `json:"who,omitempty"`
	UserKey       string `json:"user_key,omitempty"`
	Node          string `json:"node,omitempty"`
	AdminPassword string `json:"admin_password,omitempty"`
}

type revoked struct {
	Kind       string `json:"kind"`
	ID         string `json:"id"`
	Name       string `json:"name"`
	Generation uint32 `json:"generation"`
}

func (r revoked) label() string {
	if r.Name == "" {
		return r.ID
	}
	return r.Name
}

func (a *app) revokeCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "revoke",
		GroupID: groupUser,
		Short:   "Take back a user or a node for ever",
		Long: `Revoke takes back what was lost or captured. It needs the network's admin
password, on the running node that holds the admin key.`,
		Example: "  outrider revoke user bravo\n  outrider revoke node bravo",
	}
	c.AddCommand(
		a.revokeOneCmd("user", "Take back a user", `User takes back a user and all devices of theirs: what they send from then on is
not accepted by anybody who has heard of it, and nothing more is sealed to them.
A join link that nobody has used yet is taken back in the same way.

The user's node stays a relay; revoke it as well if it is lost.`),
		a.revokeOneCmd("node", "Take back a node", `Node takes back a node: whoever hears of it closes the connection to it at once
and admits it no more. WHO is its id, or the name of the user it was issued for.

Users with keys on that node are not taken back with it; revoke those as well if
the node is lost.`),
	)
	return c
}

func (a *app) revokeOneCmd(kind, short, long string) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   kind + " WHO",
		Short: short,
		Long: long + `

Nobody is ever un-revoked: whoever is to come back gets a new link. Each
revocation also starts a new network secret, which the revoked are never handed.`,
		Example:     "  outrider revoke " + kind + " bravo\n  outrider revoke " + kind + " bravo --admin-password-file admin.pw",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := adminCall{Kind: kind, Who: args[0]}
			if err := a.adminPassword(cmd.Context(), &in, file); err != nil {
				return err
			}
			var out revoked
			return a.do(cmd.Context(), http.MethodPost, "/v1/network/revocations", in, &out, func() { a.showRevoked(out) })
		},
	}
	passwordFlag(c, &file, "admin-password-file", "the admin password")
	return c
}

// adminPassword asks for the admin password, but only once a node runs that
// could use it.
func (a *app) adminPassword(ctx context.Context, in *adminCall, file string) error {
	if _, err := a.client(); err != nil {
		return err
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	if !running(ctx, dir) {
		return &failure{exit: exitNotRunning, code: "not_running", message: "no node is running on " + dir, next: "outrider up"}
	}
	p, err := a.password(ctx, file, "Admin password")
	in.AdminPassword = string(p)
	return err
}

func (a *app) showRevoked(r revoked) {
	a.printf("%s %s is revoked; the network secret is now of generation %d\n", clean(r.Kind), clean(r.label()), r.Generation)
	a.printf("nodes that are out of reach hear of it at their next contact\n")
}
