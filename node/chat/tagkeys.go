package chat

import (
	"context"
	"slices"
)

// SetTagKeys replaces the tag keys of the network's generations, newest first:
// open sessions watch the tags that follow at once, the others when they are
// opened.
func (s *Service) SetTagKeys(ctx context.Context, keys [][32]byte) {
	s.mu.Lock()
	s.cfg.TagKeys = slices.Clone(keys)
	s.mu.Unlock()
	for _, u := range s.unlocked() {
		u.setTagKeys(ctx, keys)
	}
}

// tagKeys returns what SetTagKeys or the configuration set last.
func (s *Service) tagKeys() [][32]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cfg.TagKeys)
}

func (s *Session) setTagKeys(ctx context.Context, keys [][32]byte) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	s.ring.SetTagKeys(keys)
	if err := s.watch(ctx); err != nil {
		s.log.Warn("the tags of a new network secret are watched from the next start on", "err", err)
	}
}
