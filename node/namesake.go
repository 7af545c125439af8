package node

import (
	"log/slog"
	"slices"
	"strings"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/config"
	"outrider/offline/roster"
	"outrider/store"
)

// A takenName is why a user cannot be called so. Two nodes that are cut off
// from each other can still make namesakes: then an id tells them apart.
type takenName struct {
	here, open bool // the bearer lives on this node; their link was not used yet
}

func (e *takenName) Error() string {
	switch {
	case e.here:
		return "node: a user of that name lives on this node already; nothing was changed"
	case e.open:
		return "node: a link for a user of that name was made already and nobody has used it; nothing was changed"
	}
	return "node: a user of that name is in the network already; nothing was changed"
}

// Hint names the commands that may have been meant.
func (e *takenName) Hint() string {
	if e.here {
		return "after a forgotten password: outrider user code NAME; for another person choose another name"
	}
	return "a new link for the same person: outrider user add NAME --again; for another person choose another name"
}

func (e *takenName) Is(err error) bool { return err == api.ErrConflict }

// freeName refuses a name that somebody bears, whose link is open, or whom the
// roster has not heard of yet. A nil roster lets any name through. The caller
// holds ops, so that a name is not given twice at once.
func (h *Home) freeName(name string, r *roster.Roster) error {
	if r == nil {
		return nil
	}
	taken := r.Holders(name)
	for _, p := range h.unpublished() {
		if id, given, ok := r.NameIn(p.Payload); ok && !r.Met(id) && strings.EqualFold(given, name) {
			taken = append(taken, id)
		}
	}
	for id, given := range h.named {
		switch {
		case r.Met(id):
			delete(h.named, id) // the roster knows better from now on
		case strings.EqualFold(given, name):
			taken = append(taken, id)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	_, known := r.User(taken[0])
	here := slices.ContainsFunc(taken, h.hosts)
	return &takenName{here: here, open: !here && !known}
}

// nameFree is freeName for a caller that does not hold ops.
func (h *Home) nameFree(name string, r *roster.Roster) error {
	h.ops.Lock()
	defer h.ops.Unlock()
	return h.freeName(name, r)
}

// nameGiven notes a name that the roster will hear of later. The caller holds
// ops.
func (h *Home) nameGiven(id identity.UserID, name string) {
	if h.named == nil {
		h.named = map[identity.UserID]string{}
	}
	h.named[id] = name
}

// atRest brings the roster of a node that does not run to where it will be when
// it starts. The caller closes the store.
func atRest(h *Home, c config.Config, log *slog.Logger) (*roster.Roster, *store.Store, error) {
	m := h.network()
	root, err := identity.ParseRoot(m.Root)
	if err != nil {
		return nil, nil, err
	}
	n := &Node{home: h, cfg: c, log: log, clock: h.clock(), root: root}
	if n.store, err = store.Open(h.path("db"), n.storeOptions()); err != nil {
		return nil, nil, err
	}
	n.roster = roster.New(root, nil, n.clock, log)
	for _, s := range m.Secrets {
		n.roster.AddGeneration(s.generation())
	}
	if err := n.recall(); err != nil {
		n.store.Close()
		return nil, nil, err
	}
	for _, o := range h.unpublished() { // as the node does when it starts
		if v := n.roster.Judge(o.Payload); v.Code == roster.Accept {
			_ = n.roster.Apply(o.Payload) // judged good
		}
	}
	return n.roster, n.store, nil
}
