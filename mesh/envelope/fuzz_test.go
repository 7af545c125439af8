package envelope

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"outrider/mesh/blob"
)

// FuzzContent: every body reads to a value that is written and read back the
// same, or is malformed.
func FuzzContent(f *testing.F) {
	all := decoders()
	kinds := slices.Sorted(maps.Keys(all))
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == "inner" || k == "operation" || k == "roster" })
	for _, c := range writeContentSeeds(f) {
		for k := range kinds {
			f.Add(uint8(k), c)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte) {
		decode := all[kinds[int(kind)%len(kinds)]]
		v, err := decode(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := v.(interface{ Encode() ([]byte, error) }).Encode()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		if w, err := decode(again); err != nil || !reflect.DeepEqual(v, w) {
			t.Fatalf("%+v became %+v: %v", v, w, err)
		}
	})
}

func writeContentSeeds(f *testing.F) (seeds [][]byte) {
	for _, c := range contents(f) {
		if body, err := c.value.Encode(); err == nil {
			seeds = append(seeds, body)
		}
	}
	return seeds
}

func FuzzInner(f *testing.F) {
	for _, in := range []Inner{{}, {Type: TypeText, Sent: 5, Body: words(500)}, {Type: 9, Parents: []MessageHash{{1}}, Head: RevocationHead{1, [4]byte{2}}}} {
		raw, _ := in.encode(PadBucket)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := parseInner(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := in.encode(PadBucket)
		if err != nil {
			t.Fatal(err)
		}
		if w, err := parseInner(again); err != nil || !bytes.Equal(w.Body, in.Body) || w.Type != in.Type || w.TTL != in.TTL {
			t.Fatalf("%+v became %+v: %v", in, w, err)
		}
	})
}

func FuzzOp(f *testing.F) {
	raw, _ := Op{Kind: OpAdd, Parents: [][32]byte{{1}}, RosterHash: [32]byte{1}, Transport: TransportWarm, Body: []byte("x")}.encode()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := ParseOp(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := o.encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParseOp(again)
		if err != nil {
			t.Fatal(err)
		}
		if third, err := p.encode(); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%+v became %+v: %v", o, p, err)
		}
	})
}

func FuzzRoster(f *testing.F) {
	f.Add(makeSchedule(nil).Roster.raw())
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRoster(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.encode(), raw) {
			t.Fatal("round trip")
		}
	})
}

func (b bin) raw() []byte { return b }

func FuzzFrame(f *testing.F) {
	plain, _ := frame{Op: []byte{1}, Roster: []byte{2}, Leaves: 1, Signature: make([]byte, sigSize), Secret: make([]byte, wrappedSize)}.encode(Pad64)
	f.Add(plain)
	f.Fuzz(func(t *testing.T, plain []byte) {
		fr, err := parseFrame(plain)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		climb(treeHash{}, fr.Path, int(fr.Leaf), int(fr.Leaves))
		if again, err := fr.encode(PadOff); err == nil {
			if _, err := parseFrame(again); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzOpen: whatever arrives under a tag of ours, nothing but the genuine
// payload opens, and the genuine one still does.
func FuzzOpen(f *testing.F) {
	w := newWorld(f)
	alice, bob := w.node('a', 1), w.node('b', 1)
	m := alice.send(alice.start(bob), "genuine")
	f.Add(m.header, m.payload)
	f.Add(m.header, m.payload[:70])
	f.Add([]byte{}, m.payload)
	f.Fuzz(func(t *testing.T, h, p []byte) {
		_, err := bob.Open(m.tag, h, p)
		if genuine := bytes.Equal(h, m.header) && bytes.Equal(p, m.payload); genuine != (err == nil) {
			t.Fatalf("genuine %v: %v", genuine, err)
		}
		if _, err := bob.open(m); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzOpenEpoch(f *testing.F) {
	w := newWorld(f)
	alice, bob := w.node('a', 1), w.node('b', 1)
	_, wraps := alice.startOnly(bob)
	wrap := wraps[0]
	f.Add(wrap.Header, wrap.Payload)
	f.Add(wrap.Header, wrap.Payload[:encSize+40])
	f.Fuzz(func(t *testing.T, h, p []byte) {
		_, err := bob.OpenEpoch(wrap.Tag, h, p)
		if genuine := bytes.Equal(h, wrap.Header) && bytes.Equal(p, wrap.Payload); genuine != (err == nil) {
			t.Fatalf("genuine %v: %v", genuine, err)
		}
	})
}

// FuzzOpenFields: a hostile reader of the epoch, whose seal and signature
// hold, cannot make the inside crash.
func FuzzOpenFields(f *testing.F) {
	w := newWorld(f)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	ep := alice.epochs[e]
	chain := *ep.members[ep.slot]
	k := firstKey(chain.mail)
	fields, _ := textInner(w, "x").encode(PadBucket)
	f.Add(fields)
	f.Fuzz(func(t *testing.T, fields []byte) {
		p, _, err := ep.binding().sealMessage(k, position{uint16(ep.slot), 0}, alice.self.Key, []byte("h"), fields, PadOff)
		if err != nil {
			return
		}
		o, err := bob.Open(dayTag(ep.tag, 0), []byte("h"), p)
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
			t.Fatal(err)
		}
		if err == nil && len(o.Inner.Body) > MaxBody {
			t.Fatal("body over the limit")
		}
	})
}

func FuzzGapsRecord(f *testing.F) {
	w := newWorld(f)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	for range 5 {
		alice.send(e, "lost")
	}
	bob.receive(alice.send(e, "x"))
	for name, value := range bob.disk.records {
		if bytes.HasPrefix([]byte(name), []byte(gapsPrefix)) {
			f.Add(value)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		c := &chains{}
		if err := c.readRecord(value); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		d := newDisk()
		if err := c.putRecord(d); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecryptFile: any stream under any claim ends within the size claimed.
func FuzzDecryptFile(f *testing.F) {
	f.Add(packBody(words(1000)), uint32(1000), true)
	f.Add(words(1000), uint32(1000), false)
	f.Fuzz(func(t *testing.T, stream []byte, size uint32, packed bool) {
		var l leafStore
		s := FileSeal{Stream: uint64(len(stream)), Size: uint64(size), Packed: packed}
		c := &leafCutter{out: &l, key: fileLeafKey(s.Key)}
		c.Write(stream)
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		root, _ := c.tree.Finish()
		s.Blob = blob.Descriptor{Root: root, Length: c.tree.Length()}
		var out counter
		err := DecryptFile(s, &l, &out)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if uint64(out) > uint64(size)+1 || err == nil && uint64(out) != uint64(size) {
			t.Fatalf("%d bytes of %d", out, size)
		}
	})
}

func FuzzReplyRecord(f *testing.F) {
	f.Add("reply/00000000000000000000000000000000", make([]byte, 8+replySize))
	w := newWorld(f)
	self := w.node('a', 1).self
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		d := newDisk()
		d.records[replyPrefix+name] = value
		d.records[prekeysRecord] = value
		d.records[epochPrefix+name] = value
		if _, err := NewKeyring(d, d, self, w.clock); err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
			t.Fatal(err)
		}
	})
}
