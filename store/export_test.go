package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/store/internal/kv"
)

// WithoutSync returns o so that nothing is synced, for the negative controls
// of the tests of durability.
func WithoutSync(o Options) Options {
	o.noSync = true
	return o
}

// ReuseVaultKeys makes a vault write every page under one key, for the
// negative control of the test of shredding.
func ReuseVaultKeys(v *Vault) {
	v.newKey = func() [32]byte { return [32]byte{0xbe, 0xef} }
}

// Anchors is the number of slots of an anchor file that hold an anchor.
func Anchors(file []byte, kek [32]byte) (n int) {
	for _, a := range anchors(file, kek) {
		if a.root.page != 0 {
			n++
		}
	}
	return n
}

func anchors(file []byte, kek [32]byte) (out [2]anchor) {
	for i := range out {
		if a, err := openAnchor(file[i*anchorStride:][:anchorSlot], kek); err == nil {
			out[i] = a
		}
	}
	return out
}

// AttackVault returns every value that can be read by trying every key that
// can be found on every page that was ever written, beginning with the newest
// anchor in the file.
func AttackVault(file []byte, kek [32]byte, pages [][]byte) map[string]bool {
	a := anchors(file, kek)
	best := a[0]
	if a[1].generation > best.generation {
		best = a[1]
	}
	values := make(map[string]bool)
	tried := make(map[[32]byte]bool)
	queue := [][32]byte{best.root.key}
	for len(queue) > 0 {
		key := queue[0]
		queue = queue[1:]
		if tried[key] {
			continue
		}
		tried[key] = true
		for _, page := range pages {
			queue = append(queue, attackPage(key, best.vault, page, values)...)
		}
	}
	return values
}

// attackPage tries one key on one page and returns the keys it finds there.
func attackPage(key [32]byte, vault [16]byte, page []byte, values map[string]bool) (keys [][32]byte) {
	for _, kind := range []pageKind{kindRoot, kindIndex} {
		plain, err := openPage(key, vault, kind, page)
		if err != nil {
			continue
		}
		if children, err := parseChildren(kind, plain); err == nil {
			for _, c := range children {
				if c.page != 0 {
					keys = append(keys, c.key)
				}
			}
		}
	}
	if plain, err := openPage(key, vault, kindLeaf, page); err == nil {
		if l, err := parseLeaf(plain); err == nil {
			for _, s := range l.slots {
				if s.used {
					values[string(s.value)] = true
				}
			}
		}
	}
	return keys
}

// OpenBlobs opens blobs without the rest of a store.
func OpenBlobs(dir string, o Options) (*Blobs, error) {
	o = o.withDefaults()
	return openBlobs(o.FS, dir, o)
}

// CloseBlobs closes what OpenBlobs opened.
func CloseBlobs(b *Blobs) error { return b.close() }

// OpenBlobFiles is the number of blobs whose files are open.
func OpenBlobFiles(b *Blobs) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, info := range b.known {
		if info.file != nil {
			n++
		}
	}
	return n
}

// SetFormat writes another format version into a closed store.
func SetFormat(dir string, version byte) error {
	db, err := kv.Open(filepath.Join(dir, "index"), kv.Options{})
	if err != nil {
		return err
	}
	var b kv.Batch
	b.Set(keyVersion, []byte{version})
	return errors.Join(db.Write(&b), db.Close())
}

// For the fuzz tests: encoders, and decoders followed by their encoders.

func EncodeRecord(r Record) []byte { return r.encode() }
func EncodePurge(p Purge) []byte   { return p.encode() }

func RecodeRecord(raw []byte) ([]byte, error) {
	r, err := parseRecord(bundle.ID{}, raw)
	return r.encode(), err
}

func RecodePurge(raw []byte) ([]byte, error) {
	// The key says which bundle it is of; here the record does.
	var id bundle.ID
	c := cutter{rest: raw}
	c.byte()
	parseMeta(&c)
	if r, err := bundle.ParsePurgeRecord(c.rest); err == nil {
		id = r.ID()
	}
	p, err := parsePurge(id, raw)
	if err != nil {
		return nil, err
	}
	return p.encode(), nil
}

