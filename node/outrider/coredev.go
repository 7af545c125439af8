package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"outrider/offline/coresync"
)

// devPort is the first of the six ports of a development core.
const devPort = 7431

func (a *app) coreDevCmd() *cobra.Command {
	var server string
	port := devPort
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a core of three servers on this machine",
		Long: `Dev runs a whole core on this machine: three NATS servers with mutual TLS, and
the desk that gives each node its mailboxes. It writes certificates, keys and the
servers' configuration into --dir (here the core's folder, default
~/.local/share/outrider-core), listens on loopback only, and ends with Ctrl-C.

The servers are NATS's own program: nats-server on the PATH, beside this program,
or named with --nats-server; "make bin/nats-server" builds it.

outrider core dev add NAME makes a node's credentials, also while the core runs,
and prints the lines for the node's outrider.toml.`,
		Example: "  outrider core dev --dir /tmp/core\n  outrider core dev add unit7 --dir /tmp/core >> ~/.local/share/outrider/outrider.toml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return nil
		},
		Annotations: exits(exitMissing, exitConflict, exitSetup),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.coreDev(cmd.Context(), server, port)
		},
	}
	c.Flags().StringVar(&server, "nats-server", "", "the server program (default nats-server on the PATH, or beside this program)")
	c.Flags().IntVar(&port, "port", port, "first of six ports in a row, three for nodes and three among the servers; 0 picks free ones; only when the folder is new")
	c.AddCommand(a.coreDevAddCmd())
	return c
}

// coreDir is the folder of a development core.
func (a *app) coreDir() (string, error) {
	if a.dirFlag != "" {
		return filepath.Abs(a.dirFlag)
	}
	base := a.env("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", &failure{exit: exitSetup, code: "no_folder", message: "no home folder: " + err.Error(), hint: "name the core's folder with --dir"}
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "outrider-core"), nil
}

func (a *app) coreDev(ctx context.Context, server string, port int) error {
	if port != 0 && (port < 1024 || port > 65530) {
		return usageError("--port must be 0, or 1024 to 65530")
	}
	dir, err := a.coreDir()
	if err != nil {
		return err
	}
	if server, err = coresync.FindServer(server); err != nil {
		return &failure{exit: exitMissing, code: "no_server", message: trimmed(err)}
	}
	d, err := coresync.MakeDev(dir, port)
	if err != nil {
		return &failure{exit: exitConflict, code: "no_core", message: trimmed(err), hint: "choose other ports with --port, or another folder with --dir"}
	}
	log := slog.New(slog.NewTextHandler(a.err, nil))
	err = d.Run(ctx, server, log, func() { a.devReady(dir, d) })
	if err != nil {
		return &failure{exit: exitSetup, code: "core_failed", message: trimmed(err), hint: "see core-n1.log in " + dir}
	}
	return a.werr
}

func (a *app) devReady(dir string, d *coresync.Dev) {
	if a.json {
		_ = a.emit(map[string]any{"ready": true, "dir": dir, "servers": d.Servers(), "nodes": d.Nodes()}) // told by werr
		return
	}
	a.printf("the core is up: %s\n", strings.Join(d.Servers(), " "))
	a.printf("a node's credentials, and the lines for its outrider.toml: outrider core dev add NAME --dir %s\n", clean(dir))
}

func (a *app) coreDevAddCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME",
		Short: "Make a node's credentials",
		Long: `Add makes the credentials of a node, lets a core that runs know, and prints the
lines for the node's outrider.toml. Adding a name again prints them again. NAME is
yours to choose; the node's own name and network stay unknown to the core.`,
		Example:     "  outrider core dev add unit7 --dir /tmp/core\n  outrider core dev add unit7 --json",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitMissing, exitSetup),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.coreDevAdd(args[0])
		},
	}
}

