package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/store"
)

// maxCarriers is how many carriers of one bundle are named, and maxTraced of
// how many bundles. What is forgotten is told with less detail, no worse.
const (
	maxCarriers = 16
	maxTraced   = 20_000
)

// post gives chat the agent in chat's own words.
type post struct {
	agent *mesh.Shell
	wake  func() // somebody may now want a link
	core  func() (up bool, last time.Time)

	mu     sync.Mutex
	traces map[bundle.ID]*trace // of own bundles that were carried
	order  []bundle.ID          // oldest first
}

// A trace is who took a copy of a bundle.
type trace struct {
	carriers []identity.NodeID
	atReader bool
}

var _ chat.Agent = (*post)(nil)

func newPost(agent *mesh.Shell, wake func()) *post {
	return &post{agent: agent, wake: wake, traces: map[bundle.ID]*trace{}}
}

func (p *post) Submit(ctx context.Context, b bundle.Bundle) error {
	err := p.agent.Submit(ctx, b, mesh.SubmitOptions{})
	switch {
	case errors.Is(err, mesh.ErrExists):
		return nil
	case errors.Is(err, mesh.ErrFull), errors.Is(err, mesh.ErrStoreFull):
		return fmt.Errorf("%w: %v", chat.ErrFull, err)
	case err == nil:
		p.wake()
	}
	return err
}

func (p *post) Purge(ctx context.Context, r bundle.PurgeRecord) error {
	if err := p.agent.Purge(ctx, r); err != nil {
		return err
	}
	p.wake()
	return nil
}

// WatchArchive tells the agent which tags are a compliance reader's.
func (p *post) WatchArchive(tags []identity.Tag) { p.agent.WatchArchive(tags) }

func (p *post) Watch(add, remove []identity.Tag) { p.agent.Watch(add, remove) }

func (p *post) Consumed(ctx context.Context, ids []bundle.ID) error {
	err := p.agent.Consumed(ctx, ids)
	if errors.Is(err, mesh.ErrUnknown) {
		return nil // gone meanwhile: purged or expired
	}
	return err
}

func (p *post) Load(ctx context.Context, id bundle.ID) (bundle.Bundle, error) {
	b, err := p.agent.Load(ctx, id)
	if errors.Is(err, mesh.ErrUnknown) {
		return b, fmt.Errorf("%w: %v", chat.ErrNotFound, err)
	}
	return b, err
}

func (p *post) Explain(_ context.Context, id bundle.ID) chat.Explanation {
	x := p.agent.Explain(id)
	out := chat.Explanation{Held: x.State == "held" || x.State == "writing", Purged: x.State == "purged", Age: x.Age, Note: note(x)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.traces[id]; t != nil {
		out.Carriers = append(out.Carriers, t.carriers...)
		out.AtReader = t.atReader
	}
	return out
}

// note says what a held bundle waits for.
func note(x mesh.Explanation) chat.Sentence {
	if x.State == "writing" {
		return chat.Sentence{Code: "writing"}
	}
	has := 0
	for _, l := range x.Links {
		switch l.State {
		case "sending":
			return chat.Sentence{Code: "sending", Args: map[string]any{"node": l.Peer.Short(), "sent_bytes": l.Sent, "size_bytes": x.Size}}
		case "queued", "waits for answer", "offered":
			return chat.Sentence{Code: "on_its_way", Args: map[string]any{"node": l.Peer.Short()}}
		case "has it":
			has++
		}
	}
	switch {
	case len(x.Links) == 0: // said by the fact about contacts
		return chat.Sentence{}
	case has == len(x.Links):
		return chat.Sentence{Code: "neighbours_had"}
	case x.Way == "spray" && x.Budget <= 1:
		return chat.Sentence{Code: "last_replica"}
	}
	return chat.Sentence{Code: "its_turn"}
}

func (p *post) Contacts() chat.Contacts {
	c := chat.Contacts{}
	for _, id := range p.agent.Linked() {
		if id != coreNode {
			c.Neighbours++
		}
	}
	if p.core != nil {
		c.Core, c.CoreLast = p.core()
	}
	return c
}

// carried notes who took a copy.
func (p *post) carried(e mesh.Carried) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.traces[e.ID]
	if t == nil {
		if len(p.order) >= maxTraced {
			delete(p.traces, p.order[0])
			p.order = p.order[1:]
		}
		t = &trace{}
		p.traces[e.ID], p.order = t, append(p.order, e.ID)
	}
	if len(t.carriers) < maxCarriers && !slices.Contains(t.carriers, e.Peer) {
		t.carriers = append(t.carriers, e.Peer)
	}
	t.atReader = t.atReader || e.AtReader
}

