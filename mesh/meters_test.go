package mesh

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestDelaysCountEachBoundOnce(t *testing.T) {
	var d Delays
	for _, age := range []uint32{0, 1, 2, 30 * 86400, 30*86400 + 1} {
		d.count(age)
	}
	want := Delays{Seconds: 3 + 2*30*86400 + 1}
	want.Buckets[0], want.Buckets[1], want.Buckets[len(DelayBounds)-1], want.Buckets[len(DelayBounds)] = 2, 1, 1, 1
	if d != want {
		t.Errorf("%+v", d)
	}
	if !slices.IsSorted(DelayBounds[:]) {
		t.Error("bounds are not in order")
	}
}

func TestReasonsAreComplete(t *testing.T) {
	raw, err := os.ReadFile("counters.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^\tDrop\w+\s+Reason = "(\w+)"`).FindAllSubmatch(raw, -1)
	first := regexp.MustCompile(`(?m)^\tDrop\w+\s+Reason\s+= "(\w+)"`).FindAllSubmatch(raw, -1)
	if n := max(len(names), len(first)); n != len(Reasons) {
		t.Errorf("%d reasons in counters.go, %d in the list", n, len(Reasons))
	}
	for _, m := range first {
		if !slices.Contains(Reasons, Reason(m[1])) {
			t.Errorf("%s is not in the list", m[1])
		}
	}
}
