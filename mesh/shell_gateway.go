package mesh

import (
	"maps"
	"slices"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// What the keeper of a gateway asks of an agent: a place that is reached now
// and then, where bundles are left for others and others' bundles are found.

// A Standing is how a bundle stands here.
type Standing struct {
	State string // as in Explanation
	Own   bool   // submitted here
}

// Settled reports that the bundle need not be offered here again: it is on
// disk, or it never will be.
func (s Standing) Settled() bool {
	switch s.State {
	case stateNames[held], stateNames[purging], stateNames[purged], stateNames[superseded], stateNames[expired]:
		return true
	}
	return false
}

// Gone reports that the bundle is not wanted here any more, and that this is on
// disk: a purge record need not be offered.
func (s Standing) Gone() bool {
	return s.Settled() && s.State != stateNames[held] && s.State != stateNames[purging]
}

// Refused reports that there was no room for it.
func (s Standing) Refused() bool { return s.State == stateNames[refused] }

// Standings tells how bundles stand, in the order asked. It is nil when the
// agent has ended.
func (s *Shell) Standings(ids []bundle.ID) []Standing {
	list := make([]Standing, len(ids))
	ok := s.look(func(m *Machine, _ Time) {
		for i, id := range ids {
			list[i].State = "unknown"
			if slot := m.idx.find(id); slot != 0 {
				e := &m.idx.entries[slot]
				list[i] = Standing{State: stateNames[e.state], Own: e.is(flagOwn)}
			}
		}
	})
	if !ok {
		return nil
	}
	return list
}

// Served lists the tags that are delivered here, those too that neighbours are
// not told of.
func (s *Shell) Served() (tags []identity.Tag) {
	s.look(func(m *Machine, _ Time) { tags = slices.Collect(maps.Keys(m.tags.tags)) })
	return tags
}

// LeavesHere tells the agent of leaves that its store has without having been
// given them.
func (s *Shell) LeavesHere(root blob.Root, leaves []int) {
	var in BlobsWritten
	for _, leaf := range leaves {
		in.Results = append(in.Results, BlobResult{Root: root, Group: leaf / blob.GroupLeaves, Leaf: leaf})
	}
	s.post(in)
}
