package chat

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// SendFile sends what r yields as a file. Its leaves are sealed and written as
// they come; nothing of it is sent before r has ended without error, and no
// plaintext reaches the disk. When it returns, the message is durable.
func (s *Session) SendFile(ctx context.Context, d FileDraft, r io.Reader) (Message, error) {
	if d.Name == "" || len(d.Name) > MaxFileName || !utf8.ValidString(d.Name) || len(d.MediaType) > MaxMediaType || !utf8.ValidString(d.MediaType) {
		return Message{}, fmt.Errorf("chat: a file has a name of 1 to %d bytes of UTF-8 and a media type of at most %d: %w", MaxFileName, MaxMediaType, ErrInvalid)
	}
	a := address{d.To, d.Precedence, d.TTL}
	if known, err := s.mayPost(a, d.Once); err != nil {
		return Message{}, err
	} else if known {
		return s.repeatFile(ctx, d, a, r)
	}
	content := sha256.New()
	body, root, err := s.writeFile(ctx, d, io.TeeReader(r, content))
	if err != nil {
		return Message{}, err
	}
	by, err := fileAct(d, a, content)
	var m Message
	if err == nil {
		m, err = s.post(ctx, a, by, func(r *record, t *tx) error {
			if err := s.mayShare(TypeFile); err != nil {
				return err // the policy came while the file was read
			}
			r.Type, r.File = TypeFile, &fileRecord{Body: body, Root: root, Done: true}
			s.pinOp(t, r)
			return nil
		})
	}
	if !s.svc.pinned(root) { // refused, or the same act was faster on another connection
		err = errors.Join(err, s.svc.cfg.Blobs.Drop(context.WithoutCancel(ctx), root))
	}
	return m, err
}

// mayPost checks an address before anything is read, and tells whether the
// act was done before.
func (s *Session) mayPost(a address, once string) (known bool, err error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	if known, err := s.knownAct(once); known || err != nil {
		return known, err
	}
	if err := s.mayShare(TypeFile); err != nil {
		return false, err
	}
	return false, s.checkAddress(&a)
}

// writeFile seals a file into the blob store and returns its manifest.
func (s *Session) writeFile(ctx context.Context, d FileDraft, r io.Reader) (body []byte, root blob.Root, err error) {
	w, err := s.svc.cfg.Blobs.NewWriter(ctx)
	if err != nil {
		return nil, root, fmt.Errorf("chat: write file: %w", err)
	}
	fail := func(err error) ([]byte, blob.Root, error) {
		return nil, root, fmt.Errorf("chat: write file: %w", errors.Join(err, w.Abort()))
	}
	seal, _, err := envelope.EncryptFile(ctxReader{ctx, r}, leafWriter{w}, envelope.PadBucket)
	if err != nil {
		return fail(err)
	}
	body, err = envelope.File{Name: d.Name, Type: d.MediaType, Seal: seal}.Encode()
	if err != nil {
		return fail(err)
	}
	desc, err := w.Finish(ctx)
	if err != nil {
		return nil, root, fmt.Errorf("chat: write file: %w", err)
	}
	if desc != seal.Blob {
		return nil, root, errors.Join(errors.New("chat: write file: the store names the blob differently"), s.svc.cfg.Blobs.Drop(ctx, desc.Root))
	}
	return body, desc.Root, nil
}

// leafWriter adapts a BlobWriter.
type leafWriter struct{ w BlobWriter }

func (l leafWriter) WriteLeaf(_ int, data []byte) error { return l.w.WriteLeaf(data) }

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// blobBundle makes the bundle that tells relays which leaves to carry. It goes
// where the message goes. Its purge key comes from the file's key, so author
// and readers have it and nobody else.
func (s *Session) blobBundle(r *record, of bundle.Header) (sealedBundle, error) {
	f, err := envelope.ParseFile(r.File.Body)
	if err != nil {
		return sealedBundle{}, fmt.Errorf("chat: stored manifest: %w", err)
	}
	payload, err := f.Seal.Blob.MarshalBinary()
	if err != nil {
		return sealedBundle{}, fmt.Errorf("chat: announce file: %w", err)
	}
	key := blobPurgeKey(f.Seal.Key)
	h, err := s.header(of.Tag, of.Precedence, of.Lifetime, key, bundle.KindBlob, of.Flags)
	if err != nil {
		return sealedBundle{}, err
	}
	return s.made(h, payload, key)
}

