package mesh

import (
	"cmp"
	"slices"

	"outrider/mesh/blob"
	"outrider/mesh/cla"
)

// A blobLink is what a link is used for besides bundles.
type blobLink struct {
	have   map[blob.Root]*blob.Bitmap // leaves the neighbour told to have
	subs   map[blob.Root]bool         // roots it wants to hear about
	stale  map[blob.Root]bool         // of these, with news
	toldAt Time
	pulls  []*pull
	serves []*serve
	nextID uint64
}

// A pull is a run of leaves of one group that a neighbour was asked for.
type pull struct {
	id    uint64
	root  blob.Root
	group int
	next  int
	end   int
}

// A serve is a run that a neighbour asked for.
type serve struct {
	id     uint64
	root   blob.Root
	leaf   int
	end    int
	offset int
	proof  bool
}

func newBlobLink() blobLink {
	return blobLink{have: map[blob.Root]*blob.Bitmap{}, subs: map[blob.Root]bool{}, stale: map[blob.Root]bool{}}
}

func (b *blobLink) forget(root blob.Root) {
	delete(b.have, root)
	delete(b.stale, root)
	b.pulls = slices.DeleteFunc(b.pulls, func(p *pull) bool { return p.root == root })
	b.serves = slices.DeleteFunc(b.serves, func(s *serve) bool { return s.root == root })
}

func (b *blobLink) dropPulls(root blob.Root, group int) {
	b.pulls = slices.DeleteFunc(b.pulls, func(p *pull) bool { return p.root == root && p.group == group })
}

