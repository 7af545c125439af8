package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"outrider/node/report"
)

func (a *app) reportCmd() *cobra.Command {
	var to string
	var addresses bool
	c := &cobra.Command{
		Use:     "report",
		GroupID: groupNode,
		Short:   "Pack what a developer needs into one file",
		Long: `Report writes one zip file: version, settings, the node's figures, what doctor
finds, the newest log lines, the stacks of the last crash, and facts of kernel,
processor, memory and disk. No key, name, text or position is in it, and IP
addresses are replaced by words unless --addresses is given. It works whether
the node runs or not. Look into it before you hand it on.`,
		Example:     "  outrider report\n  outrider report --to /media/stick",
		Args:        cobra.NoArgs,
		Annotations: exits(exitMissing, exitSetup),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := a.writeReport(cmd.Context(), to, addresses)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(map[string]string{"file": path})
			}
			a.printf("%s\n", clean(path))
			return a.werr
		},
	}
	c.Flags().StringVar(&to, "to", ".", "the folder or stick to write to")
	c.Flags().BoolVar(&addresses, "addresses", false, "keep IP addresses and host names")
	return c
}

// writeReport makes the file in a folder and returns its path.
func (a *app) writeReport(ctx context.Context, to string, addresses bool) (string, error) {
	dir, err := a.dir()
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(to); err != nil || !st.IsDir() {
		return "", &failure{exit: exitMissing, code: "no_folder", message: "there is no folder " + to, hint: "is the stick mounted?"}
	}
	now := time.Now()
	parts, err := a.reportParts(ctx, dir, now, addresses)
	if err != nil {
		return "", err
	}
	path := filepath.Join(to, "outrider-report-"+now.UTC().Format("20060102-150405")+".zip")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", &failure{exit: exitSetup, code: "not_written", message: "report: " + err.Error()}
	}
	err = errors.Join(report.Write(f, now, parts), f.Sync(), f.Close()) // a stick is pulled out soon
	if err != nil {
		err = errors.Join(&failure{exit: exitSetup, code: "not_written", message: "report: " + err.Error(), hint: "is there room on it?"}, os.Remove(path))
	}
	return path, err
}

// reportParts gathers the report. What cannot be had is told in its place.
func (a *app) reportParts(ctx context.Context, dir string, now time.Time, addresses bool) ([]report.Part, error) {
	var red report.Redactor
	clear := func(b []byte) []byte {
		if addresses {
			return b
		}
		return red.Redact(b)
	}
	findings, err := a.examine(ctx)
	if err != nil {
		return nil, err
	}
	lines, err := report.Lines(dir)
	if err != nil {
		lines = append(lines, err.Error()...)
	}
	trace, when := report.Crash(dir, now)
	if when.IsZero() {
		trace = []byte("no crash in the last week\n")
	}
	return []report.Part{
		{Name: "version.txt", Data: fmt.Appendf(nil, "command %s\nmade    %s\n", version, now.UTC().Format(time.RFC3339))},
		{Name: "settings.toml", Data: a.reportSettings(clear, addresses)},
		{Name: "status.json", Data: a.reportHealth(ctx)},
		{Name: "doctor.json", Data: clear(indented(findings))},
		{Name: "log.txt", Data: clear(lines)},
		{Name: "crash.txt", Data: clear(trace)},
		{Name: "machine.txt", Data: report.Machine(dir)},
	}, nil
}

// reportSettings writes the settings anew: comments in the file are the
// operator's own business. Host names go with the addresses.
func (a *app) reportSettings(clear func([]byte) []byte, addresses bool) []byte {
	c, _, err := a.loadConfig("")
	if err != nil {
		return clear(fmt.Appendf(nil, "# %v\n", err))
	}
	if !addresses {
		for i := range c.Page.AllowedHosts {
			c.Page.AllowedHosts[i] = fmt.Sprintf("host-%d", i+1)
		}
		if c.Page.Name != "" {
			c.Page.Name = "host-0"
		}
	}
	return clear([]byte(c.Text(false)))
}

func (a *app) reportHealth(ctx context.Context) []byte {
	h, err := a.healthOf(ctx)
	if err != nil {
		return indented(map[string]string{"no_answer": err.Error()})
	}
	return indented(h)
}

func indented(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return []byte(err.Error())
	}
	return append(bytes.TrimSpace(b), '\n')
}

// keepTraces lets a node that has its folder keep its newest log lines and the
// traces of a crash there. Without room for them the node runs all the same.
func keepTraces(o *upOptions) (stop func()) {
	var ends []func() error
	if l, err := report.OpenLog(o.Dir); err != nil {
		o.Log.Warn("no log is kept in the folder", "err", err)
	} else {
		kept := slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo})
		o.Log = slog.New(slog.NewMultiHandler(o.Log.Handler(), kept))
		ends = append(ends, l.Close)
	}
	if end, err := report.WatchCrashes(o.Dir); err != nil {
		o.Log.Warn("the stacks of a crash are not kept", "err", err)
	} else {
		ends = append(ends, end)
	}
	log := o.Log
	return func() {
		for i := len(ends) - 1; i >= 0; i-- {
			if err := ends[i](); err != nil {
				log.Warn("traces not closed", "err", err)
			}
		}
	}
}
