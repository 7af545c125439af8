package stranger

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fxamacker/cbor/v2"
)

// Frame types (PROTOCOL.md 5).
const (
	tState   = 0x01
	tScopes  = 0x04
	tAsk     = 0x05
	tWant    = 0x06
	tPick    = 0x08
	tGone    = 0x09
	tAck     = 0x0a
	tDiffer  = 0x0f
	tCounted = 0x40
	tSymbols = 0x40
	tOffer   = 0x41
	tBundle  = 0x42
	tBegin   = 0x43
	tData    = 0x44
)

// A node is the second peer: what it holds, and a contact of it.
type node struct {
	*member
	dir  string // bundles in custody, one file each
	held map[uint64]bundle

	l         *link
	counted   uint64
	transfers uint64
	giving    map[uint64][]byte // transfer number to id
	accepted  map[string]byte   // id to code
	pieces    map[uint64]*bundle
	their     [16]byte // root told last
	got       map[int][]symbol
	theirSize map[int]uint64
	open      map[int]bool // scopes being decoded
}

func newNode(m *member, dir string) *node {
	return &node{member: m, dir: dir, held: map[uint64]bundle{}, accepted: map[string]byte{}}
}

func (n *node) short(id []byte) uint64 { return sipHash(n.salt, append(bytes.Clone(id), 0)) }

// keep makes a bundle durable; only then it counts as held.
func (n *node) keep(b bundle) error {
	f, err := os.Create(filepath.Join(n.dir, hex.EncodeToString(b.id())))
	if err != nil {
		return err
	}
	_, err = f.Write(join(part(b.hop), part(b.header), part(b.payload)))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(n.dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return err
	}
	n.held[n.short(b.id())] = b
	return nil
}

// set returns the short ids of a scope.
func (n *node) set(scope int) (shorts []uint64) {
	for short, b := range n.held {
		var h header
		if cbor.Unmarshal(b.header, &h) != nil {
			continue
		}
		if s, ok := h.scope(len(b.payload)); ok && s == scope {
			shorts = append(shorts, short)
		}
	}
	return shorts
}

func (n *node) prints() (p [scopes]print) {
	for i := range p {
		for _, short := range n.set(i) {
			p[i].count++
			p[i].sum += short
		}
	}
	return p
}

// contact speaks with a node over a link until done says that it was enough.
func (n *node) contact(l *link, done func() bool) error {
	n.l, n.counted, n.transfers = l, 0, 0
	n.giving, n.pieces = map[uint64][]byte{}, map[uint64]*bundle{}
	n.got, n.theirSize, n.open = map[int][]symbol{}, map[int]uint64{}, map[int]bool{}
	var epoch [8]byte
	rand.Read(epoch[:])
	state := join([]byte{tState, 1, 1}, part(nil), uvarint(0), uvarint(n.gen), epoch[:], uvarint(0),
		make([]byte, 8), uvarint(0), uvarint(0), root(n.prints()), uvarint(1<<20), uvarint(1))
	if err := l.send(state); err != nil {
		return err
	}
	for !done() {
		f, err := l.recv()
		if err != nil {
			return err
		}
		if f[0] >= tCounted {
			n.counted++
		}
		r := &reader{b: f[1:]}
		if err := errors.Join(n.take(f[0], r), r.err); err != nil {
			return fmt.Errorf("stranger: frame %#x: %w", f[0], err)
		}
	}
	return l.end()
}

func (n *node) take(kind byte, r *reader) error {
	switch kind {
	case tState:
		return n.state(r)
	case tScopes:
		return n.answerScopes(r)
	case tAsk:
		scope, from := int(r.byte()), r.uvarint()
		return n.stream(scope, from, r.uvarint())
	case tWant:
		r.bytes(2)
		return n.wanted(r)
	case tDiffer:
		mask := r.byte()
		for s := range scopes {
			n.open[s] = mask&(1<<s) != 0
		}
	case tSymbols:
		return n.symbols(r)
	case tOffer:
		return n.offer(r)
	case tBundle:
		num := r.uvarint()
		return n.arrived(num, bundle{r.part(), r.part(), r.part()}, r)
	case tBegin:
		num, b := r.uvarint(), &bundle{hop: r.part(), header: r.part()}
		r.bytes(32)
		return n.piece(num, b, r.uvarint(), r)
	case tData:
		num := r.uvarint()
		return n.piece(num, n.pieces[num], 0, r)
	case tAck:
		return n.acked(r)
	}
	return nil // what a peer need not know, it ignores
}

// state reads the peer's STATE. With cursors that know nothing, the sets are
// reconciled unless the roots are equal; who decodes, begins.
func (n *node) state(r *reader) error {
	low, high := r.byte(), r.byte()
	r.part()
	r.uvarint()
	if gen := r.uvarint(); low > 1 || high < 1 || gen != n.gen {
		return errors.New("no common version or generation")
	}
	r.u64()
	r.uvarint()
	r.u64()
	r.uvarint()
	r.uvarint()
	copy(n.their[:], r.bytes(16))
	if n.l.lead || bytes.Equal(n.their[:], root(n.prints())) {
		return nil
	}
	f := []byte{tScopes}
	for _, p := range n.prints() {
		f = append(f, join(uvarint(p.count), u64(p.sum))...)
	}
	return n.l.send(f)
}

