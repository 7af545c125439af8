package chat

import (
	"context"
	"fmt"
	"strings"
	"time"

	"outrider/mesh/envelope"
)

// Why tells where a message is and what it waits for.
func (s *Session) Why(ctx context.Context, id MessageID) (Why, error) {
	if err := s.enter(); err != nil {
		return Why{}, err
	}
	defer s.mu.Unlock()
	r, err := s.get(id)
	if err != nil {
		return Why{}, notFound(err)
	}
	w := Why{Message: s.view(r)}
	if !r.Out || r.Synced {
		s.whyReceived(&w, r)
		return w, nil
	}
	s.whySent(ctx, &w, r)
	return w, nil
}

func (s *Session) whyReceived(w *Why, r *record) {
	m := w.Message
	w.Summary = "The message is here."
	switch {
	case r.Synced:
		w.Summary = "Another of your devices sent the message; that device knows more."
	case r.State == StateRecalled:
		w.Summary = "The sender took the message back; its content was shredded."
	case r.Gone:
		w.Summary = "The message was shredded after reading, as its sender asked."
	case r.File != nil && r.File.Bad:
		w.Summary, w.Todo = "The file is not what its sender announced.", "Ask for it again."
	case r.File != nil && !m.File.Complete:
		w.Summary = fmt.Sprintf("%d of %d bytes of the file are here.", m.File.Have, m.File.Total)
		w.Next = "The rest comes with contacts to nodes that have it, in any order and over any number of contacts."
	}
	if !r.Synced {
		w.Facts = append(w.Facts, fmt.Sprintf("It was sent %s and came here %s, over %s.", s.ago(m.Sent), s.ago(m.Received), plural(r.Hops, "link", "links")))
	}
	w.Facts = append(w.Facts, s.lifeFact(r))
}

// summaries say in one sentence what a state of an outgoing message means.
var summaries = map[State]string{
	StateWaiting:   "The message is on this node and cannot be sealed yet: the recipient's keys are not here.",
	StateQueued:    "The message is sealed on this node and waits for a neighbour to take it.",
	StateCarried:   "Another node has taken a copy and carries it on.",
	StateAtCore:    "The core has a copy.",
	StateAtNode:    "A node that serves the recipient has it; the recipient has not opened it yet.",
	StateDelivered: "The recipient has it.",
	StateRead:      "The recipient has read it.",
	StateExpired:   "The message's time ran out before it was delivered; its content was shredded.",
	StateRecalled:  "You took the message back.",
	StateFailed:    "The message cannot go on.",
}

// nexts say what happens by itself.
var nexts = map[State]string{
	StateWaiting: "It is sealed and goes as soon as the recipient's keys arrive, also after a restart.",
	StateQueued:  "It goes to the next node that comes into contact.",
	StateCarried: "Every node that has a copy offers it to those it meets, until the recipient acknowledges it or its time is over.",
	StateAtCore:  "The core hands it to a node that serves the recipient.",
	StateAtNode:  "It opens when the recipient logs in.",
}

func (s *Session) whySent(ctx context.Context, w *Why, r *record) {
	m := w.Message
	w.Summary, w.Next = summaries[m.State], nexts[m.State]
	w.Facts = append(w.Facts, fmt.Sprintf("Sent %s, precedence %v.", s.ago(m.Sent), m.Precedence), s.lifeFact(r))
	to, ok := s.recipients(r.Peer)
	switch {
	case s.svc.cfg.Roster.Revoked(r.Peer):
		w.Facts = append(w.Facts, "The certificates of "+m.To.Name+" were revoked.")
	case !ok:
		w.Facts = append(w.Facts, "No usable keys of "+m.To.Name+" are known here.")
	default:
		w.Facts = append(w.Facts, fmt.Sprintf("Keys of %s are known for %s.", m.To.Name, plural(peerDevices(to, r), "device", "devices")))
	}
	w.Facts = append(w.Facts, s.contactFact())
	if r.Sealed != nil && m.State != StateRecalled && m.State != StateExpired {
		w.Facts = append(w.Facts, s.carrierFacts(ctx, r)...)
	}
	if m.Devices > 1 || m.Delivered > 0 {
		w.Facts = append(w.Facts, fmt.Sprintf("%d of %s of %s have it.", m.Delivered, plural(m.Devices, "device", "devices"), m.To.Name))
	}
	if m.Reason.Text != "" {
		w.Facts = append(w.Facts, "Reason: "+m.Reason.Text+".")
	}
	switch m.State {
	case StateFailed, StateExpired:
		w.Todo = m.Reason.Hint
	case StateQueued:
		if m.Reason.Code == "no_contact" {
			w.Todo = "Move closer to another node, or check the links."
		}
	}
}

func (s *Session) carrierFacts(ctx context.Context, r *record) (facts []string) {
	ex := s.svc.cfg.Agent.Explain(ctx, r.Sealed.ID)
	if len(ex.Carriers) > 0 {
		names := make([]string, len(ex.Carriers))
		for i, id := range ex.Carriers {
			names[i] = s.svc.cfg.Roster.NodeName(id)
		}
		facts = append(facts, "Copies were taken by "+strings.Join(names, ", ")+".")
	}
	switch {
	case ex.Purged:
		facts = append(facts, "It was acknowledged, and carriers are told to forget it.")
	case ex.Held && ex.Note != "":
		facts = append(facts, ex.Note)
	case !ex.Held:
		facts = append(facts, "This node holds no copy for the mesh any more.")
	}
	if b := r.blob(); b != nil && !r.File.Arrived {
		if ex := s.svc.cfg.Agent.Explain(ctx, b.ID); len(ex.Carriers) == 0 {
			facts = append(facts, "No other node has begun to take the file.")
		} else {
			facts = append(facts, fmt.Sprintf("%s the file's announcement and take its parts.", plural(len(ex.Carriers), "node has", "nodes have")))
		}
	}
	return facts
}

func (s *Session) contactFact() string {
	c := s.svc.cfg.Agent.Contacts()
	switch {
	case c.Neighbours == 0:
		return "No other node is in contact."
	case c.Core:
		return fmt.Sprintf("%s in contact, and the core is reachable.", plural(c.Neighbours, "node is", "nodes are"))
	}
	return fmt.Sprintf("%s in contact.", plural(c.Neighbours, "node is", "nodes are"))
}

func (s *Session) lifeFact(r *record) string {
	left := r.left(s.elapsed())
	if r.State == StateExpired || left <= 0 {
		return "Its time is over."
	}
	if r.BurnEnds > 0 {
		return "It is shredded in " + span(time.Duration(max(0, r.BurnEnds-s.elapsed()))*time.Second) + "."
	}
	return "It expires in " + span(left) + "."
}

func (s *Session) ago(t time.Time) string {
	d := s.svc.cfg.Clock.Now().Sub(t)
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// span writes a duration as people say it, in one unit.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func peerDevices(to []envelope.Recipient, r *record) (n int) {
	for _, d := range to {
		if d.User == r.Peer {
			n++
		}
	}
	return n
}
