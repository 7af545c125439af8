package chat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// Outgrown tells of a user whose keys were replaced by those of a later
// generation, and whose content has not been set aside yet. number counts such
// replacements on this node; done is called when it is durable. A nil done
// means that there is nothing to do.
type Outgrown func(user identity.UserID) (number uint32, done func() error, err error)

// asideBatch bounds what one commit moves: a row has up to 32 KiB, a bundle
// that was never handed over up to 64 KiB.
const asideBatch = 64

// setAside moves what a user's old keys sealed out of the way of the new
// ones, before these see any of it: they would take it for rubbish. It stays
// on the disk, under a name of its own, as sealed as it was. A crash in
// between leaves the rest to the next unlocking.
func (s *Service) setAside(ctx context.Context, user identity.UserID) error {
	if s.cfg.Outgrown == nil {
		return nil
	}
	number, done, err := s.cfg.Outgrown(user)
	if err != nil || done == nil {
		return err
	}
	aside := AsideID(user, number)
	if err := s.moveRows(ctx, user, aside); err != nil {
		return fmt.Errorf("chat: set content aside: %w", err)
	}
	if err := s.moveValues(ctx, user, aside); err != nil {
		return fmt.Errorf("chat: set content aside: %w", err)
	}
	if err := s.unwatch(ctx, user); err != nil {
		return fmt.Errorf("chat: set content aside: %w", err)
	}
	return done()
}

// AsideID is the name under which a user's content of an earlier generation
// lies in the store.
func AsideID(user identity.UserID, number uint32) identity.UserID {
	h := identity.Hash(identity.LabelKeystoreVault, []byte("aside"), user[:], binary.BigEndian.AppendUint32(nil, number))
	return identity.UserID(h[:len(user)])
}

// moveRows moves messages together with their entries in the expiry index,
// by which they are found.
func (s *Service) moveRows(ctx context.Context, user, aside identity.UserID) error {
	return s.move(ctx, string(user[:])+string(rune(kindExpiry)), func(p Pair) ([]Op, error) {
		_, id, ok := parseExpiry(p.Key[len(user)+1:])
		if !ok {
			return nil, errShape
		}
		ops := rename(p, aside)
		row, err := s.cfg.Store.Row(user, id)
		if errors.Is(err, ErrNotFound) {
			return ops, nil
		}
		if err != nil {
			return nil, err
		}
		row.User = aside
		return append(ops, PutRow{Row: row}, DeleteRow{User: user, Msg: id}), nil
	})
}

func (s *Service) moveValues(ctx context.Context, user, aside identity.UserID) error {
	return s.move(ctx, string(user[:]), func(p Pair) ([]Op, error) { return rename(p, aside), nil })
}

// rename gives a value of bucketChat to another user.
func rename(p Pair, to identity.UserID) []Op {
	key := string(to[:]) + p.Key[len(to):]
	return []Op{PutKV{Bucket: bucketChat, Key: key, Value: slices.Clone(p.Value)}, DeleteKV{Bucket: bucketChat, Key: p.Key}}
}

// move commits what each makes of the values below prefix, batch by batch,
// until none is left there.
func (s *Service) move(ctx context.Context, prefix string, each func(Pair) ([]Op, error)) error {
	for {
		var ops []Op
		n := 0
		for p, err := range s.cfg.Store.List(bucketChat, prefix) {
			if err != nil {
				return err
			}
			more, err := each(p)
			if err != nil {
				return err
			}
			ops = append(ops, more...)
			if n++; n == asideBatch {
				break
			}
		}
		if n == 0 {
			return nil
		}
		for part := range commits(ops) {
			if err := s.cfg.Store.Commit(ctx, part...); err != nil {
				return err
			}
		}
	}
}

// unwatch forgets the tags of keys that nobody can open mail for any more.
func (s *Service) unwatch(ctx context.Context, user identity.UserID) error {
	var tags []identity.Tag
	var ops []Op
	for p, err := range s.cfg.Store.List(bucketWatch, string(user[:])) {
		if err != nil {
			return err
		}
		if len(p.Key) != len(user)+len(identity.Tag{}) {
			return errShape
		}
		tags = append(tags, identity.Tag([]byte(p.Key[len(user):])))
		ops = append(ops, DeleteKV{Bucket: bucketWatch, Key: p.Key})
	}
	for part := range commits(ops) {
		if err := s.cfg.Store.Commit(ctx, part...); err != nil {
			return err
		}
	}
	s.rewatch(user, nil, tags)
	return nil
}
