package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"outrider/mesh/blob"
	"outrider/store/internal/vfs"
)

// The proof file of a blob, in sectors of 512 bytes:
//
//	1 sector    magic "ORblob01", root 32, length 8; check 8 at the end
//	n sectors   bitmap of the leaves that are durable: 504 bytes of bits, lowest first; check 8
//	3 sectors for each group: length of the proof 2, proof (blob.GroupProof); check 8 at the end
//
// A check is the first 8 bytes of SHA-256(sector number, 8 bytes || what is
// before it). A sector or group of zeros is empty; one whose check is wrong
// was torn by a crash or has rotted, and counts as empty: its leaves are
// fetched again. Because leaves and proofs are synced before the bits that
// claim them are written, no crash leaves a claim without its leaf.
const (
	sectorSize   = 512
	checkSize    = 8
	sectorBits   = (sectorSize - checkSize) * 8
	groupSectors = 3
	blobMagic    = "ORblob01"
)

// flushLeaves is how many leaves may wait to be synced.
const flushLeaves = 256

// A blobFile is one open blob: its leaves and its proofs.
type blobFile struct {
	desc blob.Descriptor
	uses int // guarded by Blobs.mu

	mu      sync.Mutex // guards the rest
	data    vfs.File
	proofs  vfs.File
	have    *blob.Bitmap // durable, as the proof file says
	pending []int        // leaves written since
	waiting map[int]bool // the same as a set
	unsynd  bool         // proofs were written since
	group   int          // whose proof is in proof; -1 is none
	proof   blob.GroupProof
}

func check(sector int64, content []byte) []byte {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(sector)))
	h.Write(content)
	return h.Sum(nil)[:checkSize]
}

// seal lays content into a run of n sectors that begins at sector, and appends
// its check.
func seal(sector int64, n int, content []byte) []byte {
	buf := make([]byte, n*sectorSize)
	copy(buf, content)
	at := len(buf) - checkSize
	copy(buf[at:], check(sector, buf[:at]))
	return buf
}

// readSealed reads what seal made; ok is false if it is empty or damaged.
func readSealed(r io.ReaderAt, sector int64, n int) (content []byte, ok bool, err error) {
	buf := make([]byte, n*sectorSize)
	if _, err := r.ReadAt(buf, sector*sectorSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	content, sum := buf[:len(buf)-checkSize], buf[len(buf)-checkSize:]
	return content, bytes.Equal(sum, check(sector, content)), nil
}

func encodeDescriptor(d blob.Descriptor) []byte {
	b := append([]byte(blobMagic), d.Root[:]...)
	return seal(0, 1, binary.BigEndian.AppendUint64(b, d.Length))
}

func readDescriptor(r io.ReaderAt) (d blob.Descriptor, err error) {
	content, ok, err := readSealed(r, 0, 1)
	if err != nil {
		return d, err
	}
	c := cutter{rest: content}
	magic := string(c.take(len(blobMagic)))
	c.copy(d.Root[:])
	d.Length = c.uint64()
	if !ok || magic != blobMagic || d.Check() != nil {
		return blob.Descriptor{}, fmt.Errorf("store: blob: head of the proof file: %w", ErrCorrupt)
	}
	return d, nil
}

func bitmapSectors(g blob.Geometry) int64 { return int64((g.Leaves() + sectorBits - 1) / sectorBits) }

func groupSector(g blob.Geometry, group int) int64 {
	return 1 + bitmapSectors(g) + int64(group)*groupSectors
}

// readBitmap reads which leaves are durable.
func readBitmap(r io.ReaderAt, g blob.Geometry) (*blob.Bitmap, error) {
	have := blob.NewBitmap(g.Leaves())
	for s := range bitmapSectors(g) {
		bits, ok, err := readSealed(r, 1+s, 1)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		first := int(s) * sectorBits
		for i := first; i < min(first+sectorBits, have.Len()); i++ {
			if bits[(i-first)/8]>>((i-first)%8)&1 == 1 {
				have.Set(i)
			}
		}
	}
	return have, nil
}

// bitmapSector encodes the sector that holds leaf i.
func bitmapSector(have *blob.Bitmap, i int) (sector int64, raw []byte) {
	first := i / sectorBits * sectorBits
	bits := make([]byte, sectorBits/8)
	for j := have.Next(first); j < min(first+sectorBits, have.Len()); j = have.Next(j + 1) {
		bits[(j-first)/8] |= 1 << ((j - first) % 8)
	}
	sector = 1 + int64(i/sectorBits)
	return sector, seal(sector, 1, bits)
}

func encodeProof(g blob.Geometry, group int, p blob.GroupProof) (sector int64, raw []byte, err error) {
	b, err := p.MarshalBinary()
	if err != nil {
		return 0, nil, err
	}
	sector = groupSector(g, group)
	return sector, seal(sector, groupSectors, append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)), nil
}

