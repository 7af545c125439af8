package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/store"
)

// fill draws a value for every field of a struct, so that a field added later
// and forgotten in the translation fails the round trip.
func fill(t *rapid.T, v reflect.Value) {
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(rapid.Bool().Draw(t, name))
		case reflect.Uint8, reflect.Uint32, reflect.Uint64:
			f.SetUint(rapid.Uint64Max(1<<f.Type().Bits()-1).Draw(t, name))
		case reflect.Array:
			reflect.Copy(f, reflect.ValueOf(rapid.SliceOfN(rapid.Byte(), f.Len(), f.Len()).Draw(t, name)))
		default:
			t.Fatalf("the field %s has a kind this test does not know: %v", name, f.Kind())
		}
	}
}

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m mesh.Meta
		fill(t, reflect.ValueOf(&m).Elem())
		got, err := agentMeta(storeMeta(m))
		if err != nil || got != m {
			t.Fatalf("%+v became %+v (%v)", m, got, err)
		}
	})
}

func TestTombstoneRoundTrip(t *testing.T) {
	h, err := bundle.Header{
		Version: bundle.Version, Tag: identity.Tag{1}, Lifetime: controlLifetime, Commitment: [8]byte{2}, Kind: bundle.KindMessage,
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		in := mesh.Tombstone{
			Record:  bundle.PurgeRecord{Header: h, PayloadHash: [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))},
			Ingress: identity.NodeID(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "ingress")), Seq: rapid.Uint64().Draw(t, "seq"),
			Stored: rapid.Uint32().Draw(t, "stored"), Deadline: rapid.Uint32().Draw(t, "deadline"), Kept: rapid.Bool().Draw(t, "kept"),
		}
		p := storePurge(in)
		in.ID = p.ID()
		out, err := agentTombstone(p)
		if err != nil || !reflect.DeepEqual(out, in) {
			t.Fatalf("%+v became %+v (%v)", in, out, err)
		}
	})
}

func FuzzExtra(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(extra(extraUrgent, byte(bundle.Flash), 1<<63))
	f.Add(make([]byte, extraSize+1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		flags, served, number, err := parseExtra(raw)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) || len(raw) == extraSize {
				t.Errorf("%x: %v", raw, err)
			}
			return
		}
		if !bytes.Equal(extra(flags, served, number), raw) {
			t.Errorf("%x became %x", raw, extra(flags, served, number))
		}
	})
}

// The errors of the store arrive as those the agent and chat know.
func TestStoreErrors(t *testing.T) {
	for _, c := range []struct{ in, agent, chat error }{
		{store.ErrFull, mesh.ErrStoreFull, chat.ErrFull}, {store.ErrNotFound, mesh.ErrNotStored, chat.ErrNotFound},
	} {
		if err := agentError(c.in); !errors.Is(err, c.agent) || errors.Is(err, c.in) {
			t.Errorf("the agent is told %v", err)
		}
		if err := chatError(c.in); !errors.Is(err, c.chat) || errors.Is(err, c.in) {
			t.Errorf("chat is told %v", err)
		}
	}
	if agentError(nil) != nil || chatError(nil) != nil {
		t.Error("success became an error")
	}
}

// The store takes as many deletions in one transaction as the agent asks for.
func TestStoreTakesTheLargestTransaction(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	as := agentStore{blobStore{s}}
	h, err := bundle.Header{
		Version: bundle.Version, Tag: identity.Tag{1}, Lifetime: controlLifetime, Commitment: [8]byte{2}, Kind: bundle.KindMessage,
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var puts [][]mesh.Op
	var gone []mesh.Op
	for i := range mesh.MaxCommitOps {
		payload := binary.BigEndian.AppendUint32(nil, uint32(i))
		b := bundle.Bundle{Header: h, Payload: payload}
		r := mesh.Record{
			ID: b.ID(), Header: h, PayloadHash: sha256.Sum256(payload), Size: len(payload),
			Meta: mesh.Meta{Ingress: identity.NodeID{1}, Key: [16]byte{byte(i >> 8), byte(i), 1}, Seq: uint64(i), Deadline: 1},
		}
		puts = append(puts, []mesh.Op{mesh.PutBundle{Record: r, Payload: payload}})
		gone = append(gone, mesh.DeleteBundle{ID: r.ID})
	}
	for i, err := range append(as.CommitEach(t.Context(), puts), as.CommitEach(t.Context(), [][]mesh.Op{gone})...) {
		if err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
	}
	for range as.Records() {
		t.Fatal("something is left")
	}
}