// blobPurgeKey is derived from the file's key as message purge keys are from
// message keys, with "blob" as context.
func blobPurgeKey(k envelope.FileKey) bundle.PurgeKey {
	d := identity.Derive(k, identity.LabelMessagePurge, []byte("blob"))
	return bundle.PurgeKey(d[:16])
}

// pinOp keeps the leaves of a message's file here, whatever the mesh does.
func (s *Session) pinOp(t *tx, r *record) {
	root, msg := r.File.Root, r.Msg
	t.add(PutKV{Bucket: BucketPin, Key: pinKey(root, msg), Value: []byte{1}})
	t.then(func() { s.svc.pin(root, msg) })
}

// dropFile lets the leaves of a message's file go.
func (s *Session) dropFile(t *tx, r *record) {
	if r.File == nil {
		return
	}
	root, msg := r.File.Root, r.Msg
	delete(s.blobs, root)
	t.add(DeleteKV{Bucket: BucketPin, Key: pinKey(root, msg)}, s.dropName(nameRoot, root[:]))
	t.then(func() {
		if !s.svc.unpin(root, msg) {
			return
		}
		if err := s.svc.cfg.Blobs.Drop(context.Background(), root); err != nil {
			s.log.Warn("chat: delete a file's leaves", "err", err)
		}
	})
}

// openBlob notes a blob bundle: its leaves come by themselves. It is consumed
// when the file is complete, so that after a restart it is known again.
func (s *Session) openBlob(o *opening, ev Arrived, b bundle.Bundle) {
	d, err := blob.ParseDescriptor(b.Payload)
	if err != nil {
		o.done = append(o.done, ev)
		return
	}
	r, err := s.findOrNil(nameRoot, d.Root[:])
	switch {
	case err != nil:
		o.later = append(o.later, ev)
	case r != nil && (r.Out && !r.Synced || r.Gone):
		o.done = append(o.done, ev)
	default: // the message may still be under way
		if len(s.blobs) < maxPending {
			s.blobs[d.Root] = ev.ID
		}
		if r != nil {
			o.after = append(o.after, func(ctx context.Context) { s.checkFile(r.Msg) })
		}
	}
}

// blobEvent tells the screens of progress, and checks a file that is complete.
func (s *Session) blobEvent(root blob.Root, complete bool) {
	r, err := s.findOrNil(nameRoot, root[:])
	if err != nil || r == nil || r.File == nil {
		return
	}
	if complete {
		s.checkFile(r.Msg)
	}
	if r.Arch != nil {
		return
	}
	m := s.view(r)
	s.notify(Update{Kind: UpdateFile, Message: &m})
}

// checkFile reads a file that is complete from end to end, beside the loop,
// before anybody is told that it has arrived.
func (s *Session) checkFile(id MessageID) {
	r, err := s.get(id)
	if err != nil || r.File == nil || s.checking[id] || r.Out && !r.Synced || s.withheld(r) != "" {
		return // what is withheld is not opened, and its author not told that it is here
	}
	if have, total, err := s.svc.cfg.Blobs.Progress(r.File.Root); err != nil || have < total {
		return
	}
	f, err := envelope.ParseFile(r.File.Body)
	if err != nil {
		return
	}
	known := r.File.Done || r.File.Bad // then only the telling is left, from before a crash
	s.checking[id] = s.svc.job(func(ctx context.Context) {
		var err error
		if !known {
			err = envelope.DecryptFile(f.Seal, s.leaves(ctx, f.Seal.Blob.Root), ctxWriter{ctx, io.Discard})
		}
		s.fileChecked(ctx, id, err)
	})
}

// fileChecked makes the outcome durable and acknowledges the file.
func (s *Session) fileChecked(ctx context.Context, id MessageID, fault error) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	delete(s.checking, id)
	r, err := s.get(id)
	if err != nil || r.File == nil || ctx.Err() != nil {
		return
	}
	bad := errors.Is(fault, envelope.ErrForged) || errors.Is(fault, envelope.ErrMalformed)
	if fault != nil && !bad {
		s.log.Warn("chat: a file could not be checked", "err", fault)
		return
	}
	t := s.begin()
	if !r.File.Done && !r.File.Bad {
		r.File.Done, r.File.Bad = !bad, bad
		s.change(t, r)
	}
	if !r.Sole && r.File.Done && r.Arch == nil {
		s.noteIndex(t, recFiles, r)
		s.owe(t, r.Sealed.Epoch, oweFiles)
	}
	if err := s.commit(ctx, t); err != nil {
		s.log.Warn("chat: note that a file is complete", "err", err)
		return
	}
	if r.File.Done {
		s.releaseBlob(ctx, r)
	}
	if r.Arch != nil && !s.closed {
		s.notify(Update{Kind: UpdateArchive})
	} else if !s.closed {
		m := s.view(r)
		s.notify(Update{Kind: UpdateFile, Message: &m})
	}
}

