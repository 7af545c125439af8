package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"outrider/field-tests/scenario"
	archive "outrider/offline/compliance"
)

// compliance names bob an archive reader, lets alice say three things to
// carol, and writes bob's copies into a folder; then bob is taken back.
func compliance() step {
	return step{title: "compliance: an archive that everybody sees gets a text, a file and a position", play: playCompliance}
}

const archivedText = "For the record: fuel at grid 4512"

func playCompliance(ctx context.Context, s *scenario.Story) error {
	bob, err := userID(ctx, s, s.People[1])
	if err != nil {
		return err
	}
	if err := nameReader(ctx, s, bob); err != nil {
		return err
	}
	if err := sayForTheRecord(ctx, s, bob); err != nil {
		return err
	}
	if err := writeArchive(ctx, s); err != nil {
		return err
	}
	return nameReader(ctx, s, "")
}

func userID(ctx context.Context, s *scenario.Story, name string) (string, error) {
	users, err := s.Alpha.API.Users(ctx)
	for _, u := range users {
		if u.Name == name {
			return u.ID, nil
		}
	}
	return "", fmt.Errorf("alpha does not know %s: %w", name, err)
}

// nameReader pushes a config and waits until alice is told; carol is with the
// next contact.
func nameReader(ctx context.Context, s *scenario.Story, reader string) error {
	who := reader
	if who == "" {
		who = "none"
	}
	if _, err := s.Alpha.CLI(ctx, scenario.AdminPassword+"\n", "config", "push", "default", "--compliance", who, "--admin-password-file", "-"); err != nil {
		return err
	}
	return toldAt(ctx, s, s.Alpha, reader)
}

// toldAt waits until a node shows its user who archives.
func toldAt(ctx context.Context, s *scenario.Story, b *scenario.Box, reader string) error {
	return scenario.Poll(ctx, "who archives, at "+b.Name, func() (bool, error) { return tellReaders(ctx, s, b, reader) })
}

// tellReaders says what a node shows its user above the next message.
func tellReaders(ctx context.Context, s *scenario.Story, b *scenario.Box, want string) (bool, error) {
	var v struct {
		Readers []struct {
			User scenario.Person `json:"user"`
			Keys bool            `json:"has_keys"`
		}
	}
	if err := b.API.Do(ctx, "GET", "/v1/archive", nil, &v); err != nil {
		return false, err
	}
	switch {
	case want == "" && len(v.Readers) == 0:
		s.Say(b.Name, "nobody archives any more")
	case want != "" && len(v.Readers) == 1 && v.Readers[0].User.ID == want && v.Readers[0].Keys:
		s.Say(b.Name, "archived by %s", v.Readers[0].User.Name)
	default:
		return false, nil
	}
	return true, nil
}

// sayForTheRecord sends three things and waits until carol has them.
func sayForTheRecord(ctx context.Context, s *scenario.Story, bob string) error {
	carol, api := s.People[2], s.Alpha.API
	s.Count(scenario.Tally{Sent: 3})
	text, err := api.Send(ctx, carol, archivedText)
	if err != nil {
		return err
	}
	content := bytes.Repeat([]byte("blue route "), 300)
	file, err := api.SendFile(ctx, carol, "route-blue.txt", bytes.NewReader(content))
	if err != nil {
		return err
	}
	place, err := api.SendLocation(ctx, carol, 46.94809, 7.44744, "")
	if err != nil {
		return err
	}
	all := func(b *scenario.Box, reached func(state string) bool) func() (bool, error) {
		return func() (bool, error) {
			for _, id := range []string{text.ID, file.ID, place.ID} {
				if m, err := b.API.Message(ctx, id); err != nil || !reached(m.State) {
					return false, err
				}
			}
			return true, nil
		}
	}
	if err := at(ctx, s, s.AlphaID, "Bravo to take copies", all(s.Alpha, func(st string) bool { return st != "queued" && st != "waiting-for-keys" })); err != nil {
		return err
	}
	if err := at(ctx, s, s.CharlieID, "carol to have them", func() (bool, error) { return hasFile(ctx, s) }); err != nil {
		return err
	}
	if err := toldAt(ctx, s, s.Charlie, bob); err != nil {
		return err
	}
	if err := at(ctx, s, s.AlphaID, "the receipts", all(s.Alpha, func(st string) bool { return st == "delivered" })); err != nil {
		return err
	}
	s.Count(scenario.Tally{Delivered: 3})
	return sameAtCarol(ctx, s, content)
}

// at lets Bravo hear a node until done.
func at(ctx context.Context, s *scenario.Story, node, what string, done func() (bool, error)) error {
	if err := s.Hears(ctx, node); err != nil {
		return err
	}
	return scenario.Poll(ctx, what, done)
}

// hasFile tells whether all three are with carol, the file with all its bytes.
func hasFile(ctx context.Context, s *scenario.Story) (bool, error) {
	inbox, err := s.Charlie.API.Inbox(ctx)
	n := 0
	for _, m := range inbox {
		switch {
		case m.Text == archivedText, m.Location != nil && scenario.Near(m.Location.Lat, 46.94809), m.File != nil && m.File.Name == "route-blue.txt" && m.File.Complete:
			n++
		}
	}
	return n == 3, err
}

// sameAtCarol compares what carol has.
func sameAtCarol(ctx context.Context, s *scenario.Story, content []byte) error {
	inbox, err := s.Charlie.API.Inbox(ctx)
	if err != nil {
		return err
	}
	for _, m := range inbox {
		var got bytes.Buffer
		switch {
		case m.Text == archivedText, m.Location != nil && scenario.Near(m.Location.Lat, 46.94809) && scenario.Near(m.Location.Lon, 7.44744):
			s.Count(scenario.Tally{Equal: 1})
		case m.File != nil && m.File.Name == "route-blue.txt":
			if err := s.Charlie.API.File(ctx, m.ID, &got); err != nil {
				return err
			}
			if bytes.Equal(got.Bytes(), content) {
				s.Count(scenario.Tally{Equal: 1})
			}
		}
	}
	return nil
}

// writeArchive runs the archiver on Bravo until it has three records, and
// checks what it wrote.
func writeArchive(ctx context.Context, s *scenario.Story) error {
	out := filepath.Join(filepath.Dir(s.Alpha.Dir), "archive")
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	err := scenario.Poll(ctx, "the records", func() (bool, error) {
		_, err := s.Bravo.CLI(ctx, scenario.UserPassword+"\n", "compliance", "run", s.People[1], "--out", out, "--password-file", "-", "--once")
		b, rerr := os.ReadFile(filepath.Join(out, "receivedMessages.log"))
		return err == nil && rerr == nil && bytes.Count(b, []byte("\n")) >= 3, err
	})
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(out, "receivedMessages.log"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		r, err := archive.Parse(bytes.TrimSpace(line))
		if err != nil {
			return err
		}
		s.Say("bravo", "archived: record %d, type %d, from %s to %s", r.Outrider.N, r.MsgType, r.Sender, r.Receiver)
	}
	verdict, err := s.Bravo.CLI(ctx, "", "--json", "compliance", "verify", out)
	if err != nil {
		return err
	}
	var v struct {
		Sound  bool
		Report struct{ Records int }
	}
	if err := json.Unmarshal([]byte(verdict), &v); err != nil || !v.Sound {
		return fmt.Errorf("the archive is not sound: %s", strings.TrimSpace(verdict))
	}
	s.Say("bravo", "verified: %d records, each standing on the one before", v.Report.Records)
	return nil
}