// answerScopes is the streamer's beginning.
func (n *node) answerScopes(r *reader) error {
	var mask byte
	for i, ours := range n.prints() {
		if (print{r.uvarint(), r.u64()}) != ours {
			mask |= 1 << i
		}
	}
	if err := n.l.send([]byte{tDiffer, mask}); err != nil {
		return err
	}
	for s := range scopes {
		if mask&(1<<s) != 0 {
			if err := n.stream(s, 0, 16); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *node) stream(scope int, from, count uint64) error {
	set := n.set(scope)
	size := uint64(len(set))
	count = min(count, 64) // a short frame; the decoder asks for more
	f := join([]byte{tSymbols, byte(scope)}, uvarint(from), uvarint(size))
	for i, s := range symbols(set, from+count)[from:] {
		f = appendSymbol(f, s, from+uint64(i), size)
	}
	return n.l.send(f)
}

// symbols is the decoder's part: peel, or ask for more.
func (n *node) symbols(r *reader) error {
	scope, from := int(r.byte()), r.uvarint()
	n.theirSize[scope] = r.uvarint()
	if from != uint64(len(n.got[scope])) || !n.open[scope] {
		return errors.New("symbols out of order")
	}
	for len(r.b) > 0 && r.err == nil {
		n.got[scope] = append(n.got[scope], readSymbol(r, uint64(len(n.got[scope])), n.theirSize[scope]))
	}
	have := uint64(len(n.got[scope]))
	diff := bytesOf(n.got[scope])
	for i, s := range symbols(n.set(scope), have) {
		diff[i].shorts ^= s.shorts
		diff[i].checks ^= s.checks
		diff[i].number -= s.number
	}
	theirs, ours, done := peel(diff)
	if !done && have < 2048 {
		return n.l.send([]byte{tAsk, byte(scope)}, uvarint(have), uvarint(have/2))
	}
	if !done {
		return errors.New("the symbols do not decode")
	}
	n.open[scope] = false
	want := []byte{tWant, byte(scope), 1}
	for _, short := range theirs {
		want = append(want, u64(short)...)
	}
	if err := n.l.send(want); err != nil {
		return err
	}
	for _, short := range ours {
		if err := n.give(n.held[short]); err != nil {
			return err
		}
	}
	return nil
}

func bytesOf(s []symbol) []symbol { return append([]symbol(nil), s...) }

// wanted sends what the peer asks for.
func (n *node) wanted(r *reader) error {
	gone := []byte{tGone}
	for len(r.b) > 0 {
		short := r.u64()
		b, ok := n.held[short]
		if !ok {
			gone = append(gone, u64(short)...)
			continue
		}
		if err := n.give(b); err != nil {
			return err
		}
	}
	if len(gone) == 1 {
		return nil
	}
	return n.l.send(gone)
}

// give sends a bundle with its hop part written anew: one link further.
func (n *node) give(b bundle) error {
	n.transfers++
	n.giving[n.transfers] = b.id()
	hop := encode([]uint64{0, 1, 0})
	return n.l.send([]byte{tBundle}, uvarint(n.transfers), part(hop), part(b.header), part(b.payload))
}

// offer picks what is not here.
func (n *node) offer(r *reader) error {
	num, flags := r.uvarint(), r.byte()
	r.byte()
	r.uvarint()
	var bitmap []byte
	for k := 0; len(r.b) > 0; k++ {
		if k%8 == 0 {
			bitmap = append(bitmap, 0)
		}
		var short uint64
		if flags&1 != 0 {
			short = n.short(r.bytes(16))
		} else {
			short = r.u64()
		}
		if _, ok := n.held[short]; !ok {
			bitmap[k/8] |= 1 << (k % 8)
		}
	}
	return n.l.send([]byte{tPick}, uvarint(num), bitmap)
}

// piece takes part of a bundle; size is told by BEGIN only.
func (n *node) piece(num uint64, b *bundle, size uint64, r *reader) error {
	if b == nil {
		return errors.New("bytes of a transfer that did not begin")
	}
	offset := r.uvarint()
	if offset != uint64(len(b.payload)) {
		return errors.New("a gap in a transfer")
	}
	if n.pieces[num] == nil {
		n.pieces[num] = b
		b.payload = make([]byte, 0, min(size, 65_536))
	}
	b.payload = append(b.payload, r.b...)
	r.b = nil
	if len(b.payload) < cap(b.payload) {
		return nil
	}
	delete(n.pieces, num)
	return n.arrived(num, *b, r)
}

// arrived takes custody: durable first, then the acknowledgement.
func (n *node) arrived(num uint64, b bundle, r *reader) error {
	if r.err != nil {
		return r.err
	}
	code := byte(0)
	if _, ok := n.held[n.short(b.id())]; ok {
		code = 1
	} else if err := n.keep(b); err != nil {
		return err
	}
	return n.l.send([]byte{tAck}, uvarint(n.counted), uvarint(num), uvarint(1), []byte{code})
}

// acked notes what became of what we gave.
func (n *node) acked(r *reader) error {
	r.uvarint()
	next := uint64(0)
	for len(r.b) > 0 && r.err == nil {
		next += r.uvarint()
		length, code := r.uvarint(), r.byte()
		for ; length > 0; length, next = length-1, next+1 {
			if id, ok := n.giving[next]; ok {
				n.accepted[string(id)] = code
			}
		}
	}
	return r.err
}