func RecodeCounters(raw []byte) ([]byte, error) {
	c, err := parseCounters(raw)
	return c.encode(), err
}

func RecodeSegmentState(raw []byte) ([]byte, error) {
	s, err := parseSegmentState(raw)
	return s.encode(), err
}

func RecodeWhere(raw []byte) ([]byte, error) {
	conv, order, err := parseWhere(raw)
	return encodeWhere(conv, order), err
}

func RecodePage(raw []byte) ([]byte, error) {
	l, err := parseLeaf(raw)
	if err == nil {
		return l.encode(), nil
	}
	for _, kind := range []pageKind{kindIndex, kindRoot} {
		var children *[fanout]child
		if children, err = parseChildren(kind, raw); err == nil {
			return encodeChildren(kind, children), nil
		}
	}
	return nil, err
}

func SamplePages() [][]byte {
	l := leaf{hour: 7}
	l.slots[3] = slot{used: true, id: [16]byte{1}, value: []byte("v")}
	l.slots[leafSlots-1] = slot{used: true, value: make([]byte, MaxSecret)}
	var children [fanout]child
	children[0], children[fanout-1] = child{page: 1, key: [32]byte{2}}, child{page: 9}
	return [][]byte{l.encode(), encodeChildren(kindIndex, &children), encodeChildren(kindRoot, &children)}
}

func SampleAnchor(kek [32]byte) []byte {
	return anchor{generation: 3, vault: [16]byte{4}, root: child{page: 1, key: [32]byte{5}}}.seal(kek)
}

func OpenSomeAnchor(raw []byte, kek [32]byte) error {
	_, err := openAnchor(raw, kek)
	if err != nil && !errors.Is(err, errNoAnchor) && !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrCorrupt) {
		panic(err)
	}
	return err
}

// SampleProofs is a proof file.
func SampleProofs(d blob.Descriptor, h blob.Hashes) []byte {
	file := make([]byte, (groupSector(d.Geometry(), d.Geometry().Groups()))*sectorSize)
	copy(file, encodeDescriptor(d))
	have := blob.NewBitmap(d.Geometry().Leaves())
	have.Set(3)
	at, raw := bitmapSector(have, 3)
	copy(file[at*sectorSize:], raw)
	for g := range d.Geometry().Groups() {
		at, raw, err := encodeProof(d.Geometry(), g, blob.Proof(h, g))
		if err != nil {
			panic(err)
		}
		copy(file[at*sectorSize:], raw)
	}
	return file
}

// CorrectChecks makes the checks of a proof file right, as far as it goes.
func CorrectChecks(raw []byte) {
	correct := func(sector int64, n int) {
		if end := int(sector)*sectorSize + n*sectorSize; end <= len(raw) {
			at := end - checkSize
			copy(raw[at:], check(sector, raw[int(sector)*sectorSize:at]))
		}
	}
	correct(0, 1)
	d, err := readDescriptor(bytes.NewReader(raw))
	if err != nil {
		return
	}
	for s := range bitmapSectors(d.Geometry()) {
		correct(1+s, 1)
	}
	for g := range min(d.Geometry().Groups(), 100) {
		correct(groupSector(d.Geometry(), g), groupSectors)
	}
}

// ReadProofs reads a proof file in whole, as far as it can be, and returns an
// error that should not be.
func ReadProofs(raw []byte) error {
	r := bytes.NewReader(raw)
	d, err := readDescriptor(r)
	if err != nil {
		return allowed(err)
	}
	have, err := readBitmap(r, d.Geometry())
	if err != nil {
		return allowed(err)
	}
	if have.Len() != d.Geometry().Leaves() {
		return fmt.Errorf("bitmap of %d leaves", have.Len())
	}
	for g := range min(d.Geometry().Groups(), 100) {
		p, err := readProof(r, d, g)
		if err == nil {
			err = p.Verify(d.Root, d.Length, g)
		}
		if err != nil && allowed(err) != nil {
			return err
		}
	}
	return nil
}

func allowed(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
