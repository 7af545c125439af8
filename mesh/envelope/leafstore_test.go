package envelope

import (
	"bytes"
	"fmt"
)

// A leafStore keeps leaves as store.Blobs would.
type leafStore struct{ leaves [][]byte }

func (s *leafStore) WriteLeaf(i int, data []byte) error {
	if i != len(s.leaves) {
		return fmt.Errorf("leaf %d after %d", i, len(s.leaves))
	}
	s.leaves = append(s.leaves, bytes.Clone(data))
	return nil
}

func (s *leafStore) ReadLeaf(i int) ([]byte, error) {
	if i < 0 || i >= len(s.leaves) {
		return nil, fmt.Errorf("no leaf %d", i)
	}
	return s.leaves[i], nil
}
