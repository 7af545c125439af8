package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/offline/coresync"
)

// Bounds of files on their way to and from the core, in chunks of 512 KiB.
const (
	coreUploads = 16 // being put
	coreAhead   = 3  // fetched before they are asked for
	coreKept    = 6  // fetched and kept, of one file
)

// coreFiles are the files' leaves on their way: leaves of a group gather until
// the chunk is whole and can be put, and chunks that were got are taken apart.
type coreFiles struct {
	ctx  context.Context
	edge coreEdge

	window  chan struct{} // of uploads
	mu      *sync.Mutex
	byRoot  map[blob.Root]*coreFile
	wanted  map[blob.Root]blob.Descriptor // files that came from the core, not from here
	uploads *sync.WaitGroup
	fetches *sync.WaitGroup
	failed  *error        // of an upload since the last sync
	news    chan struct{} // 1 deep: a file from the core was opened
}

// A coreFile is one file.
type coreFile struct {
	desc    blob.Descriptor
	own     map[int]bool // chunks that are there by this node
	holders []coresync.Holding
	there   *blob.Bitmap // leaves that are there
	groups  map[int]*coreGroup
	fetched map[int]*fetch
	order   []int // of fetched, oldest first
	told    bool  // the manifest was put
}

// A coreGroup is a chunk that is not whole.
type coreGroup struct {
	raw    []byte
	proof  blob.GroupProof
	leaves [][]byte
	have   int
}

// A fetch is a chunk on its way from the core.
type fetch struct {
	done  chan struct{}
	chunk coresync.Chunk
	err   error
}

func newCoreFiles(ctx context.Context, edge coreEdge) coreFiles {
	return coreFiles{
		ctx: ctx, edge: edge, window: make(chan struct{}, coreUploads), mu: &sync.Mutex{}, byRoot: map[blob.Root]*coreFile{},
		wanted: map[blob.Root]blob.Descriptor{}, uploads: &sync.WaitGroup{}, fetches: &sync.WaitGroup{}, failed: new(error), news: make(chan struct{}, 1),
	}
}

// close waits until nothing is on its way any more; ctx has ended.
func (f *coreFiles) close() {
	f.uploads.Wait()
	f.fetches.Wait()
}

// fromCore notes that a file is wanted from the core.
func (f *coreFiles) fromCore(d blob.Descriptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted[d.Root] = d
}

// open asks what is there. Of a file that is to go up only what this node
// has put counts: what others claim to have put may be anything.
func (f *coreFiles) open(d blob.Descriptor) (*blob.Bitmap, error) {
	list, err := f.edge.Have(f.ctx, d)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file := &coreFile{desc: d, own: map[int]bool{}, there: blob.NewBitmap(d.Geometry().Leaves()), groups: map[int]*coreGroup{}, fetched: map[int]*fetch{}}
	f.byRoot[d.Root] = file
	_, wanted := f.wanted[d.Root]
	have := blob.NewBitmap(d.Geometry().Leaves())
	for _, leaf := range file.learn(list, wanted) {
		have.Set(leaf)
	}
	if wanted {
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
	return have, nil
}

// learn takes what is at the core and returns the leaves that are new.
func (c *coreFile) learn(list []coresync.Holding, wanted bool) (leaves []int) {
	c.holders = list
	geo := c.desc.Geometry()
	for _, h := range list {
		for _, g := range h.Chunks {
			if h.Own {
				c.own[g] = true
			}
			if !h.Own && !wanted {
				continue
			}
			first, end := geo.GroupRange(g)
			for i := first; i < end; i++ {
				if c.there.Set(i) {
					leaves = append(leaves, i)
				}
			}
		}
	}
	return leaves
}

// incomplete are the files from the core of which chunks are missing there.
func (f *coreFiles) incomplete() (list []blob.Descriptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for root, d := range f.wanted {
		if file := f.byRoot[root]; file != nil && !file.there.Full() {
			list = append(list, d)
		}
	}
	return list
}

// idle says that no file is on its way up, nor expected from the core.
func (f *coreFiles) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for root, file := range f.byRoot {
		if _, wanted := f.wanted[root]; !wanted && len(file.own) < file.desc.Geometry().Groups() {
			return false
		}
	}
	return true
}

// look asks for chunks that have come to the core since.
func (f *coreFiles) look(ctx context.Context, d blob.Descriptor) ([]int, error) {
	list, err := f.edge.Have(ctx, d)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if file := f.byRoot[d.Root]; file != nil {
		return file.learn(list, true), nil
	}
	return nil, nil
}

