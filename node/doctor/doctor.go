// Package doctor looks for the common faults of a box and says what cures
// them, whether its node runs or not.
//
// Kinds (table.go) is the one list of findings; each has an id for programs, a
// severity, a sentence and a cure. Every check asks the machine itself: it
// writes and syncs a file, tries the ports, reads the firewall's rules, shakes
// hands with the page. Nothing is changed, and what was written is removed.
//
// A check that cannot be made (a file of the kernel that is not there, rules
// only root may read) finds nothing; where a second way exists it is taken.
package doctor

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"outrider/node/config"
	"outrider/node/position"
)

// A Condition says how a folder's state file is.
type Condition int

// The conditions.
const (
	Good Condition = iota
	Absent
	Damaged
	Later // written by a later version
)

// Folder is what the node's folder tells without being opened.
type Folder struct {
	State    Condition
	Why      string // of Damaged
	Network  bool   // belongs to one
	Enrolled bool   // has met it
	Seeds    []string
	Floor    time.Time // before this no clock is right
	Crashed  time.Time // zero if it never did

	Policies     []Policy // in force, as far as the folder tells
	PolicyDamage string   // why they cannot be read
}

// Running is what the node tells that has the folder, if one does.
type Running struct {
	Locked   bool // a process has the folder
	Refused  bool // its socket is not for us
	Answers  bool
	PID      int // 0 if not known
	Version  string
	Uptime   time.Duration
	Enrolled bool
	Peers    int // ever heard of
	Foreign  uint64
	Last     time.Time // when something foreign came last
	Core     Core
	Position Position
	Archives []Archive
	Shares   []Share // of the store that are full
	Carry    Carry
	// TAKRefused counts connections to the TAK bridge that were turned away.
	TAKRefused uint64
}

// Share is what content of one kind takes of the store.
type Share struct {
	Kind        string // bundles, relayed, files
	Used, Limit uint64
}

// Carry is how the last contact with a stick ended; zero if there was none.
type Carry struct {
	Ended         time.Time
	Full, Damaged bool
}

// Position is what the node tells of its receiver.
type Position struct {
	State position.State // empty: it was not asked
	Fixed time.Duration  // since it told a position last, negative if it never did
}

// Core is what the node tells of the way to its core.
type Core struct {
	Told  bool // it was asked
	Up    bool
	Code  string // why it is not up, as in the API
	Error string
	Since time.Time // when it was up last; zero if it never was
	Skew  time.Duration
	Full  bool
}

// Env is what is examined.
type Env struct {
	Dir      string
	File     string // of the settings, for the cure
	Config   config.Config
	Mistakes []string // in the settings
	Version  string   // of this command
	Folder   Folder
	Running  Running

	// Now and Synced are the clock, and whether the kernel says that something
	// disciplines it. Nil: the machine's.
	Now    func() time.Time
	Synced func() bool
	// Proc and Sys are where the kernel's files are. Empty: /proc and /sys.
	Proc, Sys string
}

// Examine makes all checks, the most basic first.
func Examine(ctx context.Context, e Env) []Finding {
	e = e.withDefaults()
	out := []Finding{}
	for _, check := range []func(context.Context, Env) []Finding{
		checkFolder, checkConfig, checkClock, checkDisk, checkStore, checkMemory, checkCPU, checkFiles,
		checkNode, checkPorts, checkFirewall, checkPage, checkMesh, checkPolicy, checkATAK, checkCalls, checkPosition, checkCore, checkArchive, checkCarry,
	} {
		out = append(out, check(ctx, e)...)
	}
	return out
}

func (e Env) withDefaults() Env {
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Synced == nil {
		e.Synced = kernelSynced
	}
	if e.Proc == "" {
		e.Proc = "/proc"
	}
	if e.Sys == "" {
		e.Sys = "/sys"
	}
	return e
}

// kernelSynced reports whether something disciplines the kernel's clock
// (adjtimex(2)).
func kernelSynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

func checkConfig(_ context.Context, e Env) (out []Finding) {
	for _, m := range e.Mistakes {
		out = append(out, found("config-error", "mistake", m, "file", e.File))
	}
	return out
}

// firstClock is a time that had passed when this program was written.
var firstClock = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func checkClock(_ context.Context, e Env) []Finding {
	now := e.Now()
	const form = "2006-01-02 15:04 MST"
	switch {
	case now.Before(firstClock):
		return []Finding{found("clock-unset", "now", now.Format(form))}
	case now.Before(e.Folder.Floor):
		return []Finding{found("clock-below-floor", "now", now.Format(form), "floor", e.Folder.Floor.Local().Format(form))}
	case !e.Synced():
		return []Finding{found("clock-unsynchronised")}
	}
	return nil
}

func checkNode(_ context.Context, e Env) (out []Finding) {
	switch {
	case e.Running.Refused:
		out = append(out, found("socket-refused", "dir", e.Dir))
	case e.Running.Locked && !e.Running.Answers:
		out = append(out, found("node-silent", "dir", e.Dir))
	case e.Running.Answers && e.Running.Version != e.Version:
		out = append(out, found("version-mismatch", "node", e.Running.Version, "command", e.Version))
	}
	if !e.Folder.Crashed.IsZero() {
		out = append(out, found("node-crashed", "when", e.Folder.Crashed.Local().Format("2006-01-02 15:04")))
	}
	return out
}

// lonely is how long a node may run before hearing nobody is a finding.
const lonely = time.Minute

func checkMesh(_ context.Context, e Env) (out []Finding) {
	if e.Folder.State != Good || !e.Folder.Network {
		return nil
	}
	if e.Running.Answers && e.Running.Foreign > 0 {
		out = append(out, found("wrong-network", "count", number(e.Running.Foreign), "last", e.Running.Last.Local().Format("15:04:05")))
	}
	never := !e.Folder.Enrolled && !e.Running.Answers ||
		e.Running.Answers && e.Running.Uptime >= lonely && e.Running.Peers == 0
	if never {
		seeds := "no address is known, bring the nodes into one network or name gossip.seeds"
		if all := append(append([]string{}, e.Folder.Seeds...), e.Config.Seeds()...); len(all) > 0 {
			seeds = join(all)
		}
		out = append(out, found("no-peer-ever", "seeds", seeds))
	}
	return out
}

// account names a user by id.
func account(uid uint32) string {
	raw, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return number(uint64(uid))
	}
	return nameIn(string(raw), uid)
}
