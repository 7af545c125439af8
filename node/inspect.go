package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
	"outrider/offline/policy"
)

// A Glance is what a node's folder tells to somebody who does not open it: no
// key is in it, and a node may be running there.
type Glance struct {
	Absent   bool   // no node in the folder
	Unread   bool   // not for this account; what follows is then unknown
	Later    bool   // written by a later version
	Damage   string // why the state cannot be used, or ""
	Network  bool   // belongs to one
	Enrolled bool   // has met it
	Seeds    []string
	Floor    time.Time // before this no clock is right

	Policies     []policy.Group // in force, but for what a revocation has ended
	PolicyDamage string         // why they cannot be read
}

// Look takes a glance at the folder.
func Look(dir string) (g Glance) {
	h := &Home{dir: dir}
	raw, err := os.ReadFile(h.path("state"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		g.Absent = true
	case errors.Is(err, fs.ErrPermission):
		g.Unread = true
	case err != nil:
		g.Damage = err.Error()
	case laterVersion(raw) != 0:
		g.Later = true
	default:
		g.read(raw)
		g.readPolicies(h)
	}
	return g
}

func (g *Glance) read(raw []byte) {
	var s state
	if err := identity.Unmarshal(raw, &s); err != nil {
		g.Damage = err.Error()
		return
	}
	g.Floor = time.Unix(s.Clock.Floor, 0)
	if m := s.Network; m != nil {
		g.Network, g.Enrolled, g.Seeds = true, m.Root != nil, m.Seeds
	}
}

// readPolicies looks at the file of policies, if there is one.
func (g *Glance) readPolicies(h *Home) {
	p := &policies{home: h, log: slog.New(slog.DiscardHandler)}
	if err := p.load(); err != nil {
		g.PolicyDamage = err.Error()
		return
	}
	p.judge()
	g.Policies = p.state.Groups
}

// Locked reports whether a process has the folder open as a node.
func Locked(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