// hear passes on what the agent tells: control objects to the roster, raw tags
// to their watchers, everything else to chat.
func (n *Node) hear(ctx context.Context, sub *mesh.Subscription) error {
	defer sub.Close()
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		if a, ok := e.(mesh.Arrived); ok && a.Kind == bundle.KindControl {
			n.applyControl(ctx, a.ID)
			continue
		}
		n.tell(e)
	}
}

// recall tells the roster of all control objects that are stored: nobody may
// log in or knock before it knows whom it knew. One that the disk has damaged
// is dropped, or no neighbour would give it again.
func (n *Node) recall() error {
	var damaged []store.Op
	for _, tag := range n.controlTags() {
		for r, err := range n.store.Bundles(store.Query{Index: store.ByTag, Tag: tag}) {
			if err != nil {
				return fmt.Errorf("node: up: %w", err)
			}
			payload, err := n.store.Payload(r.ID)
			if errors.Is(err, store.ErrCorrupt) {
				n.log.Error("a stored control object is damaged; a neighbour will give it again", "bundle", r.ID)
				damaged = append(damaged, store.DeleteBundle{ID: r.ID})
				continue
			}
			if err == nil {
				err = n.roster.Apply(payload)
			}
			if err != nil {
				n.log.Warn("stored control object not applied", "bundle", r.ID, "err", err)
			}
		}
	}
	for ops := range slices.Chunk(damaged, store.MaxOps) {
		if err := n.store.Commit(context.Background(), ops...); err != nil {
			return fmt.Errorf("node: up: drop damaged control objects: %w", err)
		}
	}
	return nil
}

// applyControl tells the roster of a control object that is stored now. It is
// never marked as consumed: after a restart all are announced again, and the
// roster is built from them.
func (n *Node) applyControl(ctx context.Context, id bundle.ID) {
	b, err := n.agent.Load(ctx, id)
	if errors.Is(err, mesh.ErrUnknown) || ctx.Err() != nil {
		return // replaced by a newer one meanwhile
	}
	if err != nil {
		n.log.Error("a control object cannot be read", "bundle", id, "err", err)
		return
	}
	if err := n.roster.Apply(b.Payload); err != nil {
		n.log.Warn("control object not applied", "bundle", id, "err", err)
		return
	}
	n.agent.Rejudge()
	n.links.Recheck()
	n.tellHeads()
}

// tell translates an event for chat and for the node's own screens.
func (n *Node) tell(e mesh.Event) {
	switch e := e.(type) {
	case mesh.Arrived:
		if !n.raw.arrived(e) {
			n.chat.Handle(chat.Arrived{ID: e.ID, Tag: e.Tag, Kind: e.Kind})
		}
	case mesh.Carried:
		if e.Peer == coreNode {
			n.chat.Handle(chat.Carried{ID: e.ID, AtCore: true})
			return
		}
		n.post.carried(e)
		n.chat.Handle(chat.Carried{ID: e.ID, Peer: e.Peer, AtReader: e.AtReader})
	case mesh.Purged:
		n.chat.Handle(chat.Purged{ID: e.ID, Key: e.Key})
	case mesh.Expired:
		n.chat.Handle(chat.Expired{ID: e.ID})
	case mesh.BlobProgress:
		n.chat.Handle(chat.BlobProgress{Root: e.Root, Have: e.Have, Total: e.Total})
	case mesh.BlobComplete:
		n.chat.Handle(chat.BlobComplete{Root: e.Root})
	case mesh.LinkUp:
		if e.Peer != coreNode { // the way to the core tells of itself
			n.contactBegan(e.Peer)
		}
	case mesh.LinkDown:
		if e.Peer != coreNode {
			n.contactEnded(e.Peer)
		}
	}
}

// contactBegan and contactEnded tell screens.
func (n *Node) contactBegan(peer identity.NodeID) {
	n.log.Info("contact", "peer", peer.Short())
	n.announceLink(peer)
	n.chat.Handle(chat.ContactsChanged{})
}

func (n *Node) contactEnded(peer identity.NodeID) {
	n.log.Info("contact ended", "peer", peer.Short())
	n.announceLink(peer)
	n.chat.Handle(chat.ContactsChanged{})
}
