package fakeapi

import "net/http"

// Archive says who archives, by name; nobody without any.
func (s *Server) Archive(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.archive = names
	s.publish("archive", struct{}{})
}

func (s *Server) getArchive(*http.Request) (int, any, *apiError) {
	readers := []map[string]any{}
	for _, n := range s.archive {
		readers = append(readers, map[string]any{"user": map[string]any{"id": "archive-" + n, "name": n}, "since": "2026-03-04T05:06:07.008Z", "has_keys": true})
	}
	return 200, map[string]any{"readers": readers, "refused": []any{}}, nil
}
