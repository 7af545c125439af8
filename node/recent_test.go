package node

import (
	"testing"
	"time"
)

// What is dear to find is found seldom, what is cheap each time but for a
// moment.
func TestRecentAnswersAreGivenAgain(t *testing.T) {
	var r recent[int]
	found := 0
	find := func() int { found++; return found }
	if r.get(find) != 1 || r.until.IsZero() {
		t.Fatal("the first answer is not found")
	}
	r.until = time.Now().Add(time.Hour)
	if r.get(find) != 1 || found != 1 {
		t.Error("a recent answer is found anew")
	}
	r.until = time.Now()
	if r.get(find) != 2 {
		t.Error("an answer is given for ever")
	}
	var begin time.Time
	r.until = time.Now()
	r.get(func() int {
		for begin = time.Now(); time.Since(begin) < time.Millisecond; {
		}
		return 3
	})
	if d := r.until.Sub(begin); d < recentShare*time.Millisecond {
		t.Errorf("what took a millisecond is good for %v", d)
	}
}
