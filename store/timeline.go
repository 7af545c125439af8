package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"outrider/mesh/identity"
	"outrider/store/internal/kv"
)

// maxTies bounds how many rows of equal order one page may be longer than
// asked for.
const maxTies = 256

// Row returns the row of a message.
func (s *Store) Row(user identity.UserID, msg [16]byte) (Row, error) {
	raw, err := s.kv.Get(keyMessage(user, msg))
	if err != nil {
		return Row{}, fmt.Errorf("store: row: %w", err)
	}
	conv, order, err := parseWhere(raw)
	if err != nil {
		return Row{}, err
	}
	data, err := s.kv.Get(keyRow(user, conv, order, msg))
	if errors.Is(err, ErrNotFound) { // moved between the two looks
		return s.rowAgain(user, msg, raw)
	}
	if err != nil {
		return Row{}, fmt.Errorf("store: row: %w", err)
	}
	return Row{User: user, Conv: conv, Msg: msg, Order: order, Data: data}, nil
}

// rowAgain looks once more, unless nothing has changed: then the row is lost.
func (s *Store) rowAgain(user identity.UserID, msg [16]byte, was []byte) (Row, error) {
	now, err := s.kv.Get(keyMessage(user, msg))
	if err != nil {
		return Row{}, fmt.Errorf("store: row: %w", err)
	}
	if bytes.Equal(now, was) {
		return Row{}, fmt.Errorf("store: row: %w", ErrCorrupt)
	}
	return s.Row(user, msg)
}

// Rows returns the n newest rows of a conversation whose Order is below
// before (math.MaxUint64 for the very newest), newest first. A page does not
// end between rows of equal Order, so it may be some rows longer, and the next
// page is asked for with the Order of the last row.
func (s *Store) Rows(user identity.UserID, conv [16]byte, before uint64, n int) ([]Row, error) {
	prefix := keyRow(user, conv, 0, [16]byte{})[:1+16+16]
	from := binary.BigEndian.AppendUint64(bytes.Clone(prefix), before)
	var rows []Row
	for p, err := range s.kv.Scan(kv.Range{Prefix: prefix, From: from, Reverse: true}) {
		if err != nil {
			return nil, fmt.Errorf("store: rows: %w", err)
		}
		order := rowOrder(p.Key)
		if order >= before {
			continue
		}
		if len(rows) >= n && (n <= 0 || order != rows[len(rows)-1].Order || len(rows) >= n+maxTies) {
			break
		}
		rows = append(rows, Row{User: user, Conv: conv, Msg: [16]byte(p.Key[len(p.Key)-16:]), Order: order, Data: bytes.Clone(p.Value)})
	}
	return rows, nil
}

// A Conv is a conversation that has rows.
type Conv struct {
	ID    [16]byte
	Order uint64 // of its newest row
}

// Convs returns the conversations of a user, in no particular order.
func (s *Store) Convs(user identity.UserID) ([]Conv, error) {
	prefix := keyConv(user, [16]byte{})[:1+16]
	var convs []Conv
	for p, err := range s.kv.Scan(kv.Range{Prefix: prefix}) {
		if err != nil {
			return nil, fmt.Errorf("store: conversations: %w", err)
		}
		if len(p.Key) != 1+16+16 || len(p.Value) != 8 {
			return nil, fmt.Errorf("store: conversations: %w", ErrCorrupt)
		}
		convs = append(convs, Conv{ID: [16]byte(p.Key[17:]), Order: binary.BigEndian.Uint64(p.Value)})
	}
	return convs, nil
}
