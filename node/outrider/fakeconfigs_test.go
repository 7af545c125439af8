package main

import (
	"context"
	"fmt"
	"time"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
	"outrider/offline/policy"
)

// fakeConfigs issues real frames of a network that nobody else knows, and
// applies whatever opens.
type fakeConfigs struct{}

var fakeAdmin = func() (out struct {
	key    identity.PrivateKey
	cert   identity.Certificate
	root   identity.NetworkID
	secret identity.NetworkSecret
}) {
	root, rootKey, err := identity.CreateRoot("eagle", identity.PresetLean, aTime)
	if err != nil {
		panic(err)
	}
	out.key, out.root, out.secret = identity.PrivateKeyFromSeed([32]byte{1}), root.ID(), identity.NetworkSecret{Generation: 1, Secret: [32]byte{2}}
	out.cert, err = rootKey.IssueAdmin(root.ID(), identity.Certificate{Key: out.key.Public(), Roles: identity.RoleAdmin, NotBefore: aTime, NotAfter: aTime.AddDate(1, 0, 0)})
	if err != nil {
		panic(err)
	}
	return out
}()

func (fakeConfigs) state(c api.NewConfig) api.ConfigState {
	on := func(b *bool) bool { return b == nil || *b }
	out := api.ConfigState{Group: c.Group, Sequence: 3, Issued: aTime, Expires: aTime.Add(7 * 24 * time.Hour), Files: on(c.Files), Location: on(c.Location), Seen: 3}
	if c.Compliance != nil && *c.Compliance != "" {
		out.Compliance, out.ComplianceName = alice, "keeper"
		if *c.Compliance == alice.String() { // named by id, before the name came
			out.ComplianceName = ""
		}
	}
	for _, m := range c.Members {
		out.Members = append(out.Members, api.Reader{User: alice, Name: m})
	}
	return out
}

func (f fakeConfigs) Policy(context.Context, identity.UserID) (api.Policy, error) {
	old := f.state(api.NewConfig{Group: "convoy", Files: new(bool), Members: []string{hostile}})
	old.Source, old.PastDays, old.Seen, old.Conflict = "mesh", 12, 4, true
	return api.Policy{Configs: []api.ConfigState{old, {Group: "default", Sequence: 1, Source: "link", Files: true, Location: true, Seen: 1}}, Readers: []api.Reader{{User: alice, Name: "archive"}}}, nil
}

func (f fakeConfigs) Issued(context.Context) ([]api.IssuedConfig, error) {
	return []api.IssuedConfig{{ConfigState: f.state(api.NewConfig{Group: "convoy"}), Live: true, NeedsPassword: true, Link: "outrider://c/#X"}}, nil
}

func (f fakeConfigs) IssueConfig(ctx context.Context, c api.NewConfig) (api.IssuedConfig, error) {
	switch {
	case c.Group == "nobody":
		return api.IssuedConfig{}, fmt.Errorf("nobody called x is known here: %w", chat.ErrNotFound)
	case !c.Again && string(c.AdminPassword) != "open sesame":
		return api.IssuedConfig{}, chat.ErrPassword
	}
	out := api.IssuedConfig{ConfigState: f.state(c), Pushed: c.Push, Withdrawn: c.Withdraw}
	if c.Push || c.Withdraw {
		return out, nil
	}
	signed, err := policy.Config{Group: c.Group, Sequence: 3, NotBefore: aTime, Expires: aTime.Add(time.Hour), Switches: policy.Allowed}.Sign(fakeAdmin.root, fakeAdmin.key)
	if err != nil {
		return out, err
	}
	u := deeplink.Update{Config: signed, Admin: fakeAdmin.cert}
	frame, err := deeplink.SealUpdateTo(u, fakeAdmin.key, fakeAdmin.secret)
	if !c.Open {
		out.NeedsPassword, out.Password = true, "abbey-acorn-badge-candy-dance-eagle"
		frame, err = deeplink.SealUpdate(ctx, u, fakeAdmin.key, []byte(out.Password), kdf.Floor())
	}
	out.Link = deeplink.Link(frame)
	return out, err
}

func (f fakeConfigs) ReadConfig(ctx context.Context, c api.GivenConfig) (out api.OpenedConfig, err error) {
	frame, err := deeplink.DecodeLink(c.Link)
	if err != nil {
		return out, err
	}
	u, err := deeplink.OpenUpdate(ctx, frame, c.Password, []identity.NetworkSecret{fakeAdmin.secret})
	if err != nil {
		return out, fmt.Errorf("%w: %w", api.ErrLink, err)
	}
	out = api.OpenedConfig{ConfigState: f.state(api.NewConfig{Group: u.Config.Scope, Files: new(bool), Members: []string{hostile}}), NetworkName: "eagle", Issuer: "0102030405060708", InForce: true, Changed: true}
	out.Changes = []string{hostile + " may no longer send or open files (group convoy)"}
	if c.File {
		out.Source = "file"
	}
	return out, nil
}

func (f fakeConfigs) ApplyConfig(ctx context.Context, c api.GivenConfig) (api.OpenedConfig, error) {
	out, err := f.ReadConfig(ctx, c)
	if out.Group == "older" {
		return out, fmt.Errorf("this node knows a newer version: %w", api.ErrConfig)
	}
	return out, err
}
