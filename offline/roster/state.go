package roster

import (
	"bytes"
	"slices"

	"outrider/mesh/identity"
)

// state is what the applied objects say. The roster's lock guards it.
type state struct {
	objects map[[16]byte]*object // of each kind and subject the highest number

	issuers    map[identity.KeyID]identity.Chain // admins and delegates, authenticated
	users      map[identity.UserID][]*object     // at most one final, some provisional
	userKeys   map[identity.KeyID]identity.UserID
	devices    map[identity.DeviceID]*object
	deviceKeys map[identity.KeyID]identity.DeviceID
	ofUser     map[identity.UserID]map[identity.DeviceID]bool
	nodes      map[identity.NodeID][]*object
	closed     map[[identity.SubjectSize]byte]uint64 // node tickets by subject: generation of the final certificate + 1
	prekeys    map[identity.DeviceID]*object
	lastResort map[identity.DeviceID]*object
	profiles   map[identity.UserID][]*object

	revokers map[identity.KeyID]*revoker
	revoked  map[identity.KeyID]bool
}

// A revoker is one signer of revocations and all that it ever revoked.
type revoker struct {
	number    uint64
	at        uint32
	keys      map[identity.KeyID]bool
	conflicts int
	sums      map[[32]byte]bool // of the objects that make it up; true for those in conflict
}

func (by *revoker) has(sum [32]byte) bool {
	_, ok := by.sums[sum]
	return ok
}

func newState() state {
	return state{
		objects: map[[16]byte]*object{}, issuers: map[identity.KeyID]identity.Chain{},
		users: map[identity.UserID][]*object{}, userKeys: map[identity.KeyID]identity.UserID{},
		devices: map[identity.DeviceID]*object{}, deviceKeys: map[identity.KeyID]identity.DeviceID{},
		ofUser: map[identity.UserID]map[identity.DeviceID]bool{}, nodes: map[identity.NodeID][]*object{},
		closed:  map[[identity.SubjectSize]byte]uint64{},
		prekeys: map[identity.DeviceID]*object{}, lastResort: map[identity.DeviceID]*object{},
		profiles: map[identity.UserID][]*object{},
		revokers: map[identity.KeyID]*revoker{}, revoked: map[identity.KeyID]bool{},
	}
}

// learn keeps the admin and the delegate of an authenticated chain, so that
// what they issued can be judged.
func (s *state) learn(c identity.Chain) (news bool) {
	for i, cert := range c {
		if cert.Class != identity.ClassAdmin && cert.Class != identity.ClassDelegate {
			continue
		}
		id := cert.Key.ID()
		if old, ok := s.issuers[id]; ok && !newer(cert, old.Leaf()) {
			continue
		}
		s.issuers[id] = slices.Clone(c[i:])
		news = true
	}
	return news
}

// newer orders two certificates of one key.
func newer(a, b identity.Certificate) bool {
	na, nb := certNumber(a, identity.Certificate{}), certNumber(b, identity.Certificate{})
	if na != nb {
		return na > nb
	}
	return bytes.Compare(a.Raw(), b.Raw()) > 0
}

// wins reports whether o replaces old. Two objects of one number are an
// equivocation: everybody must still pick the same one.
func (o *object) wins(old *object) bool {
	if o.number != old.number {
		return o.number > old.number
	}
	return bytes.Compare(o.sum[:], old.sum[:]) > 0
}

// put enters an authenticated object and reports whether anything changed.
func (s *state) put(o *object) bool {
	news := s.learn(o.chain)
	if o.Kind == KindRevocation {
		return s.putRevocation(o) || news
	}
	key := o.key()
	old := s.objects[key]
	if old != nil && old.sum == o.sum {
		old.plain, old.generation = o.plain, max(old.generation, o.generation)
		return news
	}
	if old != nil && !o.wins(old) || !s.roomFor(o) {
		return news
	}
	s.objects[key] = o
	s.drop(old)
	s.index(o)
	return true
}

// index enters o where the views look for it.
func (s *state) index(o *object) {
	switch o.Kind {
	case KindUser:
		uid := o.cert.UserID()
		s.users[uid] = append(s.users[uid], o)
		s.userKeys[o.cert.Key.ID()] = uid
		s.closeUser(uid)
	case KindDevice:
		id, uid := o.cert.DeviceID(), o.cert.UserID()
		s.devices[id], s.deviceKeys[o.cert.Key.ID()] = o, id
		if s.ofUser[uid] == nil {
			s.ofUser[uid] = map[identity.DeviceID]bool{}
		}
		s.ofUser[uid][id] = true
	case KindNode:
		id := o.cert.NodeID()
		s.nodes[id] = append(s.nodes[id], o)
		if subject := o.cert.Subject; len(subject) > 0 && !o.chain.Provisional() {
			k := [identity.SubjectSize]byte(subject)
			s.closed[k] = max(s.closed[k], uint64(o.cert.Generation)+1)
		}
	case KindPrekey:
		s.prekeys[o.prekey.Device] = o
	case KindLastResort:
		s.lastResort[o.prekey.Device] = o
	case KindProfile:
		s.profiles[o.holder] = append(s.profiles[o.holder], o)
	}
}

