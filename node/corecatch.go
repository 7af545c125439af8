package node

import (
	"context"
	"errors"
	"slices"
	"sync"
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

// lists are what a core tells of its mailboxes.
type lists interface {
	List(context.Context, coresync.Mailboxes) ([]coresync.Name, error)
	Fetch(context.Context, coresync.Name) (coresync.Parcel, error)
}

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
// which the node had everything already that there is.
func (c *coreLife) catchOne(ctx context.Context, m coresync.Mailboxes, asOf int) (done bool, err error) {
	names, err := c.lists.List(ctx, m)
	if err != nil {
		return false, err
	}
	var mu sync.Mutex
	missing := map[identity.Tag]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catchOnce)
	for _, n := range names {
		if c.store.has(n) {
			continue
		}
		for c.store.spooling() >= catchSpool && gctx.Err() == nil {
			sleepy(gctx, coreTick)
		}
		g.Go(func() error {
			there, err := c.fetch(gctx, n)
			if there {
				mu.Lock()
				missing[n.Tag] = true
				mu.Unlock()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	lacks := func(t identity.Tag) bool { return missing[t] }
	c.caught.add(coresync.Mailboxes{Tags: slices.DeleteFunc(m.Tags, lacks), Purges: slices.DeleteFunc(m.Purges, lacks)}, asOf)
	return len(missing) == 0, nil
}

// fetch takes what a list names; there tells whether there was anything to
// take. A thing that has died since is not there, nor is a malformed one: it
// will not become better, and whoever filed it is to blame.
func (c *coreLife) fetch(ctx context.Context, n coresync.Name) (there bool, err error) {
	p, err := c.lists.Fetch(ctx, n)
	switch {
	case errors.Is(err, coresync.ErrAbsent), errors.Is(err, coresync.ErrMalformed):
		return false, nil
	case err != nil:
		return true, err
	}
	return true, c.take(ctx, p)
}
