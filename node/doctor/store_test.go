package doctor

import (
	"slices"
	"testing"
)

// TestA20StoreFull: each share of the store that is full is named with the
// setting that gives it more room.
func TestA20StoreFull(t *testing.T) {
	for kind, want := range map[string][2]string{
		"bundles": {"Messages take 7 MB of the 8 MB they may: what finds no room is refused.", "Raise store.limit_mb, or bring the node near those its mail is for."},
		"relayed": {"Messages that came from other nodes take 7 MB of the 8 MB they may: what finds no room is refused.", "Raise store.limit_mb, or bring the node near those its mail is for."},
		"files":   {"Files take 7 MB of the 8 MB they may: what finds no room is refused.", "Raise store.files_limit_mb, or bring the node near those its mail is for."},
	} {
		e := quiet(t)
		e.Running.Shares = []Share{{Kind: kind, Used: 7_900_000, Limit: 8_000_000}}
		list := Examine(t.Context(), e)
		i := slices.IndexFunc(list, func(f Finding) bool { return f.ID == "store-full" })
		if i < 0 || list[i].Sentence != want[0] || list[i].Cure != want[1] {
			t.Errorf("%s: %+v", kind, list)
		}
	}
	if slices.Contains(examine(t, quiet(t)), "store-full") {
		t.Error("a store that is not full is found full")
	}
}