// drop takes a replaced object out of the views' lists.
func (s *state) drop(old *object) {
	if old == nil {
		return
	}
	is := func(o *object) bool { return o == old }
	switch old.Kind {
	case KindUser:
		s.users[old.cert.UserID()] = slices.DeleteFunc(s.users[old.cert.UserID()], is)
	case KindNode:
		s.nodes[old.cert.NodeID()] = slices.DeleteFunc(s.nodes[old.cert.NodeID()], is)
	case KindProfile:
		s.profiles[old.holder] = slices.DeleteFunc(s.profiles[old.holder], is)
	}
}

// closeUser drops the provisional certificates that a final one has closed.
func (s *state) closeUser(uid identity.UserID) {
	final, ok := s.finalGeneration(uid)
	if !ok {
		return
	}
	s.users[uid] = slices.DeleteFunc(s.users[uid], func(o *object) bool {
		closed := o.chain.Provisional() && o.cert.Generation <= final
		if closed {
			delete(s.objects, o.key())
		}
		return closed
	})
}

func (s *state) finalGeneration(uid identity.UserID) (generation uint32, ok bool) {
	for _, o := range s.users[uid] {
		if !o.chain.Provisional() {
			generation, ok = max(generation, o.cert.Generation), true
		}
	}
	return generation, ok
}

// ticketClosed reports whether an admin's final certificate has closed the
// ticket that a provisional chain rests on: a user's for users and their
// devices, a node's for nodes.
func (s *state) ticketClosed(c identity.Chain) bool {
	for i, d := range c {
		if d.Class != identity.ClassDelegate || i == 0 {
			continue
		}
		if c[0].Class == identity.ClassNode {
			return uint64(d.Generation) < s.closed[[identity.SubjectSize]byte(d.Subject)]
		}
		final, ok := s.finalGeneration(identity.UserID(d.Subject))
		return ok && d.Generation <= final
	}
	return false
}

// roomFor applies the limits on what one ticket or one user may add.
func (s *state) roomFor(o *object) bool {
	switch o.Kind {
	case KindUser:
		if !o.chain.Provisional() {
			return true
		}
		n := 0
		for _, u := range s.users[o.cert.UserID()] {
			if u.chain.Provisional() && u.cert.Generation == o.cert.Generation && u.cert.Key != o.cert.Key {
				n++
			}
		}
		return n < maxProvisional && !s.ticketClosed(o.chain)
	case KindDevice:
		n := 0
		for id := range s.ofUser[o.cert.UserID()] {
			if d := s.devices[id]; d.cert.Issuer == o.cert.Issuer && d.cert.Key != o.cert.Key {
				n++
			}
		}
		return n < maxDevices
	case KindConfig:
		return s.roomForConfig(o)
	}
	return true
}

// standing is how a revocation set relates to what its signer said before.
type standing int

const (
	repeats   standing = iota // nothing new
	continues                 // the next set of a well-behaved signer
	conflicts                 // new keys in an old number, or keys left out
)

func (s *state) standingOf(v revocation) standing {
	by := s.revokers[v.signer]
	switch {
	case by == nil:
		return continues
	case v.number <= by.number && v.within(by.keys):
		return repeats
	case v.number > by.number && v.covers(by.keys):
		return continues
	}
	return conflicts
}

// inConflict reports whether a set contradicts its signer's others.
func (s *state) inConflict(o *object) bool {
	if by := s.revokers[o.revoked.signer]; by != nil && by.has(o.sum) {
		return by.sums[o.sum]
	}
	return s.standingOf(o.revoked) == conflicts
}

// putRevocation adds to what is revoked; nothing ever takes away from it, not
// even an admin's own newer set that leaves a key out.
func (s *state) putRevocation(o *object) bool {
	v := o.revoked
	at, by := s.standingOf(o.revoked), s.revokers[v.signer]
	if by == nil {
		by = &revoker{keys: map[identity.KeyID]bool{}, sums: map[[32]byte]bool{}}
		s.revokers[v.signer] = by
	}
	if by.has(o.sum) {
		return false
	}
	switch at {
	case continues:
		by.number = v.number
		if by.conflicts == 0 {
			clear(by.sums)
		}
	case conflicts:
		by.conflicts++
		by.number = max(by.number, v.number)
	}
	by.sums[o.sum] = at == conflicts
	by.at = max(by.at, v.at)
	news := false
	for _, k := range v.keys {
		news = news || !s.revoked[k]
		by.keys[k], s.revoked[k] = true, true
	}
	return news
}

// chainRevoked reports whether any key of a chain is revoked.
func (s *state) chainRevoked(c identity.Chain) bool {
	for _, cert := range c {
		if s.revoked[cert.Key.ID()] {
			return true
		}
	}
	return false
}
