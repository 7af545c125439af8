package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"outrider/field-tests/scenario"
)

const stickText = "No radio here. This came in somebody's pocket."

// stick: no link is up. A folder, as a stick would be, is carried from Alpha to
// Charlie and back: a message goes, its receipt returns.
func stick() step {
	return step{title: "a stick: a message goes by a folder, where no link comes", play: playStick}
}

func playStick(ctx context.Context, s *scenario.Story) error {
	if err := s.Hears(ctx, ""); err != nil {
		return err
	}
	folder := filepath.Join(filepath.Dir(s.Alpha.Dir), "stick")
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	s.Count(scenario.Tally{Sent: 1})
	sent, err := s.Alpha.API.Send(ctx, s.People[2], stickText)
	if err != nil {
		return err
	}
	for _, b := range []*scenario.Box{s.Alpha, s.Charlie} {
		if err := carry(ctx, s, b, folder); err != nil {
			return err
		}
	}
	err = scenario.Poll(ctx, "the message from the stick", func() (bool, error) {
		inbox, err := s.Charlie.API.Inbox(ctx)
		for _, m := range inbox {
			if m.From.Name == s.People[0] && m.Text == stickText {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		return err
	}
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	// Charlie mostly gave its receipt to the stick in the same contact.
	for _, b := range []*scenario.Box{s.Alpha, s.Charlie, s.Alpha} {
		if err := carry(ctx, s, b, folder); err != nil {
			return err
		}
		if m, err := s.Alpha.API.Message(ctx, sent.ID); err != nil || m.State == "delivered" {
			return err
		}
	}
	return errors.New("the receipt did not come by the stick")
}

// carry puts the stick into a node and tells what the node answers.
func carry(ctx context.Context, s *scenario.Story, b *scenario.Box, folder string) error {
	out, err := b.CLI(ctx, "", "--json", "carry", folder)
	if err != nil {
		return err
	}
	var c struct {
		Took     uint64 `json:"took"`
		Gave     uint64 `json:"gave"`
		Held     int    `json:"held"`
		Complete bool   `json:"complete"`
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		return fmt.Errorf("carry printed %q: %w", out, err)
	}
	s.Say(b.Name, "stick: took %d, gave %d, %d are on it now", c.Took, c.Gave, c.Held)
	if !c.Complete {
		return fmt.Errorf("the stick was not read to its end at %s", b.Name)
	}
	return nil
}
