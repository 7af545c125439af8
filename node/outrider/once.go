package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"
)

const (
	sendTries = 3                      // of a request whose answer is lost
	sendPause = 300 * time.Millisecond // before the second; doubled for the next
)

// newOnce names an act of sending.
func newOnce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}

// coded tells whether an error has one of the codes.
func coded(err error, codes ...string) bool {
	var f *failure
	if !errors.As(err, &f) {
		return false
	}
	for _, c := range codes {
		if f.code == c {
			return true
		}
	}
	return false
}

// sendOnce sends something under the name once. An answer that is lost leaves
// open whether the node has taken it, so the request is repeated: under the
// same name the node takes it once. When that does not settle it either, the
// error tells how to go on.
func (c *client) sendOnce(ctx context.Context, once string, send func() error) error {
	c.once = once
	defer func() { c.once = "" }()
	err := send()
	pause := sendPause
	for try := 1; coded(err, "no_answer") && try < sendTries; try++ {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return unsure(once)
		}
		pause *= 2
		if err = send(); coded(err, "not_running", "no_session", "locked", "interrupted") {
			return unsure(once) // it went away, or began anew: nobody is logged in
		}
	}
	if coded(err, "no_answer") {
		return unsure(once)
	}
	return err
}

func unsure(once string) error {
	return &failure{exit: exitFailed, code: "unsure", message: "the node gave no answer; it may have taken the message or not",
		hint: "when it answers again, repeat the same command with --once " + once + "\nthe message then exists once"}
}