// releaseBlob acknowledges a complete file: by its purge if this is the only
// reader, else only here.
func (s *Session) releaseBlob(ctx context.Context, r *record) {
	id, ok := s.blobs[r.File.Root]
	if !ok {
		return // its bundle has not come, or is gone
	}
	b, err := s.svc.cfg.Agent.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		delete(s.blobs, r.File.Root)
		return
	}
	f, ferr := envelope.ParseFile(r.File.Body)
	if err = errors.Join(err, ferr); err == nil {
		if rec := bundle.NewPurgeRecord(b, blobPurgeKey(f.Seal.Key)); r.Sole && rec.Valid() {
			err = s.svc.cfg.Agent.Purge(ctx, rec)
		} else {
			err = s.svc.finished(ctx, s.user, []Arrived{{ID: id, Tag: b.Header.Tag, Kind: bundle.KindBlob}}, s.hostedReaders)
		}
	}
	if err != nil {
		s.log.Warn("chat: acknowledge a file", "bundle", id, "err", err) // again when it is delivered again
		return
	}
	delete(s.blobs, r.File.Root)
}

// leaves reads the leaves of a blob.
func (s *Session) leaves(ctx context.Context, root blob.Root) envelope.LeafReader {
	return leafReader{ctx, s.svc.cfg.Blobs, root}
}

type leafReader struct {
	ctx   context.Context
	blobs Blobs
	root  blob.Root
}

func (l leafReader) ReadLeaf(i int) ([]byte, error) { return l.blobs.ReadLeaf(l.ctx, l.root, i) }

type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(b)
}

// OpenFile opens the file of a message for reading. It was checked as a whole
// before, so an error while reading means that the disk has failed since.
// Without all leaves the error is ErrNotComplete, and File has the progress.
// The caller closes the reader.
func (s *Session) OpenFile(ctx context.Context, id MessageID) (File, io.ReadCloser, error) {
	if err := s.enter(); err != nil {
		return File{}, nil, err
	}
	defer s.mu.Unlock()
	r, err := s.shown(id)
	if err != nil {
		return File{}, nil, notFound(err)
	}
	if r.Gone || s.ending(r) != endsLater {
		return File{}, nil, ErrGone
	}
	if r.File == nil {
		return File{}, nil, fmt.Errorf("chat: the message has no file: %w", ErrNotFound)
	}
	if g := s.withheld(r); g != "" {
		return File{}, nil, fmt.Errorf("chat: %s: %w", withheldReason(r.Type, g).Text, &PolicyError{Group: g, Type: r.Type})
	}
	view, f := s.fileView(r)
	switch {
	case r.File.Bad:
		return view, nil, fmt.Errorf("chat: the file is not what its sender announced: %w", ErrGone)
	case !view.Complete:
		return view, nil, ErrNotComplete
	}
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(envelope.DecryptFile(f.Seal, s.leaves(ctx, f.Seal.Blob.Root), ctxWriter{ctx, pw}))
	}()
	return view, pr, nil
}

// fileView describes a file as it is now.
func (s *Session) fileView(r *record) (File, envelope.File) {
	f, err := envelope.ParseFile(r.File.Body)
	if err != nil {
		return File{}, f
	}
	v := File{Name: f.Name, Size: f.Seal.Size, MediaType: f.Type, Total: f.Seal.Blob.Length, Complete: r.File.Done}
	if v.MediaType == "" {
		v.MediaType = "application/octet-stream"
	}
	have, total, err := s.svc.cfg.Blobs.Progress(r.File.Root)
	switch {
	case err != nil:
	case have >= total:
		v.Have = v.Total
	default:
		v.Have = min(uint64(have)*blob.LeafSize, v.Total)
	}
	if v.Complete && v.Have < v.Total {
		v.Complete = false // leaves were lost since: the disk was changed under us
	}
	return v, f
}
