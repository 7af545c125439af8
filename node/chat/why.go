package chat

import (
	"context"
	"slices"
	"strings"
	"time"

	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// Why tells where a message is and what it waits for.
func (s *Session) Why(ctx context.Context, id MessageID) (Why, error) {
	if err := s.enter(); err != nil {
		return Why{}, err
	}
	defer s.mu.Unlock()
	r, err := s.shown(id)
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

type args = map[string]any

func told(code string) Sentence             { return Sentence{Code: code} }
func toldWith(code string, a args) Sentence { return Sentence{Code: code, Args: a} }
func (w *Why) fact(code string, a args)     { w.Facts = append(w.Facts, toldWith(code, a)) }
func stateCode(prefix string, s State) string {
	return prefix + strings.ReplaceAll(string(s), "-", "_")
}

func (s *Session) whyReceived(w *Why, r *record) {
	m := w.Message
	w.Summary = told("here")
	switch {
	case r.Synced:
		w.Summary = told("synced")
	case r.State == StateRecalled:
		w.Summary = told("taken_back")
	case r.Gone:
		w.Summary = told("burned")
	case r.File != nil && r.File.Bad:
		w.Summary, w.Todo = told("file_bad"), told("ask_again")
	case r.File != nil && !m.File.Complete:
		w.Summary = toldWith("file_here", args{"have_bytes": int64(m.File.Have), "total_bytes": int64(m.File.Total)})
		w.Next = told("file_next")
	}
	if !r.Synced {
		w.fact("came", args{"sent_s": s.age(m.Sent), "came_s": s.age(m.Received), "n": r.Hops})
	}
	w.Facts = append(w.Facts, s.lifeFact(r))
}

// goesOn are the states in which something happens by itself.
var goesOn = []State{StateWaiting, StateQueued, StateCarried, StateAtCore, StateAtNode}

func (s *Session) whySent(ctx context.Context, w *Why, r *record) {
	m := w.Message
	w.Summary = told(stateCode("state_", m.State))
	if slices.Contains(goesOn, m.State) {
		w.Next = told(stateCode("next_", m.State))
	}
	if age := s.age(m.Sent); age < 1 {
		w.fact("sent_now", args{"precedence": m.Precedence.String()})
	} else {
		w.fact("sent", args{"age_s": age, "precedence": m.Precedence.String()})
	}
	w.Facts = append(w.Facts, s.lifeFact(r), s.keysFact(r, m.To.Name), s.contactFact())
	if r.Sealed != nil && m.State != StateRecalled && m.State != StateExpired {
		s.carrierFacts(ctx, w, r)
	}
	if m.Devices > 1 || m.Delivered > 0 {
		w.fact("devices_have", args{"have": m.Delivered, "n": m.Devices, "name": m.To.Name})
	}
	s.reasonOf(w)
}

// reasonOf adds the message's reason, and what can be done, where neither is
// among the facts already.
func (s *Session) reasonOf(w *Why) {
	m := w.Message
	about := args{"name": m.To.Name}
	code := m.Reason.Code
	if _, ok := sayEN["reason_"+code]; ok {
		w.fact("reason_"+code, about)
	}
	if _, ok := sayEN["hint_"+code]; ok && (m.State == StateFailed || m.State == StateExpired || m.State == StateWaiting) {
		w.Todo = toldWith("hint_"+code, about)
	}
	if m.State == StateQueued && code == "no_contact" {
		w.Todo = told("move_closer")
	}
}

func (s *Session) keysFact(r *record, name string) Sentence {
	to, ok := s.recipients(r.Peer)
	switch {
	case s.svc.cfg.Roster.Revoked(r.Peer):
		return toldWith("keys_revoked", args{"name": name})
	case !ok && s.unknown(r.Peer):
		return toldWith("id_unknown", args{"id": r.Peer.String()})
	case !ok:
		return toldWith("keys_none", args{"name": name})
	}
	return toldWith("keys_known", args{"name": name, "n": peerDevices(to, r)})
}

// carrierFacts tells who took copies. The row remembers them over restarts,
// the agent knows those of this run.
func (s *Session) carrierFacts(ctx context.Context, w *Why, r *record) {
	ex := s.svc.cfg.Agent.Explain(ctx, r.Sealed.ID)
	if carriers := merged(r.Carriers, ex.Carriers); len(carriers) > 0 {
		names := make([]string, len(carriers))
		for i, id := range carriers {
			names[i] = s.svc.cfg.Roster.NodeName(id)
		}
		w.fact("taken_by", args{"nodes": names})
	}
	switch {
	case ex.Purged:
		w.fact("acknowledged", nil)
	case ex.Held && ex.Note.Code != "":
		w.Facts = append(w.Facts, ex.Note)
	case !ex.Held:
		w.fact("not_held", nil)
	}
	if b := r.blob(); b != nil && !r.File.Arrived {
		if n := len(s.svc.cfg.Agent.Explain(ctx, b.ID).Carriers); n == 0 {
			w.fact("file_untaken", nil)
		} else {
			w.fact("file_taken", args{"n": n})
		}
	}
}

// maxCarriers is how many nodes that took a copy a row remembers.
const maxCarriers = 16

// merged adds nodes to a list that has each once and no more than maxCarriers.
func merged(list, more []identity.NodeID) []identity.NodeID {
	for _, id := range more {
		if len(list) < maxCarriers && !slices.Contains(list, id) {
			list = append(slices.Clip(list), id)
		}
	}
	return list
}

func (s *Session) contactFact() Sentence {
	c := s.svc.cfg.Agent.Contacts()
	switch {
	case c.Neighbours == 0 && !c.Core:
		return told("contact_none")
	case c.Core:
		return toldWith("contact_core", args{"n": c.Neighbours})
	}
	return toldWith("contact", args{"n": c.Neighbours})
}

func (s *Session) lifeFact(r *record) Sentence {
	left := r.left(s.elapsed())
	if r.State == StateExpired || left <= 0 {
		return told("time_over")
	}
	if r.BurnEnds > 0 {
		return toldWith("shredded_in", args{"left_s": max(0, r.BurnEnds-s.elapsed())})
	}
	return toldWith("expires_in", args{"left_s": int64(left / time.Second)})
}

// age is how long ago something was, in seconds.
func (s *Session) age(t time.Time) int64 {
	return max(0, int64(s.svc.cfg.Clock.Now().Sub(t)/time.Second))
}

func peerDevices(to []envelope.Recipient, r *record) (n int) {
	for _, d := range to {
		if d.User == r.Peer {
			n++
		}
	}
	return n
}
