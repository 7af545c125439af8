package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"outrider/node/config"
)

// upOptions is what a node is started with.
type upOptions struct {
	Dir     string
	Config  config.Config
	Version string
	Log     *slog.Logger
}

// upInfo is what a node says when it takes requests.
type upInfo struct {
	Node    string   `json:"node"`
	Network string   `json:"network,omitempty"`
	Socket  string   `json:"socket"`
	Pages   []string `json:"pages"` // URLs
}

func (a *app) upCmd() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "up",
		GroupID: groupNode,
		Short:   "Run the node until it is told to stop",
		Long: `Up runs the node on its folder until SIGINT or SIGTERM, then closes everything in
order and ends with 0. After a power cut or kill it starts again with all it had
acknowledged. Users' keys are locked at the start; the node relays all the same.

It prints one line when it takes requests; its log goes to standard error. Under
systemd it says so to the service manager too, and shows the watchdog a sign of
life as long as the agent answers. Root runs it as the owner of the folder.`,
		Example:     "  outrider up\n  outrider up --dir /srv/outrider --config lab.toml",
		Args:        cobra.NoArgs,
		Annotations: exits(exitMissing, exitConflict, exitSetup),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.up(cmd.Context(), file)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the settings file (default: "+config.FileName+" in the node's folder)")
	return c
}

func (a *app) up(ctx context.Context, file string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	c, _, err := a.loadConfig(file)
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" && c.MemoryLimit() > 0 {
		debug.SetMemoryLimit(c.MemoryLimit())
	}
	o := upOptions{Dir: dir, Config: c, Version: version, Log: logger(a.err, c.Log)}
	return a.serve(ctx, o)
}

// serve runs the node and keeps systemd told, if it listens.
func (a *app) serve(ctx context.Context, o upOptions) error {
	n := newNotifier(a.env)
	watched, done := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer done() // before the wait
	stop := context.AfterFunc(ctx, func() { a.notify(o.Log, n, "STOPPING=1") })
	defer stop()
	return provision.Up(ctx, o, func(info upInfo) {
		a.notify(o.Log, n, "READY=1", "STATUS=up, network "+clean(info.Network))
		watch.Go(func() { n.watch(watched, os.Getpid(), alive(o.Dir), o.Log) })
		if a.json {
			_ = a.emit(info) // a lost line is kept in a.werr
			return
		}
		a.printf("node %s is up, page %s\n", clean(short(info.Node)), clean(strings.Join(info.Pages, " ")))
	})
}

func (a *app) notify(log *slog.Logger, n notifier, state ...string) {
	if err := n.tell(state...); err != nil {
		log.Warn("systemd not told", "err", err)
	}
}

// logger writes as the settings say.
func logger(w io.Writer, l config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo // Validate knows the same four words
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
