package doctor

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"outrider/offline/coresync"
)

// coreSkewMax is how far apart the core's clock and ours may be. Ages are
// counted by the core's clock alone, so this concerns people, not mail.
const coreSkewMax = 5 * time.Minute

// checkCore looks at the way to the core when the settings name one: whether
// its credentials can be used, and what the running node tells of it.
func checkCore(_ context.Context, e Env) (out []Finding) {
	c := e.Config.Core
	if len(c.Servers) == 0 || len(e.Mistakes) > 0 || e.Folder.State != Good {
		return nil
	}
	at := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(e.Dir, path)
	}
	_, err := coresync.New(coresync.Config{
		Servers: c.Servers, SeedFile: at(c.SeedFile), CertFile: at(c.CertFile), KeyFile: at(c.KeyFile), CAFile: at(c.CAFile), Pins: c.Pins,
	}, nil)
	if err != nil {
		return []Finding{found("core-credentials", "why", plain(err.Error()))}
	}
	r := e.Running.Core
	if !r.Told {
		return nil
	}
	if r.Full {
		out = append(out, found("core-full"))
	}
	if r.Up {
		if r.Skew.Abs() > coreSkewMax {
			out = append(out, found("core-clock", "skew", r.Skew.Abs().Round(time.Second).String()))
		}
		return out
	}
	switch r.Code {
	case "pin":
		return append(out, found("core-pin", "why", plain(r.Error)))
	case "credentials":
		return append(out, found("core-credentials", "why", plain(r.Error)))
	case "refused":
		return append(out, found("core-refused", "why", plain(r.Error)))
	case "opsec":
		return append(out, found("core-opsec"))
	}
	since := "the node's first start"
	if !r.Since.IsZero() {
		since = r.Since.UTC().Format("2006-01-02 15:04 UTC")
	}
	return append(out, found("core-unreachable", "since", since, "why", plain(r.Error), "servers", strings.Join(c.Servers, ", ")))
}

// plain is an error without the package it comes from.
func plain(s string) string {
	s = strings.TrimPrefix(s, "coresync: ")
	if s == "" {
		return "it was not tried yet"
	}
	return s
}