func readProof(r io.ReaderAt, d blob.Descriptor, group int) (blob.GroupProof, error) {
	content, ok, err := readSealed(r, groupSector(d.Geometry(), group), groupSectors)
	if err != nil {
		return blob.GroupProof{}, err
	}
	c := cutter{rest: content}
	raw := c.take(int(c.uint16()))
	if !ok || len(raw) == 0 {
		return blob.GroupProof{}, fmt.Errorf("store: blob: proof of group %d: %w", group, ErrNotFound)
	}
	p, err := blob.ParseProof(raw)
	if err != nil || p.Verify(d.Root, d.Length, group) != nil {
		return blob.GroupProof{}, fmt.Errorf("store: blob: proof of group %d: %w", group, ErrCorrupt)
	}
	return p, nil
}

// openBlobFile opens the two files of a blob.
func openBlobFile(fsys vfs.FS, data, proofs string) (*blobFile, error) {
	f := &blobFile{group: -1, waiting: make(map[int]bool)}
	var err error
	if f.proofs, err = fsys.Open(proofs); err != nil {
		return nil, err
	}
	if f.data, err = fsys.Open(data); err != nil {
		f.proofs.Close()
		return nil, err
	}
	if f.desc, err = readDescriptor(f.proofs); err == nil {
		f.have, err = readBitmap(f.proofs, f.desc.Geometry())
	}
	if err != nil {
		return nil, errors.Join(err, f.data.Close(), f.proofs.Close())
	}
	return f, nil
}

// groupProof returns the proof of a group, of which one is remembered.
func (f *blobFile) groupProof(group int) (blob.GroupProof, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.group == group {
		return f.proof, nil
	}
	p, err := readProof(f.proofs, f.desc, group)
	if err == nil {
		f.group, f.proof = group, p
	}
	return p, err
}

func (f *blobFile) putProof(group int, p blob.GroupProof) error {
	sector, raw, err := encodeProof(f.desc.Geometry(), group, p)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.proofs.WriteAt(raw, sector*sectorSize); err != nil {
		return err
	}
	f.unsynd, f.group, f.proof = true, group, p
	return nil
}

func (f *blobFile) has(i int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have.Has(i) || f.waiting[i]
}

// putLeaf writes a verified leaf and reports whether it is new.
func (f *blobFile) putLeaf(i int, leaf []byte) (fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.have.Has(i) || f.waiting[i] {
		return false, nil
	}
	if _, err := f.data.WriteAt(leaf, f.desc.Geometry().Offset(i)); err != nil {
		return false, err
	}
	f.pending = append(f.pending, i)
	f.waiting[i] = true
	return true, nil
}

// full reports whether enough leaves wait to be synced.
func (f *blobFile) full() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending) >= flushLeaves
}

// flush makes durable what waits, and only then claims it. The number of bytes
// returned is of leaves that had to be given up because of an error.
func (f *blobFile) flush() (lost uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == 0 && !f.unsynd {
		return 0, nil
	}
	pending := f.pending
	f.pending = nil
	clear(f.waiting)
	if err := f.claim(pending); err != nil {
		for _, i := range pending {
			lost += uint64(f.desc.Geometry().LeafLen(i))
		}
		return lost, err
	}
	return 0, nil
}

func (f *blobFile) claim(leaves []int) error {
	if len(leaves) > 0 {
		if err := f.data.Sync(); err != nil {
			return err
		}
	}
	if f.unsynd {
		if err := f.proofs.Sync(); err != nil {
			return err
		}
		f.unsynd = false
	}
	if len(leaves) == 0 {
		return nil
	}
	next := blob.NewBitmap(f.have.Len())
	for i := f.have.Next(0); i < f.have.Len(); i = f.have.Next(i + 1) {
		next.Set(i)
	}
	for _, i := range leaves {
		next.Set(i)
	}
	if err := f.writeBitmap(next, leaves); err != nil {
		return err
	}
	f.have = next
	return nil
}

// writeBitmap writes and syncs the sectors of a bitmap that hold the leaves.
func (f *blobFile) writeBitmap(have *blob.Bitmap, leaves []int) error {
	done := make(map[int]bool)
	for _, i := range leaves {
		if done[i/sectorBits] {
			continue
		}
		done[i/sectorBits] = true
		sector, raw := bitmapSector(have, i)
		if _, err := f.proofs.WriteAt(raw, sector*sectorSize); err != nil {
			return err
		}
	}
	return f.proofs.Sync()
}

// bitmap returns a copy of what is durable.
func (f *blobFile) bitmap() *blob.Bitmap {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := blob.NewBitmap(f.have.Len())
	for i := f.have.Next(0); i < f.have.Len(); i = f.have.Next(i + 1) {
		out.Set(i)
	}
	return out
}

// disown takes back the claim of a leaf that turned out to be damaged and
// reports whether there was one.
func (f *blobFile) disown(i int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.have.Has(i) {
		return false
	}
	f.have.Clear(i)
	// If this write fails, the next reader finds the damage once more.
	_ = f.writeBitmap(f.have, []int{i})
	return true
}

func (f *blobFile) close() error { return errors.Join(f.data.Close(), f.proofs.Close()) }

// heldBytes is the length of the leaves in a bitmap.
func heldBytes(g blob.Geometry, have *blob.Bitmap) uint64 {
	n := uint64(have.Count()) * blob.LeafSize
	if last := have.Len() - 1; have.Has(last) {
		n -= uint64(blob.LeafSize - g.LeafLen(last))
	}
	return n
}
