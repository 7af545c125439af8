package main

import (
	"context"

	"outrider/field-tests/scenario"
)

// messages is the story itself: a message, a file of 5 MB and a position go
// from Alpha to Charlie, by way of Bravo, which hears one of them at a time and
// is killed hard once; and an answer comes back.
func messages() step {
	return step{
		title: "messages, a file and a position across a broken mesh",
		play:  func(ctx context.Context, s *scenario.Story) error { return s.Play(ctx) },
	}
}