func (a *app) coreDevAdd(name string) error {
	dir, err := a.coreDir()
	if err != nil {
		return err
	}
	d, err := coresync.OpenDev(dir)
	if errors.Is(err, coresync.ErrNoDev) {
		return &failure{exit: exitMissing, code: "no_core", message: "there is no development core in " + dir, next: "outrider core dev --dir " + dir}
	}
	if err != nil {
		return &failure{exit: exitSetup, code: "bad_core", message: trimmed(err)}
	}
	c, err := d.Add(name)
	if errors.Is(err, coresync.ErrNodeName) {
		return usageError("%s", trimmed(err))
	}
	if err != nil {
		return &failure{exit: exitSetup, code: "bad_core", message: trimmed(err)}
	}
	if a.json {
		return a.emit(map[string]any{"servers": c.Servers, "seed_file": c.SeedFile, "cert_file": c.CertFile, "key_file": c.KeyFile, "ca_file": c.CAFile, "pins": c.Pins})
	}
	a.printf("\n[core]\nservers   = [%s]\nseed_file = %q\ncert_file = %q\nkey_file  = %q\nca_file   = %q\npins      = [%s]\n",
		quotedList(c.Servers), c.SeedFile, c.CertFile, c.KeyFile, c.CAFile, quotedList(c.Pins))
	return a.werr
}

func quotedList(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}

func trimmed(err error) string { return strings.TrimPrefix(err.Error(), "coresync: ") }

func (a *app) coreDeskCmd() *cobra.Command {
	var d coresync.DeskConfig
	replicas, box, files := 3, 10, 100
	c := &cobra.Command{
		Use:   "desk",
		Short: "Serve the mailboxes of a core (beside its servers)",
		Long: `Desk is the core's own service and runs beside its NATS servers: it makes the
streams, gives each node the mailboxes that it names, and tells what is there of
a file. Nodes cannot use the core without it. Several may run; they share the
work. Its account may do what it likes; what nodes may do is in CORE.md.`,
		Example:     "  outrider core desk --server core1:4222 --server core2:4222 --seed desk.seed --cert desk.crt --key desk.key --ca ca.crt",
		Args:        cobra.NoArgs,
		Annotations: exits(exitSetup),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.Replicas, d.BoxBytes, d.FilesBytes = replicas, int64(box)*1e9, int64(files)*1e9
			return a.coreDesk(cmd.Context(), d)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&d.Servers, "server", nil, "a server of the core, host:port; may be given again")
	f.StringVar(&d.SeedFile, "seed", "", "file with the desk's nkey seed")
	f.StringVar(&d.CertFile, "cert", "", "the desk's certificate")
	f.StringVar(&d.KeyFile, "key", "", "the certificate's key")
	f.StringVar(&d.CAFile, "ca", "", "CA that has signed the servers' certificates")
	f.StringArrayVar(&d.Pins, "pin", nil, "SHA-256 of a server's public key in base64; may be given again")
	f.IntVar(&replicas, "replicas", replicas, "servers that keep each message, when the streams are made")
	f.IntVar(&box, "box-gb", box, "GB that mail may take, when the stream is made")
	f.IntVar(&files, "files-gb", files, "GB that files may take, when the stream is made")
	return c
}

func (a *app) coreDesk(ctx context.Context, c coresync.DeskConfig) error {
	if len(c.Servers) == 0 || c.SeedFile == "" || c.Replicas < 1 || c.Replicas > 5 || c.BoxBytes < 1 || c.FilesBytes < 1 {
		return usageError("name the servers with --server and the seed with --seed; --replicas is 1 to 5, --box-gb and --files-gb at least 1")
	}
	d, err := coresync.NewDesk(c, slog.New(slog.NewTextHandler(a.err, nil)))
	if err == nil {
		err = d.Run(ctx, func() { a.printf("the desk serves\n") })
	}
	if err != nil {
		return &failure{exit: exitSetup, code: "desk_failed", message: trimmed(err)}
	}
	return a.werr
}
