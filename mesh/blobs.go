package mesh

import (
	"errors"
	"slices"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

const (
	maxBlobs     = 4096 // roots carried at once
	maxSubs      = 256  // roots one neighbour is kept informed about
	maxServes    = 8    // runs one neighbour may have asked for
	maxLeafParts = 64   // unfinished leaves, all blobs together: 1 MiB
	lanPulls     = 4    // runs asked for at once on a LAN; one elsewhere
	blobPause    = 30 * time.Second
	tellLAN      = 250 * time.Millisecond // between two tellings of which leaves are here
	tellThin     = 5 * time.Second
	doubtMin     = time.Second     // between two changes of mind about how long a blob is, twice as long each time
	doubtMax     = 5 * time.Minute // at most
)

// blobTable is what is known of blobs: roots, lengths, which leaves are here.
type blobTable struct {
	byRoot map[blob.Root]*blobState
	order  []*blobState // by precedence, then arrival
	bySlot map[uint32]blob.Root
	used   int64 // bytes of leaves that came from neighbours
	parts  int
	next   Time
}

// A blobState is a blob that a live blob bundle names.
type blobState struct {
	desc    blob.Descriptor
	refs    []uint32 // bundles that claim so
	rivals  []rival  // bundles that claim another length
	changed Time     // when we last came to believe another length
	doubt   time.Duration
	asking  bool // a neighbour contradicted too soon: all are asked again
	prec    bundle.Precedence
	own     bool // made here: no quota
	have    *blob.Bitmap
	busy    map[int]LinkID // groups being pulled, by whom
	proven  map[int]bool   // groups whose proof is here or on its way to disk
	writing map[int]LinkID // leaves on their way to disk
	parts   map[int]*leafPart
	done    bool
	news    bool // leaves came since neighbours and subscribers were told
	paused  Time // not pulled before: no space
	bytes   int64
}

// A rival is a bundle that names the same root as others, with another length.
// A root commits to its length, so all but one lie; which, a leaf that verifies
// shows. Until then we believe the first, or what a neighbour says who has
// leaves: relays that lie can delay a file, not keep it out.
type rival struct {
	slot   uint32
	length uint64
}

// A leafPart is a leaf that has come in part.
type leafPart struct {
	token Token
	have  int
	from  LinkID
	mixed bool // from more than one source
}

func newBlobTable() blobTable {
	return blobTable{byRoot: map[blob.Root]*blobState{}, bySlot: map[uint32]blob.Root{}, next: never}
}

// blobRef notes that a held bundle names a blob.
func (m *Machine) blobRef(slot uint32, d blob.Descriptor) {
	e := &m.idx.entries[slot]
	st := m.blobs.byRoot[d.Root]
	if st != nil && st.desc.Length != d.Length {
		m.blobs.bySlot[slot] = d.Root
		st.rivals = append(st.rivals, rival{slot, d.Length})
		switch {
		case e.is(flagOwn) && !st.own:
			m.believe(st, d.Length)
		case !st.known():
			m.askAll(st)
		}
		return
	}
	if st == nil {
		if len(m.blobs.byRoot) >= maxBlobs {
			m.drop(DropBlobSpace)
			return
		}
		st = newBlobState(d)
		m.blobs.byRoot[d.Root] = st
		m.emit(OpenBlob{d})
	}
	m.blobs.bySlot[slot] = d.Root
	st.refs = append(st.refs, slot)
	m.weigh(st)
	m.orderBlobs()
}

func newBlobState(d blob.Descriptor) *blobState {
	return &blobState{desc: d, busy: map[int]LinkID{}, proven: map[int]bool{}, writing: map[int]LinkID{}, parts: map[int]*leafPart{}}
}

// known tells whether a leaf has verified, and the length with it.
func (st *blobState) known() bool { return st.have != nil && st.have.Count() > 0 }

// weigh takes precedence and ownership from the bundles that claim a blob.
func (m *Machine) weigh(st *blobState) {
	for _, slot := range st.refs {
		e := &m.idx.entries[slot]
		st.own = st.own || e.is(flagOwn)
		st.prec = max(st.prec, e.served())
	}
}

// believe takes another claim for true, and begins anew. Leaves on disk stay: if
// there are any, the store knows better.
func (m *Machine) believe(st *blobState, length uint64) {
	m.clearBlob(st)
	next := newBlobState(blob.Descriptor{Root: st.desc.Root, Length: length})
	for _, slot := range st.refs {
		next.rivals = append(next.rivals, rival{slot, st.desc.Length})
	}
	for _, r := range st.rivals {
		if r.length == length {
			next.refs = append(next.refs, r.slot)
		} else {
			next.rivals = append(next.rivals, r)
		}
	}
	next.changed, next.doubt = m.now, min(max(2*st.doubt, doubtMin), doubtMax)
	*st = *next
	m.weigh(st)
	m.emit(OpenBlob{st.desc})
	m.orderBlobs()
}

// contradicted is called when a neighbour that has leaves states another
// length than the one we believe.
func (m *Machine) contradicted(st *blobState, length uint64) {
	if st.known() || st.have == nil || !slices.ContainsFunc(st.rivals, func(r rival) bool { return r.length == length }) {
		return
	}
	if due := st.changed.Add(st.doubt); m.now < due {
		st.asking = true
		m.blobs.next = min(m.blobs.next, due)
		return
	}
	m.believe(st, length)
}

// disproved is called when the disk has leaves that verified with another
// length.
func (m *Machine) disproved(st *blobState) {
	for _, slot := range st.refs {
		delete(m.blobs.bySlot, slot)
	}
	st.refs = nil
	if len(st.rivals) == 0 {
		m.dropBlob(st)
		return
	}
	m.believe(st, st.rivals[0].length)
}

func (m *Machine) orderBlobs() {
	m.blobs.order = m.blobs.order[:0]
	for _, st := range m.blobs.byRoot { // sorted below
		m.blobs.order = append(m.blobs.order, st)
	}
	slices.SortFunc(m.blobs.order, func(a, b *blobState) int {
		if a.prec != b.prec {
			return int(b.prec) - int(a.prec)
		}
		return int(a.refs[0]) - int(b.refs[0])
	})
}

// unblob ends a bundle's claim on its blob. Without a claim the leaves go.
func (m *Machine) unblob(slot uint32) {
	root, ok := m.blobs.bySlot[slot]
	if !ok {
		return
	}
	delete(m.blobs.bySlot, slot)
	st := m.blobs.byRoot[root]
	st.refs = slices.DeleteFunc(st.refs, func(s uint32) bool { return s == slot })
	st.rivals = slices.DeleteFunc(st.rivals, func(r rival) bool { return r.slot == slot })
	switch {
	case len(st.refs) > 0:
	case len(st.rivals) > 0:
		m.believe(st, st.rivals[0].length)
	default:
		m.dropBlob(st)
	}
}

func (m *Machine) dropBlob(st *blobState) {
	m.clearBlob(st)
	delete(m.blobs.byRoot, st.desc.Root)
	m.emit(DropBlob{st.desc.Root})
	m.orderBlobs()
}

// clearBlob ends what is under way for a blob.
func (m *Machine) clearBlob(st *blobState) {
	for _, leaf := range sortedKeys(st.parts) {
		m.free(st.parts[leaf].token)
		m.blobs.parts--
	}
	m.blobs.used -= st.bytes
	for _, l := range m.slots {
		if l != nil {
			l.blob.forget(st.desc.Root)
		}
	}
}

// askAll asks every neighbour what it has of a blob.
func (m *Machine) askAll(st *blobState) {
	for _, l := range m.slots {
		if l != nil && l.ready && st.have != nil {
			m.askBlob(l, st)
		}
	}
}

// blobOpened learns which leaves are here.
func (m *Machine) blobOpened(in BlobOpened) {
	st := m.blobs.byRoot[in.Blob.Root]
	if st == nil || st.desc != in.Blob || st.have != nil {
		return // perhaps the answer to what was believed before
	}
	if errors.Is(in.Err, ErrVerify) {
		m.disproved(st)
		return
	}
	if in.Err != nil || in.Have == nil || in.Have.Len() != st.desc.Geometry().Leaves() {
		m.drop(DropStore)
		st.paused = m.now.Add(blobPause)
		m.blobs.next = min(m.blobs.next, st.paused)
		return
	}
	st.have = in.Have
	for i := st.have.Next(0); i < st.have.Len(); i = st.have.Next(i + 1) {
		m.had(st, i)
	}
	st.news = true
	m.finishBlob(st)
	m.askAll(st)
	for _, l := range m.slots {
		if l != nil && l.ready && l.blob.subs[st.desc.Root] {
			m.tellBlob(l, st)
		}
	}
}

// had charges a leaf that is on disk.
func (m *Machine) had(st *blobState, leaf int) {
	if !st.own {
		n := int64(st.desc.Geometry().LeafLen(leaf))
		st.bytes += n
		m.blobs.used += n
	}
}

func (m *Machine) finishBlob(st *blobState) {
	if st.have.Full() && !st.done {
		st.done = true
		m.event(BlobComplete{st.desc.Root})
	}
}

// blobsWritten takes the store's answers for proofs and leaves.
func (m *Machine) blobsWritten(in BlobsWritten) {
	for _, r := range in.Results {
		st := m.blobs.byRoot[r.Root]
		if st == nil || st.have == nil {
			continue
		}
		if r.Leaf < 0 {
			if r.Err != nil {
				m.proofFailed(st, r)
			}
			continue
		}
		m.leafWritten(st, r)
	}
	for _, l := range m.slots {
		if l != nil && l.ready {
			l.dirty = true
		}
	}
}

func (m *Machine) proofFailed(st *blobState, r BlobResult) {
	st.proven[r.Group] = false
	id := st.busy[r.Group]
	delete(st.busy, r.Group)
	if l := m.links[id]; l != nil {
		l.blob.dropPulls(st.desc.Root, r.Group)
		if errors.Is(r.Err, ErrVerify) {
			m.blame(l, DropLeaf)
			delete(l.blob.have, st.desc.Root)
		}
	}
	m.pauseFor(st, r.Err)
}

func (m *Machine) pauseFor(st *blobState, err error) {
	if errors.Is(err, ErrVerify) {
		return
	}
	m.drop(DropStore)
	st.paused = m.now.Add(blobPause)
	m.blobs.next = min(m.blobs.next, st.paused)
}

func (m *Machine) leafWritten(st *blobState, r BlobResult) {
	from, ok := st.writing[r.Leaf]
	delete(st.writing, r.Leaf)
	if r.Err == nil {
		if st.have.Set(r.Leaf) {
			m.had(st, r.Leaf)
			st.news = true
			m.blobs.next = min(m.blobs.next, m.now.Add(tellLAN))
			m.finishBlob(st)
		}
		return
	}
	if l := m.links[from]; ok && from != 0 && l != nil && errors.Is(r.Err, ErrVerify) {
		m.blame(l, DropLeaf) // the leaf came whole from this one
		if b := l.blob.have[st.desc.Root]; b != nil {
			b.Clear(r.Leaf)
		}
	}
	m.pauseFor(st, r.Err)
}

// tellBlobs tells subscribers and listeners which leaves came.
func (m *Machine) tellBlobs() {
	m.blobs.next = never
	for _, st := range m.blobs.order {
		if st.have == nil {
			if st.paused > 0 && m.now >= st.paused {
				st.paused = 0
				m.emit(OpenBlob{st.desc})
			} else if st.paused > 0 {
				m.blobs.next = min(m.blobs.next, st.paused)
			}
			continue
		}
		if st.paused > m.now {
			m.blobs.next = min(m.blobs.next, st.paused)
		}
		if due := st.changed.Add(st.doubt); st.asking && m.now >= due {
			st.asking = false
			m.askAll(st)
		} else if st.asking {
			m.blobs.next = min(m.blobs.next, due)
		}
		if st.news {
			st.news = false
			m.event(BlobProgress{Root: st.desc.Root, Have: st.have.Count(), Total: st.have.Len()})
			for _, l := range m.slots {
				if l != nil && l.ready && l.blob.subs[st.desc.Root] {
					l.blob.stale[st.desc.Root] = true
				}
			}
		}
		for _, l := range m.slots {
			if l != nil && l.ready && l.blob.stale[st.desc.Root] {
				m.tellStale(l, st)
			}
		}
	}
	for _, l := range m.slots {
		if l != nil && l.ready {
			l.dirty = true // a pause may be over
		}
	}
}

func (m *Machine) tellStale(l *link, st *blobState) {
	gap := tellThin
	if l.info.Class == cla.LAN || st.have.Full() {
		gap = tellLAN
	}
	if due := l.blob.toldAt.Add(gap); m.now < due && l.blob.toldAt > 0 && !st.have.Full() {
		m.blobs.next = min(m.blobs.next, due)
		return
	}
	delete(l.blob.stale, st.desc.Root)
	l.blob.toldAt = m.now
	m.tellBlob(l, st)
}

// tellBlob states which leaves are here, in as many frames as it takes.
func (m *Machine) tellBlob(l *link, st *blobState) {
	for next := 0; next < st.have.Len(); {
		var stretch []byte
		stretch, next = st.have.AppendStretch(nil, next, maxStretch)
		m.send(l, blobHaveFrame{Root: st.desc.Root, Length: st.desc.Length, Stretch: stretch})
	}
}
