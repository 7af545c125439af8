package main

import (
	"net/http"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *app) userCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "user",
		GroupID: groupUser,
		Short:   "Add users, list who is known",
		Long:    "User adds users to the network, or lists those this node knows of.",
		Example: "  outrider user add bravo\n  outrider user list",
	}
	c.AddCommand(a.userAddCmd(), a.userListCmd(), a.userCodeCmd(), a.userPasswordCmd(), a.userSheetCmd(), a.userRestoreCmd())
	return c
}

func (a *app) userListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Everybody this node knows of",
		Long: `List shows the people of the network as far as their certificates have arrived:
name, identifier, number of devices, and whether a message could be sealed to
them now.`,
		Example:     "  outrider user list",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Users []person }
			return a.do(cmd.Context(), http.MethodGet, "/v1/users", nil, &out, func() {
				rows := [][]string{}
				for _, p := range out.Users {
					rows = append(rows, []string{p.Name, p.ID, p.where(), p.keys(), strconv.Itoa(p.Devices)})
				}
				a.tableOr("nobody known yet", []string{"NAME", "ID", "WHERE", "KEYS", "DEVICES"}, rows)
			})
		},
	}
}

func (p person) where() string {
	switch {
	case p.Self:
		return "you"
	case p.Here:
		return "this node"
	}
	return "elsewhere"
}

func (p person) keys() string {
	if p.HasKeys || p.Self {
		return "here"
	}
	return "not yet"
}
