package node

import (
	"context"
	"fmt"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/roster"
)

// deviceValidity is how long a device lasts without its user's password: the
// lease that ends a lost one where no revocation gets through (crypto.md 3.3).
const deviceValidity = 90 * 24 * time.Hour

// deviceEnd is when a device ends that is certified now: never after its user.
func deviceEnd(now time.Time, user identity.Certificate) time.Time {
	if end := now.Add(deviceValidity); end.Before(user.NotAfter) {
		return end
	}
	return user.NotAfter
}

// renewer renews devices with the user's own key while a password has it open.
type renewer struct{ n *Node }

var _ chat.Renewer = renewer{}

// RenewDevice renews a device that ends within 30 days, and one that still
// stands on a provisional certificate when the user has a final one. Where
// that gains nothing, as for a user whose own certificate ends, it does not.
func (r renewer) RenewDevice(ctx context.Context, user identity.UserID, password []byte, keys chat.Keys) (chat.Keys, error) {
	n := r.n
	parents := n.roster.UserChain(user, keys.User.Public())
	if parents == nil || n.clock.Suspect() || len(keys.Chain) == 0 {
		return keys, nil
	}
	leaf, now := keys.Chain.Leaf(), n.clock.Now()
	end := deviceEnd(now, parents.Leaf())
	due := leaf.NotAfter.Before(now.Add(renewAhead)) || keys.Chain.Provisional() && !parents.Provisional()
	if !due || !end.After(leaf.NotAfter.Add(time.Hour)) {
		return keys, nil
	}
	// Of two certificates the one that begins later counts, in whole minutes.
	begin := now.Add(-backdate)
	if next := leaf.NotBefore.Add(time.Minute); begin.Before(next) {
		begin = next
	}
	cert, err := identity.IssueDevice(n.root.ID(), keys.User, keys.Device, identity.Certificate{
		Subject: user[:], Generation: parents.Leaf().Generation, NotBefore: begin, NotAfter: end,
	})
	if err != nil {
		return keys, fmt.Errorf("node: renew device: %w", err)
	}
	fresh := keys
	fresh.Chain = append(identity.Chain{cert}, parents...)
	sealed, err := chat.SealKeys(ctx, user, password, fresh, keyCost)
	if err != nil {
		return keys, fmt.Errorf("node: renew device: %w", err)
	}
	if err := n.home.SaveKeystore(user, sealed); err != nil {
		return keys, fmt.Errorf("node: renew device: %w", err)
	}
	if err := n.home.addPublications([]roster.Object{roster.Certificate(fresh.Chain)}); err != nil {
		return keys, fmt.Errorf("node: renew device: %w", err)
	}
	n.publishSoon()
	n.log.Info("a device was renewed")
	return fresh, nil
}
