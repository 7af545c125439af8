package envelope

import (
	"encoding/binary"
	"fmt"
	"time"
)

// An age is a keyring's own count of seconds, by which secrets are kept and
// destroyed. It follows the clock, but never back, and a jump forward, be it
// a spoofed clock or a long time switched off, counts as maxStep at most: a
// wrong clock cannot make a device destroy what it still needs.
type age struct {
	now     int64 // seconds, 1 at first
	clock   time.Time
	maxStep time.Duration
}

func (a *age) tick(clock time.Time) {
	step := clock.Sub(a.clock).Truncate(time.Second)
	switch {
	case step < 0:
		a.clock = clock
	case step <= a.maxStep:
		a.now += int64(step / time.Second)
		a.clock = a.clock.Add(step)
	default:
		a.now += int64(a.maxStep / time.Second)
		a.clock = clock
	}
}

// after is the age that the keyring will have in d.
func (a *age) after(d time.Duration) int64 { return a.now + int64(d/time.Second) }

// since is how long ago the keyring had age then.
func (a *age) since(then int64) time.Duration { return time.Duration(a.now-then) * time.Second }

// The record of the age: the count and the clock at that moment, in seconds
// since 1970, 8 B each.
const ageRecord = "age"

// ageStep is the part of the maximum delay that one jump of the clock may cost.
const ageStep = 4

func (k *Keyring) loadAge() error {
	clock := k.now()
	k.age = age{now: 1, clock: clock, maxStep: k.self.MaxDelay / ageStep}
	for name, value := range k.rec.Records(ageRecord) {
		if name != ageRecord {
			continue
		}
		if len(value) != 16 {
			return malformed("record of age")
		}
		k.age.now = int64(binary.BigEndian.Uint64(value))
		k.age.clock = time.Unix(int64(binary.BigEndian.Uint64(value[8:])), 0)
	}
	k.age.tick(clock)
	return nil
}

func (k *Keyring) putAgeRecord() error {
	value := binary.BigEndian.AppendUint64(nil, uint64(k.age.now))
	value = binary.BigEndian.AppendUint64(value, uint64(k.age.clock.Unix()))
	if err := k.rec.PutRecord(ageRecord, value); err != nil {
		return fmt.Errorf("envelope: store record of age: %w", err)
	}
	return nil
}

// lock locks the keyring and lets it age.
func (k *Keyring) lock() {
	k.mu.Lock()
	k.age.tick(k.now())
}
