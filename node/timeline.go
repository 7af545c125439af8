package node

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/store"
)

// chatStore gives chat the store in chat's own words.
type chatStore struct{ store *store.Store }

var _ chat.Store = chatStore{}

func (s chatStore) Commit(ctx context.Context, ops ...chat.Op) error {
	out := make([]store.Op, len(ops))
	for i, op := range ops {
		out[i] = timelineOp(op)
	}
	return chatError(s.store.Commit(ctx, out...))
}

func timelineOp(op chat.Op) store.Op {
	switch op := op.(type) {
	case chat.PutRow:
		return store.PutRow{Row: store.Row{User: op.Row.User, Conv: op.Row.Conv, Msg: op.Row.Msg, Order: op.Row.Order, Data: op.Row.Data}}
	case chat.DeleteRow:
		return store.DeleteRow{User: op.User, Msg: op.Msg}
	case chat.PutKV:
		return store.PutKV{Bucket: op.Bucket, Key: op.Key, Value: op.Value}
	case chat.DeleteKV:
		return store.DeleteKV{Bucket: op.Bucket, Key: op.Key}
	}
	panic(fmt.Sprintf("node: chat's operation %T is unknown here", op))
}

func (s chatStore) Row(user identity.UserID, msg chat.MessageID) (chat.Row, error) {
	r, err := s.store.Row(user, msg)
	return chatRow(r), chatError(err)
}

func (s chatStore) Rows(user identity.UserID, conv chat.ConversationID, before uint64, n int) ([]chat.Row, error) {
	rows, err := s.store.Rows(user, conv, before, n)
	out := make([]chat.Row, len(rows))
	for i, r := range rows {
		out[i] = chatRow(r)
	}
	return out, chatError(err)
}

func chatRow(r store.Row) chat.Row {
	return chat.Row{User: r.User, Msg: r.Msg, Conv: r.Conv, Order: r.Order, Data: r.Data}
}

func (s chatStore) Get(bucket, key string) ([]byte, error) {
	v, err := s.store.Get(bucket, key)
	return v, chatError(err)
}

func (s chatStore) List(bucket, prefix string) iter.Seq2[chat.Pair, error] {
	return func(yield func(chat.Pair, error) bool) {
		for kv, err := range s.store.List(bucket, prefix) {
			if !yield(chat.Pair{Key: kv.Key, Value: kv.Value}, chatError(err)) {
				return
			}
		}
	}
}

// chatError translates the store's errors into those chat knows.
func chatError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: %v", chat.ErrNotFound, err)
	case errors.Is(err, store.ErrFull):
		return fmt.Errorf("%w: %v", chat.ErrFull, err)
	}
	return err
}
