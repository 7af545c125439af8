package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// A tree is what is known of a vault's committed pages while it is unlocked:
// the keys of all pages, and where each secret lies, but no secret.
type tree struct {
	vault      [16]byte
	generation uint64
	root       child
	index      [fanout]child
	stale      map[uint32]bool // index pages to write anew, see loadTree
	leaves     []leafInfo      // by number; the parent of leaf n is index page n/fanout
	where      map[[16]byte]spot
	roomy      map[uint32]map[uint32]bool // by hour: leaves with free slots
	free       []uint32                   // pages of the file not in the tree
	pages      uint32                     // in the file
}

type leafInfo struct {
	child
	hour uint32
	used int
}

// A spot is where a secret lies.
type spot struct {
	leaf uint32
	slot uint8
}

func newTree() *tree {
	return &tree{
		stale: make(map[uint32]bool), where: make(map[[16]byte]spot), roomy: make(map[uint32]map[uint32]bool),
	}
}

// setLeaf enters what leaf n is now, in place of what it was.
func (t *tree) setLeaf(n uint32, info leafInfo) {
	for uint32(len(t.leaves)) <= n {
		t.leaves = append(t.leaves, leafInfo{})
	}
	was := t.leaves[n]
	delete(t.roomy[was.hour], n)
	if len(t.roomy[was.hour]) == 0 {
		delete(t.roomy, was.hour)
	}
	t.leaves[n] = info
	if info.page != 0 && info.used < leafSlots {
		if t.roomy[info.hour] == nil {
			t.roomy[info.hour] = make(map[uint32]bool)
		}
		t.roomy[info.hour][n] = true
	}
}

// wipe overwrites the keys.
func (t *tree) wipe() {
	if t == nil {
		return
	}
	clear(t.root.key[:])
	clear(t.index[:])
	clear(t.leaves)
	clear(t.where)
}

func (v *Vault) readPage(t *tree, c child, kind pageKind) ([]byte, error) {
	sealed := make([]byte, pageSize)
	if _, err := v.pages.ReadAt(sealed, int64(c.page-1)*pageSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read page %d: %w", c.page, err)
	}
	plain, err := openPage(c.key, t.vault, kind, sealed)
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", c.page, err)
	}
	return plain, nil
}

func (v *Vault) readLeaf(t *tree, n uint32) (*leaf, error) {
	plain, err := v.readPage(t, t.leaves[n].child, kindLeaf)
	if err != nil {
		return nil, err
	}
	l, err := parseLeaf(plain)
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", t.leaves[n].page, err)
	}
	return l, nil
}

// loadTree reads all pages below an anchor. Damaged ones below the root are
// left out if salvage is set.
func (v *Vault) loadTree(a anchor, salvage bool) (*tree, error) {
	t := newTree()
	t.vault, t.generation, t.root = a.vault, a.generation, a.root
	plain, err := v.readPage(t, a.root, kindRoot)
	if err != nil {
		return nil, fmt.Errorf("%w: nothing can be read without it: restore the folder from a backup", err)
	}
	index, err := parseChildren(kindRoot, plain)
	if err != nil {
		return nil, err
	}
	t.index = *index
	for i := range t.index {
		if t.index[i].page == 0 {
			continue
		}
		if err := v.loadIndex(t, uint32(i), salvage); err != nil {
			return nil, err
		}
	}
	return t, v.findFree(t)
}