func (b *blobLink) pull(id uint64) *pull {
	for _, p := range b.pulls {
		if p.id == id {
			return p
		}
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// blobUp asks a new neighbour what it has of the blobs that are not complete.
func (m *Machine) blobUp(l *link) {
	var f blobAskFrame
	for _, st := range m.blobs.order {
		if st.have == nil || st.have.Full() {
			continue
		}
		if f.Roots = append(f.Roots, st.desc.Root); len(f.Roots) == maxRoots {
			m.send(l, f)
			f.Roots = nil
		}
	}
	if len(f.Roots) > 0 {
		m.send(l, f)
	}
}

func (m *Machine) askBlob(l *link, st *blobState) {
	if !st.have.Full() {
		m.send(l, blobAskFrame{[]blob.Root{st.desc.Root}})
	}
}

func (m *Machine) receivedBlobs(l *link, in Received) bool {
	switch f := in.Frame.(type) {
	case blobAskFrame:
		m.receivedBlobAsk(l, f)
	case blobHaveFrame:
		m.receivedBlobHave(l, f)
	case blobWantFrame:
		m.receivedBlobWant(l, f)
	case blobEndFrame:
		m.receivedBlobEnd(l, f)
	case proofFrame:
		m.receivedProof(l, f, in.Token)
	case leafFrame:
		m.receivedLeaf(l, f, in.Token)
	default:
		return false
	}
	return true
}

// receivedBlobAsk answers now if the blob is here, and later when it comes.
func (m *Machine) receivedBlobAsk(l *link, f blobAskFrame) {
	for _, root := range f.Roots {
		if !l.blob.subs[root] && len(l.blob.subs) >= maxSubs {
			return
		}
		l.blob.subs[root] = true
		if st := m.blobs.byRoot[root]; st != nil && st.have != nil && st.have.Count() > 0 {
			m.tellBlob(l, st)
		}
	}
}

func (m *Machine) receivedBlobHave(l *link, f blobHaveFrame) {
	st := m.blobs.byRoot[f.Root]
	if st == nil {
		return // not carried here, or no longer
	}
	if st.desc.Length != f.Length {
		m.contradicted(st, f.Length)
		return
	}
	b := l.blob.have[f.Root]
	if b == nil {
		b = blob.NewBitmap(st.desc.Geometry().Leaves())
		l.blob.have[f.Root] = b
	}
	if _, _, err := b.Merge(f.Stretch); err != nil {
		m.blame(l, DropMalformed)
		return
	}
	l.dirty = true
}

// pullBlobs asks for leaves as long as runs may be begun on the link.
func (m *Machine) pullBlobs(l *link) {
	limit := 1
	if l.info.Class == cla.LAN {
		limit = lanPulls
	}
	for len(l.blob.pulls) < limit {
		if !m.pullNext(l) {
			return
		}
	}
}

// pullNext asks for one run: of the most urgent blob, the first leaves that
// are missing here, are there, and come from nowhere else.
func (m *Machine) pullNext(l *link) bool {
	for _, st := range m.blobs.order {
		there := l.blob.have[st.desc.Root]
		if there == nil || st.have == nil || st.have.Full() || st.paused > m.now {
			continue
		}
		p := st.run(there)
		if p == nil {
			continue
		}
		if !st.own && m.blobs.used+m.leavesComing()+int64(p.end-p.next)*blob.LeafSize > m.lim.BlobBytes {
			m.drop(DropBlobSpace)
			st.paused = m.now.Add(blobPause)
			m.blobs.next = min(m.blobs.next, st.paused)
			continue
		}
		m.beginPull(l, st, p)
		return true
	}
	return false
}

// leavesComing is the space of leaves that were asked for or are being
// written.
func (m *Machine) leavesComing() (n int64) {
	for _, l := range m.slots {
		if l == nil {
			continue
		}
		for _, p := range l.blob.pulls {
			n += int64(p.end - p.next)
		}
	}
	for _, st := range m.blobs.order {
		n += int64(len(st.writing))
	}
	return n * blob.LeafSize
}

// run finds the leaves to ask for next, nil if there are none.
func (st *blobState) run(there *blob.Bitmap) *pull {
	geo := st.desc.Geometry()
	missing := func(i int) bool {
		_, busy := st.writing[i]
		return !busy && !st.have.Has(i) && there.Has(i)
	}
	for i := st.have.NextMissing(0); i < st.have.Len(); {
		group := geo.GroupOf(i)
		_, end := geo.GroupRange(group)
		if _, busy := st.busy[group]; busy {
			i = st.have.NextMissing(end)
			continue
		}
		for ; i < end; i++ {
			if !missing(i) {
				continue
			}
			p := &pull{root: st.desc.Root, group: group, next: i, end: i + 1}
			for p.end < end && missing(p.end) {
				p.end++
			}
			return p
		}
		i = st.have.NextMissing(end)
	}
	return nil
}

func (m *Machine) beginPull(l *link, st *blobState, p *pull) {
	l.blob.nextID++
	p.id = l.blob.nextID
	st.busy[p.group] = l.id
	l.blob.pulls = append(l.blob.pulls, p)
	f := blobWantFrame{Pull: p.id, Root: p.root, First: p.next, Count: p.end - p.next, Proof: !st.proven[p.group]}
	if part := st.parts[p.next]; part != nil {
		f.Offset = part.have
		part.mixed = part.mixed || part.from != l.id
		m.count.Resumed++
	}
	m.send(l, f)
}

func (m *Machine) endPull(l *link, p *pull) {
	l.blob.pulls = slices.DeleteFunc(l.blob.pulls, func(q *pull) bool { return q == p })
	if st := m.blobs.byRoot[p.root]; st != nil && st.busy[p.group] == l.id {
		delete(st.busy, p.group)
	}
	l.dirty = true
}

func (m *Machine) receivedProof(l *link, f proofFrame, t Token) {
	p := l.blob.pull(f.Pull)
	if p == nil || f.Group != p.group {
		m.free(t)
		m.drop(DropUnexpected)
		return
	}
	m.blobs.byRoot[p.root].proven[p.group] = true
	m.emit(WriteProof{Root: p.root, Group: p.group, Token: t})
}

// receivedLeaf takes a piece of a leaf. Pieces come in order.
func (m *Machine) receivedLeaf(l *link, f leafFrame, t Token) {
	p := l.blob.pull(f.Pull)
	if p == nil {
		m.free(t) // the pull was given up meanwhile
		m.drop(DropUnexpected)
		return
	}
	st := m.blobs.byRoot[p.root]
	part := st.parts[f.Leaf]
	have := 0
	if part != nil {
		have = part.have
	}
	size := st.desc.Geometry().LeafLen(f.Leaf)
	if f.Leaf != p.next || f.Offset != have || f.Offset+len(f.Body) > size || !st.proven[p.group] {
		m.free(t)
		m.blame(l, DropUnexpected)
		m.endPull(l, p)
		return
	}
	if part == nil {
		part = &leafPart{token: t, from: l.id}
		st.parts[f.Leaf] = part
		m.blobs.parts++
	} else {
		m.emit(Join{Into: part.token, From: t})
		part.from = l.id
	}
	if part.have += len(f.Body); part.have == size {
		m.leafComplete(l, st, p, part)
	}
}

func (m *Machine) leafComplete(l *link, st *blobState, p *pull, part *leafPart) {
	leaf := p.next
	delete(st.parts, leaf)
	m.blobs.parts--
	st.writing[leaf] = l.id
	if part.mixed {
		st.writing[leaf] = 0 // nobody to blame
	}
	m.emit(WriteLeaf{Root: p.root, Leaf: leaf, Token: part.token})
	if p.next++; p.next == p.end {
		m.endPull(l, p)
	}
}

// receivedBlobEnd gives up a run that the neighbour cannot go on with.
func (m *Machine) receivedBlobEnd(l *link, f blobEndFrame) {
	p := l.blob.pull(f.Pull)
	if p == nil {
		return
	}
	if b := l.blob.have[p.root]; b != nil {
		b.Clear(p.next)
	}
	m.endPull(l, p)
}

// blobDown keeps the leaves that were begun, as far as there is room.
func (m *Machine) blobDown(l *link) {
	for _, p := range l.blob.pulls {
		if st := m.blobs.byRoot[p.root]; st != nil && st.busy[p.group] == l.id {
			delete(st.busy, p.group)
		}
	}
	l.blob.pulls = nil
	for _, st := range m.blobs.order {
		for _, leaf := range sortedKeys(st.parts) {
			if m.blobs.parts <= maxLeafParts {
				return
			}
			if m.links[st.parts[leaf].from] != nil {
				continue
			}
			m.free(st.parts[leaf].token)
			delete(st.parts, leaf)
			m.blobs.parts--
		}
	}
}

func (m *Machine) receivedBlobWant(l *link, f blobWantFrame) {
	st := m.blobs.byRoot[f.Root]
	if st == nil || st.have == nil || f.Count == 0 || f.First+f.Count > st.have.Len() || len(l.blob.serves) >= maxServes ||
		st.desc.Geometry().GroupOf(f.First) != st.desc.Geometry().GroupOf(f.First+f.Count-1) {
		m.send(l, blobEndFrame{f.Pull})
		return
	}
	l.blob.serves = append(l.blob.serves, &serve{
		id: f.Pull, root: f.Root, leaf: f.First, end: f.First + f.Count, offset: f.Offset, proof: f.Proof,
	})
	l.dirty = true
}

// sendLeaf sends the next piece of a run; leaves go when nothing else waits.
func (m *Machine) sendLeaf(l *link) bool {
	for len(l.blob.serves) > 0 {
		s := l.blob.serves[0]
		st := m.blobs.byRoot[s.root]
		if st != nil && s.proof {
			s.proof = false
			geo := st.desc.Geometry()
			group := geo.GroupOf(s.leaf)
			first, end := geo.GroupRange(group)
			head := appendFrame(nil, proofFrame{Pull: s.id, Group: group})
			m.sendCounted(l, head, LoadProof{Root: s.root, Group: group}, (end-first+16)*blob.HashSize, loadOf{true, s.id})
			return true
		}
		size := 0
		if st != nil && st.have.Has(s.leaf) {
			size = st.desc.Geometry().LeafLen(s.leaf)
		}
		if s.offset >= size {
			m.leafUnsent(l, s.id)
			continue
		}
		end := min(s.offset+l.chunk(), size)
		head := appendFrame(nil, leafFrame{Pull: s.id, Leaf: s.leaf, Offset: s.offset})
		m.sendCounted(l, head, LoadLeaf{Root: s.root, Leaf: s.leaf, Offset: s.offset, End: end}, end-s.offset, loadOf{true, s.id})
		if s.offset = end; end == size {
			s.leaf, s.offset = s.leaf+1, 0
		}
		if s.leaf == s.end {
			l.blob.serves = l.blob.serves[1:]
		}
		return true
	}
	return false
}

// leafUnsent gives up a run of which a leaf or the proof is not here.
func (m *Machine) leafUnsent(l *link, id uint64) {
	l.blob.serves = slices.DeleteFunc(l.blob.serves, func(s *serve) bool { return s.id == id })
	m.send(l, blobEndFrame{id})
}
