package node

import (
	"context"
	"errors"
	"fmt"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/node/chat"
	"outrider/store"
)

// blobStore gives agent and chat the leaves of files, each in its own words.
//
// Two things keep a blob: the agent, while an unexpired, unpurged blob bundle
// names it, and chat, while a message here needs it.
type blobStore struct {
	store *store.Store
}

func (s blobStore) blobs() *store.Blobs { return s.store.Blobs() }

// OpenBlob is the agent's: it begins or goes on with a blob.
func (s blobStore) OpenBlob(_ context.Context, d blob.Descriptor) (*blob.Bitmap, error) {
	if err := s.blobs().Create(d); err != nil {
		return nil, blobError(err)
	}
	have, err := s.blobs().Have(d.Root)
	return have, agentError(err)
}

func (s blobStore) WriteProof(_ context.Context, root blob.Root, group int, proof []byte) error {
	p, err := blob.ParseProof(proof)
	if err != nil {
		return fmt.Errorf("%w: %v", mesh.ErrVerify, err)
	}
	return blobError(s.blobs().PutGroupProof(root, group, p))
}

func (s blobStore) WriteLeaf(_ context.Context, root blob.Root, leaf int, data []byte) error {
	return blobError(s.blobs().PutLeaf(root, leaf, data))
}

func (s blobStore) SyncBlobs(ctx context.Context, roots []blob.Root) error {
	for _, r := range roots {
		if err := s.blobs().Sync(ctx, r); err != nil && !isNotFound(err) {
			return agentError(err)
		}
	}
	return nil
}

func (s blobStore) ReadLeaf(_ context.Context, root blob.Root, leaf int) ([]byte, error) {
	b, err := s.blobs().ReadLeaf(root, leaf)
	return b, agentError(err)
}

func (s blobStore) ReadProof(_ context.Context, root blob.Root, group int) ([]byte, error) {
	p, err := s.blobs().GroupProof(root, group)
	if err != nil {
		return nil, agentError(err)
	}
	return p.MarshalBinary()
}

// DropBlob is the agent letting go.
func (s blobStore) DropBlob(_ context.Context, root blob.Root) error {
	if s.pinned(root) {
		return nil // chat drops it when the last message that needs it is gone
	}
	return agentError(s.blobs().Delete(root))
}

// pinned reads chat's pins where they are durable: chat itself may not run yet.
func (s blobStore) pinned(root blob.Root) bool {
	for _, err := range s.store.List(chat.BucketPin, string(root[:])) {
		_ = err // a pin that cannot be read is one
		return true
	}
	return false
}

// blobError translates what writing a leaf or proof can fail with.
func blobError(err error) error {
	if errors.Is(err, blob.ErrMismatch) || errors.Is(err, blob.ErrMalformed) {
		return fmt.Errorf("%w: %v", mesh.ErrVerify, err)
	}
	return agentError(err)
}

// chatBlobs is chat's side of the same.
type chatBlobs struct{ blobStore }

var _ chat.Blobs = chatBlobs{}

func (s chatBlobs) NewWriter(context.Context) (chat.BlobWriter, error) {
	w, err := s.blobs().NewWriter()
	if err != nil {
		return nil, chatError(err)
	}
	return blobWriter{w}, nil
}

func (s chatBlobs) ReadLeaf(_ context.Context, root blob.Root, leaf int) ([]byte, error) {
	b, err := s.blobs().ReadLeaf(root, leaf)
	return b, chatError(err)
}

func (s chatBlobs) Progress(root blob.Root) (have, total int, err error) {
	m, err := s.blobs().Have(root)
	if err != nil {
		return 0, 0, chatError(err)
	}
	return m.Count(), m.Len(), nil
}

func (s chatBlobs) Drop(_ context.Context, root blob.Root) error {
	return chatError(s.blobs().Delete(root))
}

type blobWriter struct{ w *store.BlobWriter }

func (b blobWriter) WriteLeaf(leaf []byte) error { return chatError(b.w.WriteLeaf(leaf)) }
func (b blobWriter) Abort() error                { return chatError(b.w.Abort()) }

func (b blobWriter) Finish(ctx context.Context) (blob.Descriptor, error) {
	d, err := b.w.Finish(ctx)
	return d, chatError(err)
}

// sweep deletes blobs that nothing keeps: a crash between writing a blob and
// pinning it leaves one.
func (s agentStore) sweep() error {
	var loose []blob.Root
	for info := range s.blobs().List() {
		if !s.pinned(info.Root) {
			loose = append(loose, info.Root)
		}
	}
	if len(loose) == 0 {
		return nil
	}
	named := map[blob.Root]bool{}
	for r, err := range s.Records() {
		if err != nil {
			return err
		}
		if r.Blob != nil {
			named[r.Blob.Root] = true
		}
	}
	for _, root := range loose {
		if !named[root] {
			if err := s.blobs().Delete(root); err != nil {
				return fmt.Errorf("node: sweep blobs: %w", err)
			}
		}
	}
	return nil
}
