package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"outrider/node"
	"outrider/node/api"
	"outrider/node/config"
	"outrider/node/doctor"
	"outrider/node/position"
	"outrider/node/report"
)

// answerTime is how long a node may take to answer before it counts as
// silent.
const answerTime = 10 * time.Second

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		GroupID: groupNode,
		Short:   "Find what is wrong with this box, and its cure",
		Long: `Doctor looks at clock, disk, memory, ports, firewall, certificate, settings and
the node's folder, whether the node runs or not, and names every fault with what
cures it. It changes nothing: it writes one small file and removes it, tries
ports for a moment, and reads. Root sees more: the firewall's rules, and who has
a port.

It exits with 10 when it finds something, with 0 when all is well.`,
		Example:     "  outrider doctor\n  outrider doctor --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitFault),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := a.examine(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				err = a.emit(map[string]any{"findings": found})
			} else {
				a.showDoctor(found)
			}
			if err == nil && len(found) > 0 {
				err = &failure{exit: exitFault, code: "faults_found", message: plural(len(found), "finding", "findings")}
			}
			return err
		},
	}
}

func (a *app) showDoctor(found []doctor.Finding) {
	for _, f := range found {
		a.printf("%s: %s\n  cure: %s\n  (%s)\n", f.Severity, clean(f.Sentence), clean(f.Cure), f.ID)
	}
	if len(found) == 0 {
		a.printf("all is well\n")
	}
}

// examine gathers what the doctor is to look at, and lets it look.
func (a *app) examine(ctx context.Context) ([]doctor.Finding, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	e := doctor.Env{Dir: dir, File: filepath.Join(dir, config.FileName), Version: version, Folder: folderOf(dir)}
	c, file, err := a.loadConfig("")
	if err != nil {
		c = config.Default()
		if e.Mistakes = mistakesOf(err); file != "" {
			e.File = file
		}
	}
	e.Config = c
	e.Running = a.runningNode(ctx, dir)
	return doctor.Examine(ctx, e), nil
}

func mistakesOf(err error) (out []string) {
	var f *failure
	if errors.As(err, &f) {
		out = append(out, f.message)
		if f.hint != "" {
			out = append(out, f.hint)
		}
		return out
	}
	return []string{err.Error()}
}

func folderOf(dir string) doctor.Folder {
	g := node.Look(dir)
	f := doctor.Folder{Network: g.Network || g.Unread, Enrolled: g.Enrolled || g.Unread, Seeds: g.Seeds, Floor: g.Floor, Why: g.Damage}
	f.PolicyDamage = g.PolicyDamage
	for _, p := range g.Policies {
		f.Policies = append(f.Policies, doctor.Policy{Group: p.Group, Version: p.Sequence, Seen: p.Seen, Source: p.Source.String(), Expires: p.Expires, Conflict: len(p.Against) > 0})
	}
	switch {
	case g.Absent:
		f.State = doctor.Absent
	case g.Later:
		f.State = doctor.Later
	case g.Damage != "":
		f.State = doctor.Damaged
	}
	_, f.Crashed = report.Crash(dir, time.Now())
	return f
}

// runningNode asks the node that has the folder, if one has.
func (a *app) runningNode(ctx context.Context, dir string) doctor.Running {
	r := doctor.Running{Locked: node.Locked(dir), PID: nodeProcess(ctx, dir)}
	h, err := a.healthOf(ctx)
	var f *failure
	switch {
	case err == nil:
	case errors.As(err, &f) && f.code == "no_permission":
		r.Refused = true
		return r
	case errors.As(err, &f) && f.exit == exitMissing: // a node from before this call
		h.Version = "from before health could be asked"
	default:
		return r
	}
	r.Answers, r.Version, r.Uptime, r.Enrolled = true, h.Version, time.Duration(h.UptimeS)*time.Second, h.Enrolled
	r.Peers, r.Foreign, r.Last = h.PeersKnown, h.Foreign, h.ForeignLast
	r.Core, r.TAKRefused = a.coreOf(ctx), h.TAKRefused
	r.Position = a.receiverOf(ctx)
	if h.Carry != nil {
		r.Carry = doctor.Carry{Ended: h.Carry.Ended, Full: h.Carry.Full, Damaged: h.Carry.Damaged}
	}
	for _, s := range h.Store.Shares() {
		if s.Full() {
			r.Shares = append(r.Shares, doctor.Share{Kind: s.Kind, Used: s.Bytes, Limit: s.Limit})
		}
	}
	for _, h := range h.Archives {
		r.Archives = append(r.Archives, doctor.Archive{Reader: h.Reader, Keys: h.Keys, Here: h.Here, Waiting: h.Waiting, Oldest: h.Oldest, Folder: h.Folder, Seen: h.Seen})
	}
	return r
}

// receiverOf asks the running node for its position receiver.
func (a *app) receiverOf(ctx context.Context) doctor.Position {
	own := a.whereHere(ctx)
	p := doctor.Position{State: position.State(own.State), Fixed: -1}
	if own.Fix != nil {
		p.Fixed = time.Duration(own.Fix.AgeS) * time.Second
	}
	return p
}

// healthOf asks the running node for its figures.
func (a *app) healthOf(ctx context.Context) (h api.Health, err error) {
	c, err := a.client()
	if err != nil {
		return h, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err = c.call(ctx, http.MethodGet, "/v1/health", nil, &h)
	return h, err
}

// coreOf asks the running node for its way to the core.
func (a *app) coreOf(ctx context.Context) (out doctor.Core) {
	c, err := a.client()
	if err != nil {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var s coreStatus
	if _, err := c.call(ctx, http.MethodGet, "/v1/core", nil, &s); err != nil || !s.Configured {
		return out
	}
	return doctor.Core{Told: true, Up: s.Up, Code: s.Code, Error: s.Error, Since: s.Reached, Skew: time.Duration(s.SkewS) * time.Second, Full: s.Full}
}
