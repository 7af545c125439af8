package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"outrider/field-tests/scenario"
)

// rules: an admin's decision reaches Charlie twice, first as a link that nobody
// sent, then as a newer version by the mesh, which supersedes the link.
func rules() step {
	return step{title: "a signed config: by link with no network, then superseded by the mesh", play: playRules}
}

func playRules(ctx context.Context, s *scenario.Story) error {
	if err := s.Hears(ctx, ""); err != nil {
		return err
	}
	carol := s.People[2]
	link, err := issueConfig(ctx, s, "new", "convoy", "--member", carol, "--files", "off")
	if err != nil {
		return err
	}
	s.Say("alpha", "issued: group convoy, version %d, files off, as a link of %d characters and %d words", link.Sequence, len(link.Link), len(strings.Split(link.Password, "-")))
	if err := applyConfig(ctx, s, link); err != nil {
		return err
	}
	_, err = s.Charlie.API.SendFile(ctx, s.People[0], "overlay.kmz", strings.NewReader("x"))
	var refused *scenario.APIError
	if !errors.As(err, &refused) || refused.Code != "policy" {
		return fmt.Errorf("%s's file was not refused: %w", carol, err)
	}
	s.Say("charlie", "%s sends a file: refused, %s", carol, refused.Message)

	pushed, err := issueConfig(ctx, s, "push", "convoy", "--files", "on")
	if err != nil {
		return err
	}
	s.Say("alpha", "pushed: version %d, files on", pushed.Sequence)
	err = s.Ferry(ctx, s.AlphaID, func() (bool, error) {
		p, err := rulesOf(ctx, s.Charlie)
		return len(p.Configs) == 1 && p.Configs[0].Source == "mesh" && p.Switches.Files.Allowed, err
	})
	if err != nil {
		return err
	}
	p, err := rulesOf(ctx, s.Charlie)
	if err != nil || len(p.Configs) != 1 {
		return fmt.Errorf("the policy at charlie: %+v, %w", p, err)
	}
	s.Say("charlie", "version %d of group %s came by the %s and supersedes the link", p.Configs[0].Sequence, p.Configs[0].Group, p.Configs[0].Source)
	return nil
}

type issuedConfig struct {
	Sequence uint64 `json:"sequence"`
	Link     string `json:"link"`
	Password string `json:"password"`
}

// issueConfig runs one of the admin's verbs on Alpha.
func issueConfig(ctx context.Context, s *scenario.Story, args ...string) (c issuedConfig, err error) {
	out, err := s.Alpha.CLI(ctx, scenario.AdminPassword+"\n", append([]string{"--json", "config"}, append(args, "--admin-password-file", "-")...)...)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal([]byte(out), &c)
}

// applyConfig puts a link in force on Charlie, and tells what it answers. The
// password goes by file: argv is visible to everybody on the machine.
func applyConfig(ctx context.Context, s *scenario.Story, c issuedConfig) error {
	file := filepath.Join(filepath.Dir(s.Charlie.Dir), "config.pw")
	if err := os.WriteFile(file, []byte(c.Password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	out, err := s.Charlie.CLI(ctx, c.Link+"\n", "--json", "config", "apply", "-", "--password-file", file)
	if err != nil {
		return err
	}
	var done struct {
		InForce bool     `json:"in_force"`
		Changes []string `json:"changes"`
	}
	if err := json.Unmarshal([]byte(out), &done); err != nil {
		return fmt.Errorf("config apply printed %q: %w", out, err)
	}
	if !done.InForce {
		return fmt.Errorf("the link is not in force at charlie: %s", out)
	}
	s.Say("charlie", "applied the link: %s", strings.Join(done.Changes, "; "))
	return nil
}

type rulesInForce struct {
	Configs []struct {
		Group    string `json:"group"`
		Sequence uint64 `json:"sequence"`
		Source   string `json:"source"`
	} `json:"configs"`
	Switches struct {
		Files struct {
			Allowed bool `json:"allowed"`
		} `json:"files"`
	} `json:"switches"`
}

func rulesOf(ctx context.Context, b *scenario.Box) (p rulesInForce, err error) {
	return p, b.API.Do(ctx, "GET", "/v1/policy", nil, &p)
}
