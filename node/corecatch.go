package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"outrider/mesh/identity"
	"outrider/offline/coresync"
)

// What is delivered from a mailbox is what comes after the node began to read
// it. A key can come later than the first bundle for it, and a node may have
// lost its store; so what lies in a mailbox already is listed, and what the
// node does not have is fetched. caught are the mailboxes that are done.
const (
	catchMin   = time.Second
	catchMax   = 5 * time.Minute
	catchOnce  = 16  // fetched at once
	catchSpool = 256 // parcels that wait for the node, at which nothing more is fetched
)

// catchUp works until ctx ends: what the node could not take is asked for
// again after a while, and then less and less often.
func (c *coreLife) catchUp(ctx context.Context) {
	wait := catchMin
	for ctx.Err() == nil {
		m, asOf := c.caught.behind(c.reads())
		if len(m.Tags)+len(m.Purges) == 0 {
			wait = catchMin
			select {
			case <-ctx.Done():
			case <-c.boxes:
			}
			continue
		}
		done, err := c.catchOne(ctx, m, asOf)
		switch {
		case err != nil && ctx.Err() == nil:
			c.u.log.Warn("what lies at the core cannot be listed; it is asked again", "err", err)
		case done:
			continue
		}
		sleepy(ctx, wait)
		wait = min(2*wait, catchMax)
	}
}

// catchOne lists mailboxes and fetches what is missing. Done are those of
// which the node had everything already.
func (c *coreLife) catchOne(ctx context.Context, m coresync.Mailboxes, asOf int) (done bool, err error) {
	names, err := c.u.edge.List(ctx, m)
	if err != nil {
		return false, err
	}
	missing := map[identity.Tag]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catchOnce)
	for _, n := range names {
		if c.store.has(n) {
			continue
		}
		missing[n.Tag] = true
		for c.store.spooling() >= catchSpool && gctx.Err() == nil {
			sleepy(gctx, coreTick)
		}
		g.Go(func() error { return c.fetch(gctx, n) })
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	lacks := func(t identity.Tag) bool { return missing[t] }
	c.caught.add(coresync.Mailboxes{Tags: slices.DeleteFunc(m.Tags, lacks), Purges: slices.DeleteFunc(m.Purges, lacks)}, asOf)
	return len(missing) == 0, nil
}

func (c *coreLife) fetch(ctx context.Context, n coresync.Name) error {
	p, err := c.u.edge.Fetch(ctx, n)
	switch {
	case errors.Is(err, coresync.ErrAbsent):
		return nil // it has died there since
	case errors.Is(err, coresync.ErrMalformed):
		return nil // and will not become better; whoever filed it is to blame
	case err != nil:
		return err
	}
	return c.take(ctx, p)
}
