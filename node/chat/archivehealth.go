package chat

import (
	"context"
	"slices"
	"time"
)

// An ArchiveHealth tells an operator how the archive of the network stands at
// this node. It names no member but the reader.
type ArchiveHealth struct {
	Reader  Person
	Keys    bool // a message could be sealed to the reader, or the reader lives here
	Here    bool // the reader's keys lie on this node
	Waiting int  // copies that wait here to be archived
	Oldest  time.Time
	Records uint64 // in the archive, as told last; 0 while the reader is locked
	Folder  string // where an archiver last said that it writes
	Seen    time.Time
}

// an archiver is a program that drains a reader's queue.
type archiver struct {
	folder string
	seen   time.Time
}

// Archiving notes that a program drains this user's queue into a folder, for
// whoever asks the node how the archive stands.
func (s *Session) Archiving(folder string) {
	s.svc.mu.Lock()
	defer s.svc.mu.Unlock()
	s.svc.archivers[s.user] = archiver{folder, s.svc.cfg.Clock.Now()}
}

// ArchiveHealth lists the readers that the configuration names.
func (s *Service) ArchiveHealth() (out []ArchiveHealth) {
	if s.cfg.Archive == nil {
		return nil
	}
	hosted, err := s.cfg.Accounts.Users()
	if err != nil {
		s.log.Warn("chat: list hosted users", "err", err)
	}
	for _, r := range s.cfg.Archive.Readers() {
		h := ArchiveHealth{Reader: Person{ID: r.User, Name: s.nameOf(r.User)}, Here: slices.Contains(hosted, r.User)}
		h.Keys = h.Here || slices.ContainsFunc(s.cfg.Roster.Devices(r.User), func(d Device) bool { return len(d.Prekeys) > 0 })
		s.mu.Lock()
		h.Waiting = len(s.waiting[r.User])
		h.Folder, h.Seen = s.archivers[r.User].folder, s.archivers[r.User].seen
		s.mu.Unlock()
		if u, ok := s.Session(r.User); ok {
			if st, err := u.ArchiveState(context.Background()); err == nil {
				h.Waiting, h.Oldest, h.Records = st.Waiting, st.Oldest, st.Head.N
			}
		}
		out = append(out, h)
	}
	return out
}
