package node

import (
	"context"
	"errors"
	"time"

	"outrider/node/api"
	"outrider/offline/coresync"
)

var _ api.Core = (*uplink)(nil)

// What outrider core sync waits for.
const (
	coreWatch = 100 * time.Millisecond
	coreQuiet = 1500 * time.Millisecond // nothing waits and nothing moves, and the agents have compared: done
	coreStuck = 5 * time.Second         // nothing moves although not everything is there
)

// Core tells how the way to the core stands.
func (u *uplink) Core() (out api.CoreStatus) {
	if u == nil {
		return out
	}
	out.Configured, out.Reached = true, u.reached
	if u.broken != nil {
		out.Code, out.Error, out.ErrorSince = coreCode(u.broken), api.Sentence(u.broken), u.n.started
		return out
	}
	st := u.edge.Status()
	out.Up, out.Reached = u.standing()
	out.Node, out.Full = u.edge.Node(), st.Full
	out.Stored, out.Present, out.Resent, out.Pulled, out.Squatted, out.Malformed = st.Stored, st.Present, st.Resent, st.Pulled, st.Squatted, st.Malformed
	if !st.Up && st.Error != nil {
		out.Code, out.Error, out.ErrorSince = coreCode(st.Error), api.Sentence(st.Error), u.n.clock.Now().Add(-time.Since(st.Since))
	}
	if st.Up && !st.Clock.IsZero() {
		out.SkewS = int64(st.Clock.Sub(u.n.clock.Now()) / time.Second)
	}
	u.backlog(&out)
	return out
}

// coreCode names a cause for programs.
func coreCode(err error) string {
	switch {
	case errors.Is(err, coresync.ErrPin):
		return "pin"
	case errors.Is(err, coresync.ErrCredentials):
		return "credentials"
	case errors.Is(err, coresync.ErrRefused):
		return "refused"
	case errors.Is(err, errOpsec):
		return "opsec"
	}
	return "unreachable"
}

// backlog tells what is on its way.
func (u *uplink) backlog(out *api.CoreStatus) {
	u.mu.Lock()
	agent, store := u.agent, u.store
	out.Mailboxes = u.boxes
	u.mu.Unlock()
	if agent == nil {
		return
	}
	ids, _ := store.waiting()
	out.Arriving = len(ids)
	for _, nb := range u.n.agent.Neighbours() {
		if nb.Peer == coreNode {
			out.Waiting = nb.Queued + nb.Unanswered
			out.InSync = out.Waiting == 0 && nb.InFlight == 0 && out.Arriving == 0 && store.files.idle()
		}
	}
}

// Sync tries the core now and waits until everything is there.
func (u *uplink) Sync(ctx context.Context) (api.CoreStatus, error) {
	if u == nil || u.broken != nil {
		return u.Core(), nil
	}
	u.edge.Poke()
	if _, _, err := u.edge.Up(ctx); err != nil {
		return u.Core(), nil // it tells why
	}
	tick := time.NewTicker(coreWatch)
	defer tick.Stop()
	moved, last := time.Now(), api.CoreStatus{}
	for {
		select {
		case <-ctx.Done():
			return u.Core(), nil
		case <-tick.C:
		}
		st := u.Core()
		if st.Stored+st.Present+st.Pulled+st.Resent != last.Stored+last.Present+last.Pulled+last.Resent || st.Waiting != last.Waiting {
			moved = time.Now()
		}
		last = st
		if quiet := time.Since(moved); st.InSync && quiet >= coreQuiet || quiet >= coreStuck {
			return st, nil
		}
	}
}

// coreHealth fills in what the way to the core tells.
func (n *Node) coreHealth(h *api.Health) {
	c := n.core.Core()
	h.Core = api.HealthCore{Up: c.Up, Reached: c.Reached, Stored: c.Stored, Present: c.Present, Resent: c.Resent, Pulled: c.Pulled}
}