func (f *coreFiles) drop(root blob.Root) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byRoot, root)
	delete(f.wanted, root)
}

func (f *coreFiles) file(root blob.Root) *coreFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byRoot[root]
}

func (f *coreFiles) writeProof(root blob.Root, group int, raw []byte) error {
	p, err := blob.ParseProof(raw)
	if err != nil {
		return mesh.ErrVerify
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.byRoot[root]
	if file == nil {
		return mesh.ErrNotStored
	}
	if p.Verify(root, file.desc.Length, group) != nil {
		return mesh.ErrVerify
	}
	if file.groups[group] == nil {
		file.groups[group] = &coreGroup{raw: bytes.Clone(raw), proof: p, leaves: make([][]byte, len(p.Leaves))}
	}
	return nil
}

// writeLeaf takes a leaf, and puts the chunk with its last one. It waits
// while too many are being put.
func (f *coreFiles) writeLeaf(root blob.Root, leaf int, data []byte) error {
	group, at := leaf/blob.GroupLeaves, leaf%blob.GroupLeaves
	f.mu.Lock()
	file := f.byRoot[root]
	if file == nil || file.groups[group] == nil {
		f.mu.Unlock()
		return mesh.ErrNotStored
	}
	g := file.groups[group]
	if g.proof.CheckLeaf(at, data) != nil {
		f.mu.Unlock()
		return mesh.ErrVerify
	}
	if g.leaves[at] == nil {
		g.leaves[at] = bytes.Clone(data)
		g.have++
	}
	whole := g.have == len(g.leaves)
	if whole {
		delete(file.groups, group)
	}
	f.mu.Unlock()
	if !whole {
		return nil
	}
	select {
	case f.window <- struct{}{}:
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	f.uploads.Go(func() {
		defer func() { <-f.window }()
		f.upload(file, coresync.Chunk{Blob: file.desc, Index: group, Proof: g.raw, Leaves: g.leaves})
	})
	return nil
}

func (f *coreFiles) upload(file *coreFile, c coresync.Chunk) {
	_, err := f.edge.Put(f.ctx, coresync.Item{Chunk: &c})
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		*f.failed = errors.Join(*f.failed, err)
		return
	}
	file.own[c.Index] = true
	first, end := file.desc.Geometry().GroupRange(c.Index)
	for i := first; i < end; i++ {
		file.there.Set(i)
	}
}

// sync waits for the chunks that are being put. Leaves of a chunk that is not
// whole count as had too: they are asked for again if this process ends.
func (f *coreFiles) sync(roots []blob.Root) error {
	f.uploads.Wait()
	f.mu.Lock()
	err := *f.failed
	*f.failed = nil
	var whole []*coreFile
	for _, root := range roots {
		if file := f.byRoot[root]; file != nil && !file.told && len(file.own) == file.desc.Geometry().Groups() {
			file.told = true
			whole = append(whole, file)
		}
	}
	f.mu.Unlock()
	for _, file := range whole {
		err = errors.Join(err, f.edge.PutManifest(f.ctx, file.desc))
	}
	if err != nil {
		return fmt.Errorf("node: core: %w", err)
	}
	return nil
}

// chunk gets a chunk, and lets those after it come meanwhile.
func (f *coreFiles) chunk(ctx context.Context, root blob.Root, group int) (coresync.Chunk, error) {
	file := f.file(root)
	if file == nil {
		return coresync.Chunk{}, mesh.ErrNotStored
	}
	got := f.fetch(file, group)
	for next := group + 1; next <= group+coreAhead && next < file.desc.Geometry().Groups(); next++ {
		f.fetch(file, next)
	}
	select {
	case <-got.done:
		return got.chunk, notThere(got.err)
	case <-ctx.Done():
		return coresync.Chunk{}, ctx.Err()
	case <-f.ctx.Done():
		return coresync.Chunk{}, f.ctx.Err()
	}
}

// fetch begins to get a chunk unless it is here or on its way.
func (f *coreFiles) fetch(file *coreFile, group int) *fetch {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := file.fetched[group]; x != nil {
		return x
	}
	x := &fetch{done: make(chan struct{})}
	file.fetched[group] = x
	file.order = append(file.order, group)
	for len(file.order) > coreKept {
		delete(file.fetched, file.order[0])
		file.order = file.order[1:]
	}
	holders := file.holders
	f.fetches.Go(func() {
		defer close(x.done)
		if x.chunk, x.err = f.edge.Get(f.ctx, file.desc, group, holders); x.err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if file.fetched[group] == x {
				delete(file.fetched, group) // it may come yet
			}
		}
	})
	return x
}
