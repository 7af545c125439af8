package chat

import (
	"context"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/identity"
)

// asideEvery is how often content that was set aside is looked at. Nobody
// reads it, so nobody is misled by what is an hour too old.
const asideEvery = time.Hour

// endAside deletes what was set aside and has expired since, and with the last
// message all else of it. That no key of it is here changes nothing: a
// lifetime is a promise, also about what only the old password opens.
func (s *Service) endAside(ctx context.Context) error {
	if s.cfg.Aside == nil {
		return nil
	}
	for _, id := range s.cfg.Aside() {
		if err := s.endOneAside(ctx, id); err != nil {
			return fmt.Errorf("chat: end what was set aside: %w", err)
		}
	}
	return nil
}

func (s *Service) endOneAside(ctx context.Context, aside identity.UserID) error {
	now, left := int64(s.cfg.Clock.Elapsed()/time.Second), false
	var ops []Op
	for p, err := range s.cfg.Store.List(bucketChat, string(aside[:])+string(rune(kindExpiry))) {
		if err != nil {
			return err
		}
		minute, msg, ok := parseExpiry(p.Key[len(aside)+1:])
		if !ok {
			return errShape
		}
		if left = int64(minute)*60 > now; left {
			break // and so do those behind it
		}
		ops = append(ops, DeleteRow{User: aside, Msg: msg}, DeleteKV{Bucket: bucketChat, Key: p.Key})
		ops = append(ops, s.unpinAll(ctx, msg)...)
	}
	for part := range commits(ops) {
		if err := s.cfg.Store.Commit(ctx, part...); err != nil {
			return err
		}
	}
	if left {
		return nil
	}
	return s.move(ctx, string(aside[:]), func(p Pair) ([]Op, error) {
		return []Op{DeleteKV{Bucket: bucketChat, Key: p.Key}}, nil
	})
}

// unpinAll lets go of the files of a message, and drops those that no other
// message needs.
func (s *Service) unpinAll(ctx context.Context, msg MessageID) (ops []Op) {
	s.mu.Lock()
	var roots []blob.Root
	for root, msgs := range s.pins {
		if slices.Contains(msgs, msg) {
			roots = append(roots, root)
		}
	}
	s.mu.Unlock()
	for _, root := range roots {
		ops = append(ops, DeleteKV{Bucket: BucketPin, Key: pinKey(root, msg)})
		if !s.unpin(root, msg) {
			continue
		}
		if err := s.cfg.Blobs.Drop(ctx, root); err != nil {
			s.log.Warn("chat: drop a file that was set aside", "err", err)
		}
	}
	return ops
}
