package chat

import (
	"context"
	"slices"

	"outrider/mesh/identity"
)

// A message is stranded when nobody has opened it and every device of its
// recipient that it was sealed for is gone: the recipient was enrolled anew,
// or lost the node. It is sealed again for the devices of now, as anything
// written now would be. Only if the user had compared the old key it waits
// until the user says so.

// freeStranded looks for such messages after devices may have come or gone.
func (s *Session) freeStranded(ctx context.Context) {
	if !s.regrouped {
		return
	}
	s.regrouped = false
	for id := range s.outgoing {
		if s.closed || ctx.Err() != nil {
			return
		}
		r, err := s.get(id)
		if err != nil || !s.stranded(r) {
			continue // a row that cannot be read is somebody else's to report
		}
		if s.outgrown(r.Peer) {
			err = s.setState(ctx, r, StateFailed, failKeyChanged)
		} else {
			err = s.reseal(ctx, r)
		}
		if err != nil && !quiet(err) {
			s.regrouped = true // tried again in a minute
			s.log.Warn("chat: a message to a device that is gone cannot be sealed again now", "err", err)
		}
	}
}

// stranded tells whether a message was sealed only for devices that are gone,
// and could be sealed for others.
func (s *Session) stranded(r *record) bool {
	if !r.Out || r.Synced || r.Gone || r.Sealed == nil || r.settled() || r.anyGot() || s.elapsed() >= r.Ends ||
		r.State == StateRecalled || r.sealedInVain() {
		return false
	}
	devices := s.svc.cfg.Roster.Devices(r.Peer)
	for _, d := range r.Devices {
		if !d.Own && slices.ContainsFunc(devices, func(of Device) bool { return of.ID == d.ID }) {
			return false
		}
	}
	return s.reachable(r.Peer)
}

// outgrown tells whether a key that the user had compared is the person's no
// more.
func (s *Session) outgrown(id identity.UserID) bool {
	tr, known := s.trusted(id)
	u, ok := s.svc.cfg.Roster.User(id)
	return known && ok && tr.verified && tr.key != u.Key
}
