package api

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Limits of login attempts, per name and per source address. A name's delay
// stays short, so that a stranger who knows it cannot lock its owner out for
// long; a source's grows.
const (
	freeAttempts   = 5
	maxUserDelay   = 30 * time.Second
	maxSourceDelay = 15 * time.Minute
	attemptMemory  = time.Hour
	maxAttemptKeys = 4096

	// A password costs a derivation, on a small board more than a second of
	// one processor. All strangers together get a fifth of one, and 10 s of that
	// in advance, so that several people can log in at once.
	strangerShare   = 5
	strangerAdvance = 10 * time.Second
	maxStrangeTries = 4 // at once
)

// A limiter makes guessing slow. An attempt counts when it begins, so that a
// hundred at once gain nothing; success takes it back.
type limiter struct {
	now func() time.Time

	mu   sync.Mutex
	keys map[string]*attempts

	strange int       // attempts of strangers in progress
	paid    time.Time // until when the strangers' share is used up
}

type attempts struct {
	failed int
	until  time.Time // no attempt before
	last   time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, keys: make(map[string]*attempts)}
}

// begin counts an attempt for a name from a source. A positive wait means
// that it is refused and may be repeated after that time.
func (l *limiter) begin(user, source string) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	u, s := l.get("u\x00"+user, now), l.get("s\x00"+source, now)
	if wait := max(u.until.Sub(now), s.until.Sub(now)); wait > 0 {
		return wait
	}
	u.count(now, maxUserDelay)
	s.count(now, maxSourceDelay)
	return 0
}

// beginStrange counts an attempt from an address that nobody has vouched for.
// A positive wait means that it is refused and may be repeated after that
// time; otherwise endStrange must follow.
func (l *limiter) beginStrange() (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); l.paid.After(now.Add(strangerAdvance)) {
		return l.paid.Sub(now) - strangerAdvance
	}
	if l.strange >= maxStrangeTries {
		return time.Second
	}
	l.strange++
	return 0
}

// endStrange charges the strangers what an attempt took.
func (l *limiter) endStrange(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strange--
	if now := l.now(); l.paid.Before(now) {
		l.paid = now
	}
	l.paid = l.paid.Add(strangerShare * took)
}

// success takes the attempt back: the name's past is forgotten, the source's
// is only not made worse, since its next guess may be at another name.
func (l *limiter) success(user, source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, "u\x00"+user)
	l.undo("s\x00" + source)
}

// cancel takes back an attempt that was not judged, as when the node was busy.
func (l *limiter) cancel(user, source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.undo("u\x00" + user)
	l.undo("s\x00" + source)
}

func (l *limiter) undo(key string) {
	if a := l.keys[key]; a != nil && a.failed > 0 {
		a.failed--
		a.until = time.Time{}
	}
}

func (a *attempts) count(now time.Time, most time.Duration) {
	a.failed++
	a.last = now
	if over := a.failed - freeAttempts; over >= 0 {
		a.until = now.Add(min(time.Second<<min(over, 20), most))
	}
}

func (l *limiter) get(key string, now time.Time) *attempts {
	a := l.keys[key]
	if a != nil && now.Sub(a.last) <= attemptMemory {
		return a
	}
	if len(l.keys) >= maxAttemptKeys {
		l.shrink()
	}
	a = &attempts{last: now}
	l.keys[key] = a
	return a
}

// shrink forgets the quarter whose last attempt is longest ago. Many at once,
// so that a flood of new sources pays for it rarely.
func (l *limiter) shrink() {
	keys := slices.SortedFunc(maps.Keys(l.keys), func(a, b string) int { return l.keys[a].last.Compare(l.keys[b].last) })
	for _, k := range keys[:(len(keys)+3)/4] {
		delete(l.keys, k)
	}
}
