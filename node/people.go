package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/roster"
)

// people gives chat the roster in chat's own words.
type people struct {
	*roster.Roster
	submit func(ctx context.Context, payload []byte, urgent bool) error
}

var _ chat.Roster = people{}

func (p people) Users() []chat.User {
	var out []chat.User
	for _, u := range p.Roster.Users() {
		out = append(out, chatUser(u))
	}
	return out
}

func (p people) User(id identity.UserID) (chat.User, bool) {
	u, ok := p.Roster.User(id)
	return chatUser(u), ok
}

func (p people) Invited() []chat.User {
	var out []chat.User
	for _, u := range p.Roster.Invited() {
		out = append(out, chatUser(u))
	}
	return out
}

func chatUser(u roster.User) chat.User {
	return chat.User{ID: u.ID, Name: u.Name, Key: u.Key, Frozen: u.Frozen}
}

func (p people) Devices(id identity.UserID) []chat.Device {
	var out []chat.Device
	for _, d := range p.Roster.Devices(id) {
		out = append(out, chatDevice(d))
	}
	return out
}

func (p people) Device(id identity.DeviceID) (chat.Device, bool) {
	d, ok := p.Roster.Device(id)
	return chatDevice(d), ok
}

func chatDevice(d roster.Device) chat.Device {
	out := chat.Device{ID: d.ID, User: d.User, Key: d.Key}
	for _, k := range []*identity.PrekeyBundle{d.Prekey, d.LastResort} {
		if k != nil {
			out.Prekeys = append(out.Prekeys, *k)
		}
	}
	return out
}

// NodeName names a node by the user it was issued for, if that is known.
func (p people) NodeName(id identity.NodeID) string {
	for _, n := range p.Roster.Nodes() {
		if n.ID == id && len(n.Subject) == len(identity.UserID{}) {
			if u, ok := p.User(identity.UserID(n.Subject)); ok && u.Name != "" {
				return u.Name
			}
		}
	}
	return id.Short()
}

// PublishPrekeys brings a device's prekey bundles into the mesh.
func (p people) PublishPrekeys(ctx context.Context, _ identity.DeviceID, bundles [][]byte) error {
	for _, raw := range bundles {
		k, err := identity.ParsePrekey(raw)
		if err != nil {
			return fmt.Errorf("node: publish prekeys: %w", err)
		}
		payload, err := p.Seal(roster.Prekey(k))
		if err == nil {
			err = p.submit(ctx, payload, false)
		}
		if err != nil {
			return fmt.Errorf("node: publish prekeys: %w", err)
		}
	}
	return nil
}

// judge gives the agent the roster's verdicts in the agent's words.
type judge struct{ *roster.Roster }

var _ mesh.Judge = judge{}

var verdicts = map[roster.Code]mesh.VerdictCode{
	roster.Accept: mesh.VerdictAccept, roster.Superseded: mesh.VerdictSuperseded,
	roster.Forged: mesh.VerdictForged, roster.Later: mesh.VerdictLater,
}

func (j judge) Judge(payload []byte) mesh.Verdict {
	v := j.Roster.Judge(payload)
	return mesh.Verdict{
		Code: verdicts[v.Code], Key: v.Key, Number: v.Number, NotAfter: v.End,
		Urgent: v.Kind == roster.KindRevocation || v.Kind == roster.KindConfig,
	}
}

// controlLifetime is the longest a control object's header says; how long it
// is really kept follows from the object itself.
const controlLifetime = 365 * 24 * time.Hour

// submitControl gives a sealed control object to the agent. That the mesh
// already has it, or something newer, is no error.
func (n *Node) submitControl(ctx context.Context, payload []byte, urgent bool) error {
	h := bundle.Header{
		Version: bundle.Version, Tag: n.controlTagOf(payload), Precedence: bundle.Priority,
		Lifetime: controlLifetime, Kind: bundle.KindControl,
	}
	// A control object is replaced, never purged: the key is thrown away.
	var key bundle.PurgeKey
	rand.Read(key[:])
	h.Commitment = key.Commit(h.Tag)
	b, err := bundle.New(h, payload, bundle.MaxBudget)
	if err != nil {
		return err
	}
	err = n.agent.Submit(ctx, b, mesh.SubmitOptions{Urgent: urgent})
	if errors.Is(err, mesh.ErrRefused) || errors.Is(err, mesh.ErrExists) {
		return nil
	}
	return err
}
