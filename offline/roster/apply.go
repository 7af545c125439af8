package roster

import (
	"errors"
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// Apply makes the roster say what an object says. The object was judged and
// is stored; at the start every stored one is applied, in any order: one that
// comes before its issuer waits inside for it. Applying twice changes nothing.
// It returns ErrForged for what is not genuine, and ErrLater for an object
// whose network secret is missing or when too many wait.
func (r *Roster) Apply(payload []byte) error {
	o, err := r.read(payload)
	var need *needError
	if errors.As(err, &need) {
		return r.park(o, need.on)
	}
	if err != nil {
		return fmt.Errorf("roster: apply: %w", err)
	}
	r.enter(o)
	return nil
}

// park keeps an object until its issuer has been applied.
func (r *Roster) park(o *object, on string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[o.sum] {
		return nil
	}
	if len(r.waiting) >= maxParked {
		return fmt.Errorf("roster: apply: %d objects wait for their issuers: %w", len(r.waiting), ErrLater)
	}
	r.parked[on] = append(r.parked[on], o)
	r.waiting[o.sum] = true
	return nil
}

// enter puts an authenticated object, and whatever waited for it.
func (r *Roster) enter(o *object) {
	todo := []*object{o}
	for len(todo) > 0 {
		o, todo = todo[0], todo[1:]
		o.body, o.parents = nil, nil // the parsed form is enough from here on
		r.mu.Lock()
		news := r.state.put(o)
		woken := r.wake(o.chain)
		if news {
			r.announce()
		}
		r.mu.Unlock()
		switch {
		case o.Kind == KindRevocation && o.chain.Leaf().Class == identity.ClassAdmin:
			r.observe(o.chain, time.Unix(int64(o.revoked.at)*60, 0))
		case o.Kind == KindConfig:
			r.observe(o.chain, o.config.NotBefore)
		default:
			r.observe(o.chain)
		}
		todo = append(todo, r.revive(woken)...)
	}
}

// wake takes out what waited for any certificate of an authenticated chain.
// The lock is held.
func (r *Roster) wake(c identity.Chain) (woken []*object) {
	if len(r.waiting) == 0 {
		return nil
	}
	for _, cert := range c {
		for _, on := range []string{onKey(cert.Key.ID()), onDevice(cert.DeviceID())} {
			for _, o := range r.parked[on] {
				delete(r.waiting, o.sum)
				woken = append(woken, o)
			}
			delete(r.parked, on)
		}
	}
	return woken
}

// revive authenticates objects whose issuer has come. One that still lacks
// another waits on; one that is not genuine is dropped.
func (r *Roster) revive(woken []*object) (ready []*object) {
	for _, o := range woken {
		err := r.authenticate(o)
		var need *needError
		switch {
		case errors.As(err, &need):
			r.park(o, need.on) // there is room: it has just been taken out
		case err != nil:
			r.log.Warn("a stored control object is not genuine", "err", err)
		default:
			ready = append(ready, o)
		}
	}
	return ready
}

// observe tells the clock the times that the root or an admin has signed.
func (r *Roster) observe(chain identity.Chain, more ...time.Time) {
	clock, ok := r.clock.(interface{ Observe(time.Time) })
	if !ok {
		return
	}
	for i, c := range chain {
		if c.Class == identity.ClassAdmin || chain[i+1].Class == identity.ClassAdmin {
			clock.Observe(c.NotBefore)
		}
	}
	for _, t := range more {
		clock.Observe(t)
	}
}
