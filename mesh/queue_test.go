package mesh

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever takes from a queue waits for as many as are wanted, as long as they
// keep coming, and no longer.
func TestGather(t *testing.T) {
	const quiet, most = 10 * time.Millisecond, 35 * time.Millisecond
	for _, c := range []struct {
		name string
		want int
		at   []time.Duration // when each comes
		got  int
		took time.Duration
	}{
		{"alone, nothing wanted", 0, []time.Duration{0}, 1, 0},
		{"alone, as wanted", 1, []time.Duration{0}, 1, 0},
		{"all there", 3, []time.Duration{0, 0, 0}, 3, 0},
		{"more than wanted", 2, []time.Duration{0, 0, 0}, 3, 0},
		{"the last comes", 3, []time.Duration{0, 5, 12}, 3, 12},
		{"nobody else comes", 3, []time.Duration{0}, 1, 10},
		{"one too late", 3, []time.Duration{0, 5, 29}, 2, 20},
		{"never enough", 99, []time.Duration{0, 9, 18, 27, 36, 45, 54}, 5, 40},
	} {
		synctest.Test(t, func(t *testing.T) {
			var q queue[int]
			q.init()
			begin := time.Now()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i, at := range c.at {
					time.Sleep(time.Until(begin.Add(at * time.Millisecond)))
					q.put(i)
				}
			}()
			synctest.Wait()
			got := q.gather(c.want, quiet, most)
			if took := time.Since(begin); len(got) != c.got || took != c.took*time.Millisecond {
				t.Errorf("%s: %d after %v, want %d after %v", c.name, len(got), took, c.got, c.took*time.Millisecond)
			}
			<-done
		})
	}
}

// Closing ends the patience, and what was put is still taken.
func TestGatherEndsAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q queue[int]
		q.init()
		q.put(1)
		go q.close()
		if got := q.gather(9, time.Hour, time.Hour); len(got) != 1 {
			t.Fatalf("%d taken, want 1", len(got))
		}
		if got := q.gather(9, time.Hour, time.Hour); got != nil {
			t.Fatalf("%v from a closed queue", got)
		}
	})
}
