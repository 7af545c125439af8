package roster

import (
	"time"

	"outrider/mesh/identity"
)

// newPerDay is how many new objects of one kind a signer gets accepted per
// day, admins per subject (decisions.md 10). It bounds what a hostile member
// can make every node keep and carry.
const newPerDay = 2

const day = 24 * time.Hour

// A spender is who pays for a new object. Admins pay per subject, so that one
// can issue five hundred users on one evening; everybody else pays for all
// subjects together, since a device or a redeemed node costs nothing to make.
type spender struct {
	kind    Kind
	signer  identity.KeyID
	subject string
}

// A budget counts new objects by the node's own elapsed time. It is empty
// after a restart, which no attacker can cause at will.
type budget map[spender][]spent

type spent struct {
	at  time.Duration
	sum [32]byte
}

func spenderOf(o *object, byAdmin bool) spender {
	s := spender{kind: o.Kind, signer: o.signer}
	if byAdmin {
		s.subject = string(o.subject)
	}
	return s
}

// allow reports whether o may be accepted now, and books it. An object that
// was booked already is free.
func (b budget) allow(s spender, o *object, now time.Duration) bool {
	var live []spent
	for _, x := range b[s] {
		if x.sum == o.sum {
			return true
		}
		if now-x.at < day {
			live = append(live, x)
		}
	}
	if len(live) >= newPerDay {
		b[s] = live
		return false
	}
	b[s] = append(live, spent{now, o.sum})
	return true
}

// prune forgets what is older than a day, when there is much of it.
func (b budget) prune(now time.Duration) {
	if len(b) < 1024 {
		return
	}
	for s, list := range b {
		if now-list[len(list)-1].at >= day {
			delete(b, s)
		}
	}
}
