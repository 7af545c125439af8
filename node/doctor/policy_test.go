package doctor

import (
	"slices"
	"testing"
	"time"
)

// TestP05Policy makes each fault of a policy, and none.
func TestP05Policy(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	for name, c := range map[string]struct {
		folder Folder
		want   []string
	}{
		"none":        {Folder{}, nil},
		"good":        {Folder{Policies: []Policy{{Group: "convoy", Version: 3, Seen: 3, Expires: now.Add(time.Hour)}, {Group: "default", Version: 1, Seen: 1}}}, nil},
		"past date":   {Folder{Policies: []Policy{{Group: "convoy", Version: 3, Seen: 3, Expires: now.Add(-36 * time.Hour)}}}, []string{"The policy of group convoy in force here (version 3) is 2 days past its date."}},
		"behind":      {Folder{Policies: []Policy{{Group: "convoy", Version: 3, Seen: 5, Source: "mesh"}}}, []string{"Version 5 of the policy of group convoy was seen here, but version 3, which came by mesh, outranks it."}},
		"conflict":    {Folder{Policies: []Policy{{Group: "convoy", Version: 3, Seen: 3, Conflict: true}}}, []string{"Two versions of the policy of group convoy carry the number 3 and differ: the stricter value of each field is in force."}},
		"not to read": {Folder{PolicyDamage: "unexpected EOF"}, []string{"The policies kept in /n/policy cannot be read: unexpected EOF."}},
	} {
		var got []string
		for _, f := range checkPolicy(t.Context(), Env{Dir: "/n", Folder: c.folder, Now: func() time.Time { return now }}) {
			got = append(got, f.Sentence)
			seen[f.ID] = true
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for _, id := range []string{"policy-past-date", "policy-conflict", "policy-behind", "policy-damaged"} {
		if !seen[id] {
			t.Errorf("nothing was %s", id)
		}
	}
}
