package mesh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

// commitLoop writes what the machine decided, in its order. Everything that
// gathered while the last commits were being synced goes into the next ones,
// so that many bundles share one sync.
func (s *Shell) commitLoop() {
	var want int
	var took time.Duration
	for {
		// Those who waited for the last round come back one after the
		// other. Without patience the first of them would have a sync to
		// himself and the rest wait for two. Whoever is alone never waits.
		list := s.commits.gather(want, min(took/2, gatherQuiet), min(took, gatherMost))
		if list == nil {
			return
		}
		begin := time.Now()
		for rest := list; len(rest) > 0; {
			n := s.batch(rest)
			results := s.write(rest[:n])
			rest = rest[n:]
			want = len(list) + s.commits.len() // before anybody is told and comes back
			s.post(Committed{results})
		}
		took = time.Since(begin)
	}
}

// batch returns how many transactions go together.
func (s *Shell) batch(list []Commit) int {
	bytes := 0
	for i, c := range list {
		for _, op := range c.Ops {
			if p, ok := op.(PutBundle); ok {
				bytes += p.Record.Size
			}
		}
		if i > 0 && (i >= batchCommits || bytes > batchBytes) {
			return i
		}
	}
	return len(list)
}

// write commits transactions together; those that fail do so alone.
func (s *Shell) write(list []Commit) []CommitResult {
	results := make([]CommitResult, len(list))
	txns := make([][]Op, len(list)) // empty for what is not even tried
	for i := range list {
		results[i].Commit = list[i].Commit
		if results[i].Err = s.fill(list[i].Ops); results[i].Err == nil {
			txns[i] = list[i].Ops
		}
	}
	errs := s.cfg.Store.CommitEach(context.Background(), txns) // what was decided is written even while the node stops
	for i, err := range errs {
		if results[i].Err == nil {
			results[i].Err = err
		}
		if err != nil && !errors.Is(err, ErrStoreFull) {
			s.log.Error("store refused a transaction", "err", err)
		}
		s.written(list[i].Ops, results[i].Err)
	}
	return results
}

// fill puts payloads into operations and checks those that came in pieces.
func (s *Shell) fill(ops []Op) error {
	for i, op := range ops {
		p, ok := op.(PutBundle)
		if !ok {
			continue
		}
		p.Payload = s.payloads.get(p.Token)
		if p.Check && sha256.Sum256(p.Payload) != p.Record.PayloadHash {
			return ErrVerify
		}
		ops[i] = p
	}
	return nil
}

func (s *Shell) written(ops []Op, err error) {
	for _, op := range ops {
		switch op := op.(type) {
		case PutBundle:
			if err == nil {
				s.cache.put(op.Record, op.Payload)
			}
			s.payloads.free(op.Token)
		case SetMeta:
			s.cache.update(op)
		case DeleteBundle:
			s.cache.drop(op.ID)
		}
	}
}

// judgeLoop asks the judge.
func (s *Shell) judgeLoop() {
	for {
		list := s.judges.take()
		if list == nil {
			return
		}
		for _, j := range list {
			if !s.post(Judged{j.Token, s.judgement(s.cfg.Judge.Judge(s.payloads.get(j.Token)))}) {
				return
			}
		}
	}
}

// judgement turns a date into a duration, if the clock can be trusted.
func (s *Shell) judgement(v Verdict) Judgement {
	j := Judgement{Code: v.Code, Key: v.Key, Number: v.Number, Urgent: v.Urgent}
	if c := s.cfg.Clock; c != nil && c.Trusted() && !v.NotAfter.IsZero() {
		j.Left = max(time.Second, v.NotAfter.Sub(c.Now()))
	}
	return j
}

// blobLoop writes leaves. All that gathered is synced once, and only then
// counts as had.
func (s *Shell) blobLoop() {
	ctx := context.Background()
	for {
		list := s.blobs.take()
		if list == nil {
			return
		}
		var done []BlobResult
		for _, out := range list {
			if _, write := blobRoot(out); !write {
				s.syncBlobs(ctx, done) // operations keep their order
				done = nil
			}
			switch o := out.(type) {
			case OpenBlob:
				have, err := s.cfg.Store.OpenBlob(ctx, o.Blob)
				s.post(BlobOpened{o.Blob, have, err})
			case DropBlob:
				if err := s.cfg.Store.DropBlob(ctx, o.Root); err != nil {
					s.log.Error("cannot delete a blob", "err", err)
				}
			case WriteProof:
				err := s.cfg.Store.WriteProof(ctx, o.Root, o.Group, s.payloads.get(o.Token))
				s.payloads.free(o.Token)
				done = append(done, BlobResult{o.Root, o.Group, -1, err})
			case WriteLeaf:
				err := s.cfg.Store.WriteLeaf(ctx, o.Root, o.Leaf, s.payloads.get(o.Token))
				s.payloads.free(o.Token)
				done = append(done, BlobResult{o.Root, o.Leaf / blob.GroupLeaves, o.Leaf, err})
			}
		}
		s.syncBlobs(ctx, done)
	}
}

func blobRoot(out Output) (root blob.Root, write bool) {
	switch o := out.(type) {
	case WriteProof:
		return o.Root, true
	case WriteLeaf:
		return o.Root, true
	}
	return root, false
}

func (s *Shell) syncBlobs(ctx context.Context, done []BlobResult) {
	if len(done) == 0 {
		return
	}
	var roots []blob.Root
	for _, r := range done {
		if !slices.Contains(roots, r.Root) {
			roots = append(roots, r.Root)
		}
	}
	if err := s.cfg.Store.SyncBlobs(ctx, roots); err != nil {
		s.log.Error("cannot sync blobs", "err", err)
		for i := range done {
			done[i].Err = errors.Join(done[i].Err, err)
		}
	}
	s.post(BlobsWritten{done})
}

// load reads a bundle, from the cache if it is there.
func (s *Shell) load(ctx context.Context, id bundle.ID) (Record, []byte, error) {
	if c, ok := s.cache.get(id); ok {
		return c.record, c.payload, nil
	}
	r, payload, err := s.cfg.Store.Load(ctx, id)
	if errors.Is(err, ErrDamaged) {
		s.log.Error("a stored bundle is damaged; neighbours are asked for it", "bundle", id, "err", err)
		s.post(Damaged{id})
	}
	return r, payload, err
}

// frame completes what the machine wants to be sent.
func (s *Shell) frame(ctx context.Context, o Send) ([]byte, error) {
	read := Reader{
		Bundle:    func(id bundle.ID) (Record, []byte, error) { return s.load(ctx, id) },
		Tombstone: func(id bundle.ID) (Tombstone, error) { return s.cfg.Store.Tombstone(ctx, id) },
		Proof:     func(r blob.Root, g int) ([]byte, error) { return s.cfg.Store.ReadProof(ctx, r, g) },
		Leaf:      func(r blob.Root, i int) ([]byte, error) { return s.cfg.Store.ReadLeaf(ctx, r, i) },
	}
	f, err := Fill(o, read)
	if err != nil {
		return nil, fmt.Errorf("mesh: fill frame: %w", err)
	}
	return f, nil
}
