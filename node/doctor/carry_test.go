package doctor

import (
	"slices"
	"testing"
	"time"
)

// TestA20Carry: what was wrong with the last stick, and nothing of a good one.
func TestA20Carry(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	for name, c := range map[string]struct {
		carry Carry
		want  []string
	}{
		"none":    {Carry{}, nil},
		"good":    {Carry{Ended: at}, nil},
		"full":    {Carry{Ended: at, Full: true}, []string{"The stick that was here last (2026-11-23 12:00) is full: not everything found room on it."}},
		"damaged": {Carry{Ended: at, Damaged: true}, []string{"The stick that was here last (2026-11-23 12:00) has lost part of what it held."}},
		"both": {Carry{Ended: at, Full: true, Damaged: true}, []string{"The stick that was here last (2026-11-23 12:00) is full: not everything found room on it.",
			"The stick that was here last (2026-11-23 12:00) has lost part of what it held."}},
	} {
		var got []string
		e := quiet(t)
		e.Running.Carry = c.carry
		for _, f := range Examine(t.Context(), e) {
			if f.ID == "carry-full" || f.ID == "carry-damaged" {
				got = append(got, f.Sentence)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
