package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) coreCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "core",
		GroupID: groupNode,
		Short:   "The far server that connects units while a backhaul is there",
		Long: `Core tells how the way to the core stands, and runs a core to try it with.

The core is a cluster of NATS servers far away. While it is in reach, a node
leaves there what it would give a neighbour, and takes what lies there for its
users. It sees sealed bundles and opaque tags only; the node keeps everything
until its receipt comes or its lifetime ends. Whoever runs the core makes a seed
file for the node, and the node's settings name it:

  [core]
  servers   = ["core.example.org:4222"]
  seed_file = "core/unit7.seed"
  pins      = ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]`,
		Example: "  outrider core status\n  outrider core sync\n  outrider core dev --dir /tmp/core",
	}
	c.AddCommand(a.coreStatusCmd(), a.coreSyncCmd(), a.coreDevCmd(), a.coreDeskCmd())
	return c
}

// coreStatus is the answer of GET /v1/core.
type coreStatus struct {
	Configured bool      `json:"configured"`
	Up         bool      `json:"up"`
	Node       string    `json:"node"`
	Reached    time.Time `json:"last_reached"`
	Code       string    `json:"code"`
	Error      string    `json:"error"`
	ErrorSince time.Time `json:"down_since"`
	SkewS      int64     `json:"clock_skew_s"`
	Mailboxes  int       `json:"mailboxes"`
	Waiting    int       `json:"waiting"`
	Arriving   int       `json:"arriving"`
	InSync     bool      `json:"in_sync"`
	Full       bool      `json:"full"`
	Stored     uint64    `json:"stored"`
	Present    uint64    `json:"present"`
	Resent     uint64    `json:"resent"`
	Pulled     uint64    `json:"pulled"`
	Squatted   uint64    `json:"squatted"`
	Malformed  uint64    `json:"malformed"`
}

func (a *app) coreStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Whether the core is in reach, or when it last was",
		Long: `Status tells whether the core is in reach, or since when it is not and why,
what waits to go up or to be taken in, and what went and came since the node
was started.`,
		Example:     "  outrider core status\n  outrider core status --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s coreStatus
			return a.do(cmd.Context(), http.MethodGet, "/v1/core", nil, &s, func() { a.showCore(s) })
		},
	}
}

func (a *app) showCore(s coreStatus) {
	if !s.Configured {
		a.printf("no core is configured (set servers below [core] in outrider.toml)\n")
		return
	}
	switch {
	case s.Up:
		a.printf("core     in reach\n")
	case s.Reached.IsZero():
		a.printf("core     out of reach, and it never was in reach\n")
	default:
		a.printf("core     out of reach; last in reach %s (%s ago)\n", s.Reached.Local().Format("2006-01-02 15:04"), time.Since(s.Reached).Round(time.Second))
	}
	if s.Error != "" {
		a.printf("why      %s\n", clean(s.Error))
	}
	a.printf("as       %s\n", clean(cmp.Or(s.Node, "nobody: the seed cannot be used")))
	a.printf("reads    %s\n", plural(s.Mailboxes, "mailbox", "mailboxes"))
	a.printf("up       %d stored, %d there already, %d sent again, %d waiting\n", s.Stored, s.Present, s.Resent, s.Waiting)
	a.printf("down     %d taken, %d arriving\n", s.Pulled, s.Arriving)
	if s.Full {
		a.printf("warning  the core has no room; everything is kept here\n")
	}
	if s.Squatted > 0 {
		a.printf("warning  %s occupied at the core by somebody else; they went under other names\n", plural(int(s.Squatted), "bundle's name was", "bundles' names were"))
	}
	if s.Malformed > 0 {
		a.printf("warning  %s at the core not what they were filed as; they were dropped\n", plural(int(s.Malformed), "parcel was", "parcels were"))
	}
}

func (a *app) coreSyncCmd() *cobra.Command {
	wait := time.Minute
	c := &cobra.Command{
		Use:   "sync",
		Short: "Try the core now, and wait until everything has crossed",
		Long: `Sync tries to reach the core at once and returns when everything has gone up
and come down, or when nothing moves any more. The node does the same by itself
whenever the backhaul appears; this is for scripts, and for whoever holds the
antenna.`,
		Example:     "  outrider core sync\n  outrider core sync --wait 5m --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.coreSync(cmd.Context(), wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", wait, "how long to wait at most, 1s to 10m")
	return c
}

func (a *app) coreSync(ctx context.Context, wait time.Duration) error {
	if wait < time.Second || wait > 10*time.Minute {
		return usageError("--wait must be 1s to 10m")
	}
	var s coreStatus
	if err := a.do(ctx, http.MethodPost, "/v1/core/sync", map[string]int64{"wait_s": int64(wait / time.Second)}, &s, func() { a.showCore(s) }); err != nil {
		return err
	}
	if !s.Up {
		return &failure{exit: exitBusy, code: "unreachable", message: fmt.Sprintf("the core was not reached in %s: %s", wait, s.Error),
			hint: "everything is kept and goes up by itself when the backhaul is there", next: "outrider core status"}
	}
	if !s.InSync {
		return &failure{exit: exitBusy, code: "incomplete", message: "not everything has crossed yet", hint: "the node goes on by itself", next: "outrider core status"}
	}
	return nil
}
