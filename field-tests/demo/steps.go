package main

import (
	"context"
	"fmt"
	"time"

	"outrider/field-tests/scenario"
)

// A step of the demonstration shows one thing that Outrider does, in a few
// seconds, with the three nodes as the steps before have left them: all up,
// alice, bob and carol known to each other, alice logged in at Alpha and carol
// at Charlie.
type step struct {
	title string
	// prepare, unless nil, runs when the nodes are provisioned and none is up:
	// here settings are appended and servers started that the nodes will use. Its
	// context lasts until the demonstration ends.
	prepare func(ctx context.Context, s *scenario.Story) error
	// play does the step and returns once all of it has been seen to happen.
	play func(ctx context.Context, s *scenario.Story) error
}

// live goes on while the steps between its two parts are played.
var live liveStep

// steps are played in this order; the first that fails ends the demonstration.
var steps = []step{
	messages(),
	takDevices(),
	live.begins(),
	stick(),
	throughCore(),
	live.ends(),
	rules(),
	compliance(),
	sealedCall(),
}

// prepare lets all steps set up what they need.
func prepare(ctx context.Context, s *scenario.Story) error {
	for _, st := range steps {
		if st.prepare == nil {
			continue
		}
		if err := st.prepare(ctx, s); err != nil {
			return fmt.Errorf("prepare %s: %w", st.title, err)
		}
	}
	return nil
}

// play plays all steps, each below its title.
func play(ctx context.Context, s *scenario.Story) error {
	for _, st := range steps {
		start := time.Now()
		s.Title(st.title)
		if err := st.play(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", st.title, err)
		}
		s.Took(st.title, time.Since(start))
	}
	return s.Whole()
}
