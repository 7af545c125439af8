package fakeapi

import "net/http"

// Forbid makes the policy of a group forbid files and positions; an empty
// group allows everything again.
func (s *Server) Forbid(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forbids = group
	s.publish("policy", struct{}{})
}

func (s *Server) getPolicy(*http.Request) (int, any, *apiError) {
	one := map[string]any{"allowed": s.forbids == ""}
	configs := []any{}
	if s.forbids != "" {
		one["group"] = s.forbids
		configs = append(configs, map[string]any{"group": s.forbids, "sequence": 3, "source": "mesh", "issued": "2026-03-04T05:06:07.008Z", "expires": "2026-03-05T05:06:07.008Z",
			"past_days": 12, "files": false, "location": false, "seen": 4, "conflict": true})
	}
	return 200, map[string]any{"switches": map[string]any{"files": one, "location": one}, "groups": []string{}, "configs": configs, "readers": []any{}}, nil
}
