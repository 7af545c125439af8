package mesh

import "time"

// Time is node time: nanoseconds that this node has lived through, going on
// from the last value after a restart. It is not a date. Ages and lifetimes
// are counted in it, so a wrong clock cannot expire or revive a bundle.
type Time int64

// Add returns t after d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// secs is the resolution of ages and deadlines: whole seconds, rounded down.
func (t Time) secs() uint32 { return uint32(t / Time(time.Second)) }

func fromSecs(s uint32) Time { return Time(s) * Time(time.Second) }

const never = Time(1<<63 - 1)