func (v *Vault) loadIndex(t *tree, i uint32, salvage bool) error {
	plain, err := v.readPage(t, t.index[i], kindIndex)
	var leaves *[fanout]child
	if err == nil {
		leaves, err = parseChildren(kindIndex, plain)
	}
	if err != nil {
		t.index[i], t.stale[i] = child{}, true
		return v.damaged(err, fanout*leafSlots, salvage)
	}
	for j, c := range leaves {
		if c.page == 0 {
			continue
		}
		n := i*fanout + uint32(j)
		if err := v.loadLeaf(t, n, c); err != nil {
			t.stale[i] = true
			t.setLeaf(n, leafInfo{})
			if err := v.damaged(err, leafSlots, salvage); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Vault) loadLeaf(t *tree, n uint32, c child) error {
	t.setLeaf(n, leafInfo{child: c})
	l, err := v.readLeaf(t, n)
	if err != nil {
		return err
	}
	for s := range l.slots {
		if !l.slots[s].used {
			continue
		}
		if _, twice := t.where[l.slots[s].id]; twice {
			return fmt.Errorf("page %d: a secret that is elsewhere too: %w", c.page, ErrCorrupt)
		}
		t.where[l.slots[s].id] = spot{n, uint8(s)}
	}
	t.setLeaf(n, leafInfo{child: c, hour: l.hour, used: l.count()})
	return nil
}

// damaged decides what a damaged page means.
func (v *Vault) damaged(err error, atMost int, salvage bool) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	if !salvage {
		return fmt.Errorf("%w: restore the folder from a backup made while the vault was closed, or open it with salvage, without the at most %d secrets in that page", err, atMost)
	}
	v.log.Error("store: vault: left out a damaged page", "err", err)
	return nil
}

// findFree finds the pages of the file that are not in the tree.
func (v *Vault) findFree(t *tree) error {
	size, err := v.pages.Size()
	if err != nil {
		return err
	}
	t.pages = uint32(size / pageSize)
	taken := make([]bool, t.pages+1)
	take := func(c child) error {
		switch {
		case c.page == 0:
			return nil
		case c.page > t.pages || taken[c.page]:
			return fmt.Errorf("page %d is out of the file or used twice: %w", c.page, ErrCorrupt)
		}
		taken[c.page] = true
		return nil
	}
	err = take(t.root)
	for _, c := range t.index {
		err = errors.Join(err, take(c))
	}
	for _, l := range t.leaves {
		err = errors.Join(err, take(l.child))
	}
	for page := t.pages; page > 0; page-- {
		if !taken[page] {
			t.free = append(t.free, page)
		}
	}
	return err
}

// A plan gathers changes to a tree without touching it.
type plan struct {
	v     *Vault
	t     *tree
	dirty map[uint32]*leaf   // leaves as they will be
	where map[[16]byte]*spot // secrets that move; nil for shredded ones
	hint  map[uint32]uint32  // by hour: the leaf last put into
	next  uint32             // where to look for a leaf number not in use
	rekey *[32]byte
	gone  bool // something becomes unreadable
}

func newPlan(v *Vault) *plan {
	return &plan{
		v: v, t: v.tree, dirty: make(map[uint32]*leaf), where: make(map[[16]byte]*spot), hint: make(map[uint32]uint32),
	}
}

func (p *plan) find(id [16]byte) (spot, bool) {
	if s, ok := p.where[id]; ok {
		if s == nil {
			return spot{}, false
		}
		return *s, true
	}
	s, ok := p.t.where[id]
	return s, ok
}

// image returns leaf n as it will be.
func (p *plan) image(n uint32) (*leaf, error) {
	if l, ok := p.dirty[n]; ok {
		return l, nil
	}
	l, err := p.v.readLeaf(p.t, n)
	if err != nil {
		return nil, fmt.Errorf("store: vault: commit: %w", err)
	}
	p.dirty[n] = l
	return l, nil
}

func (p *plan) apply(id [16]byte, c change) error {
	if at, ok := p.find(id); ok {
		l, err := p.image(at.leaf)
		if err != nil {
			return err
		}
		p.gone = true
		if !c.shred && l.hour == c.hour {
			l.slots[at.slot].value = c.value
			return nil
		}
		l.slots[at.slot] = slot{}
		p.where[id] = nil
	}
	if c.shred {
		return nil
	}
	return p.insert(id, c)
}

func (p *plan) insert(id [16]byte, c change) error {
	n, l, err := p.leafFor(c.hour)
	if err != nil {
		return err
	}
	for s := range l.slots {
		if !l.slots[s].used {
			l.slots[s] = slot{used: true, id: id, value: c.value}
			p.where[id] = &spot{n, uint8(s)}
			p.hint[c.hour] = n
			return nil
		}
	}
	panic("store: vault: leaf without room was chosen")
}

// leafFor returns a leaf of the hour with a free slot: the one last used, one
// that must be written anyway, another one, or a new one.
func (p *plan) leafFor(hour uint32) (uint32, *leaf, error) {
	if n, ok := p.hint[hour]; ok && p.dirty[n].count() < leafSlots {
		return n, p.dirty[n], nil
	}
	for n, l := range p.dirty {
		if l.hour == hour && l.count() < leafSlots {
			return n, l, nil
		}
	}
	for n := range p.t.roomy[hour] {
		if p.dirty[n] == nil {
			l, err := p.image(n)
			return n, l, err
		}
	}
	for ; p.next < maxLeaves; p.next++ {
		used := p.next < uint32(len(p.t.leaves)) && p.t.leaves[p.next].page != 0
		if !used && p.dirty[p.next] == nil {
			l := &leaf{hour: hour}
			p.dirty[p.next] = l
			return p.next, l, nil
		}
	}
	return 0, nil, fmt.Errorf("store: vault: %d secrets: %w", len(p.t.where), ErrFull)
}

// commitSessions is run by one goroutine at a time. If the changes of all
// together cannot be made, each is tried alone, so that none suffers from
// another.
func (v *Vault) commitSessions(sessions []*Session) []error {
	v.commits.Lock()
	defer v.commits.Unlock()
	errs := make([]error, len(sessions))
	if v.commitTogether(sessions) == nil {
		return errs
	}
	for i, s := range sessions {
		errs[i] = v.commitTogether([]*Session{s})
	}
	return errs
}

func (v *Vault) commitTogether(sessions []*Session) (err error) {
	if err := v.usable(); err != nil {
		return err
	}
	p := newPlan(v)
	for _, s := range sessions {
		if s.flies() {
			continue // twice in this batch
		}
		changes := s.take()
		defer func() { s.land(err != nil) }()
		if s.rekey != nil {
			p.rekey = s.rekey
		}
		if err := p.applyAll(changes); err != nil {
			return err
		}
	}
	return v.commit(p)
}

func (p *plan) applyAll(changes map[[16]byte]change) error {
	ids := slices.SortedFunc(maps.Keys(changes), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids { // removals first: they make room
		if changes[id].shred {
			if err := p.apply(id, changes[id]); err != nil {
				return err
			}
		}
	}
	for _, id := range ids {
		if !changes[id].shred {
			if err := p.apply(id, changes[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// commit writes the pages a plan changes and those above them, each under a
// new key at a page not in use, then the anchor, and then forgets the old
// state: on disk by overwriting the old anchor, in memory by taking over the
// new one.
func (v *Vault) commit(p *plan) error {
	if len(p.dirty) == 0 && p.rekey == nil && p.t.root.page != 0 && len(p.t.stale) == 0 {
		return nil
	}
	w := newWriting(v, p)
	if err := w.writePages(); err != nil {
		return fmt.Errorf("store: vault: commit: %w", translate(err))
	}
	kek := v.kek
	if p.rekey != nil {
		kek, p.gone = *p.rekey, true
	}
	a := anchor{generation: p.t.generation + 1, vault: p.t.vault, root: w.root}
	if err := writeAnchor(v.anchor, 1-v.slot, a, kek); err != nil {
		return v.breakDown(err)
	}
	syncs := uint64(2)
	var err error
	if p.gone {
		syncs++
		err = eraseAnchor(v.anchor, v.slot)
	}
	v.mu.Lock()
	v.slot, v.kek = 1-v.slot, kek
	w.takeOver(a)
	v.syncs += syncs
	v.mu.Unlock()
	if err != nil {
		return v.breakDown(err)
	}
	return nil
}

// breakDown refuses all later changes: it is not known which anchor the disk
// holds, or that the old one is gone.
func (v *Vault) breakDown(cause error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.broken = fmt.Errorf("store: vault: commit: %w: %w", translate(cause), ErrBroken)
	return v.broken
}

// A writing is a commit under way.
type writing struct {
	v      *Vault
	p      *plan
	free   []uint32 // not yet taken
	pages  uint32
	leaves map[uint32]child // new places of dirty leaves
	index  map[uint32]child // new places of index pages
	root   child
	err    error
}

func newWriting(v *Vault, p *plan) *writing {
	return &writing{v: v, p: p, free: p.t.free, pages: p.t.pages, leaves: make(map[uint32]child), index: make(map[uint32]child)}
}

// write puts a page where none is in use, under a new key.
func (w *writing) write(kind pageKind, plain []byte) (c child) {
	if w.err != nil {
		return c
	}
	if n := len(w.free); n > 0 {
		c.page, w.free = w.free[n-1], w.free[:n-1]
	} else {
		w.pages++
		c.page = w.pages
	}
	c.key = w.v.newKey()
	_, w.err = w.v.pages.WriteAt(sealPage(c.key, w.p.t.vault, kind, plain), int64(c.page-1)*pageSize)
	return c
}

func (w *writing) writePages() error {
	t := w.p.t
	parents := maps.Clone(t.stale)
	if parents == nil {
		parents = make(map[uint32]bool)
	}
	for _, n := range slices.Sorted(maps.Keys(w.p.dirty)) {
		l := w.p.dirty[n]
		parents[n/fanout] = true
		if l.count() == 0 {
			w.leaves[n] = child{}
			continue
		}
		w.leaves[n] = w.write(kindLeaf, l.encode())
	}
	for _, i := range slices.Sorted(maps.Keys(parents)) {
		w.index[i] = w.writeIndex(i)
	}
	index := t.index
	for i, c := range w.index {
		index[i] = c
	}
	w.root = w.write(kindRoot, encodeChildren(kindRoot, &index))
	if w.err != nil {
		return w.err
	}
	return w.v.pages.Sync()
}

func (w *writing) writeIndex(i uint32) child {
	var children [fanout]child
	some := false
	for j := range children {
		n := i*fanout + uint32(j)
		c, changed := w.leaves[n]
		if !changed && n < uint32(len(w.p.t.leaves)) {
			c = w.p.t.leaves[n].child
		}
		children[j] = c
		some = some || c.page != 0
	}
	if !some {
		return child{}
	}
	return w.write(kindIndex, encodeChildren(kindIndex, &children))
}

// takeOver makes the tree what was written. Pages that are no longer in it may
// be used by the next commit: the anchor that led to them does not count now.
func (w *writing) takeOver(a anchor) {
	t, p := w.p.t, w.p
	t.free, t.pages = w.free, w.pages
	drop := func(c child) {
		if c.page != 0 {
			t.free = append(t.free, c.page)
		}
	}
	drop(t.root)
	t.root, t.generation = w.root, a.generation
	for i, c := range w.index {
		drop(t.index[i])
		t.index[i] = c
	}
	clear(t.stale)
	for n, c := range w.leaves {
		if n < uint32(len(t.leaves)) {
			drop(t.leaves[n].child)
		}
		l := p.dirty[n]
		t.setLeaf(n, leafInfo{child: c, hour: l.hour, used: l.count()})
	}
	for id, s := range p.where {
		if s == nil {
			delete(t.where, id)
		} else {
			t.where[id] = *s
		}
	}
}
