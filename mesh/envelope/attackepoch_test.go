package envelope

import (
	"errors"
	"slices"
	"testing"

	"outrider/mesh/identity"
)

// rewrap is what a hostile member can make with its own keys and with what it
// learnt: an epoch start with chosen parts.
type rewrap struct {
	issuer *node
	to     *node
	secret key
	change func(op *Op, ros *roster)
	frame  func(f *frame)
	leaf   func(l treeHash) treeHash
}

func (r rewrap) make(t *testing.T) (identity.Tag, []byte, []byte) {
	t.Helper()
	k := r.issuer.Keyring
	ros, err := newRoster([]Member{{User: r.issuer.self.User, Device: r.issuer.self.Device}, {User: r.to.self.User, Device: r.to.self.Device}})
	if err != nil {
		t.Fatal(err)
	}
	op := Op{
		Kind: OpDirect, Conversation: DirectConversation(k.self.Network, r.issuer.self.User, r.to.self.User), Issuer: r.issuer.self.Device,
		Sent: uint64(r.issuer.world.clock().UnixMilli()), Transport: TransportCold,
	}
	if r.change != nil {
		r.change(&op, &ros)
	}
	op.RosterHash = hashRoster(ros.encode())
	raw, err := op.encode()
	if err != nil {
		t.Fatal(err)
	}
	hash := hashOp(k.self.Network, raw)
	p := r.to.recipient().Prekey
	enc, wr, err := encapsulate(k.self.Network, r.to.self.Device, p.Number, p.Public)
	if err != nil {
		t.Fatal(err)
	}
	tag := identity.InboxTag(r.to.world.tagKey, r.to.self.Device, p.Number)
	h := header(tag, wr.purge())
	secret := wr.secretKey(hash, op.Issuer, r.to.self.Device).seal(nil, r.secret[:], secretAAD(hash, op.Issuer, r.to.self.Device, op.RosterHash))
	leaf := wrapLeaf(r.to.self.Device, p.Number, h, enc, secret, nil)
	if r.leaf != nil {
		leaf = r.leaf(leaf)
	}
	sig := r.issuer.self.Key.Sign(identity.DomainEpoch, epochSigned(hash, leaf))
	f := frame{Op: raw, Roster: ros.encode(), Leaves: 1, Signature: sig[:], Secret: secret}
	if r.frame != nil {
		r.frame(&f)
	}
	plain, err := f.encode(PadBucket)
	if err != nil {
		t.Fatal(err)
	}
	return tag, h, wr.frameKey().seal(slices.Clip(enc), plain, frameAAD(h))
}

func TestAttackEpochStarts(t *testing.T) {
	w := newWorld(t)
	bob, mallory, carol := w.node('b', 1), w.node('m', 1), w.node('c', 1)
	// The control: an honest start by the same means opens.
	tag, h, p := rewrap{issuer: mallory, to: bob}.make(t)
	if _, err := bob.OpenEpoch(tag, h, p); err != nil {
		t.Fatal(err)
	}
	held := len(bob.epochs)
	before := bob.disk.state()
	for name, c := range map[string]struct {
		r    rewrap
		want error
	}{
		"in another's name":      {rewrap{change: func(op *Op, ros *roster) { op.Issuer = carol.self.Device; *ros = withMember(*ros, carol) }}, ErrForged},
		"issuer not a member":    {rewrap{change: func(op *Op, ros *roster) { op.Issuer = carol.self.Device }}, ErrForged},
		"reader not a member":    {rewrap{change: func(op *Op, ros *roster) { *ros = withMember(without(*ros, bob), carol) }}, ErrForged},
		"three users":            {rewrap{change: func(op *Op, ros *roster) { *ros = withMember(*ros, carol) }}, ErrForged},
		"another conversation":   {rewrap{change: func(op *Op, ros *roster) { op.Conversation[0] ^= 1 }}, ErrForged},
		"device of another user": {rewrap{change: func(op *Op, ros *roster) { *ros = stolen(*ros, carol, bob.self.User) }}, ErrForged},
		"reader as another user": {rewrap{change: func(op *Op, ros *roster) { *ros = stolen(without(*ros, bob), bob, mallory.self.User) }}, ErrForged},
		"as compliance reader":   {rewrap{change: func(op *Op, ros *roster) { (*ros)[ros.slot(mallory.self.Device)].Flags = MemberCompliance }}, ErrForged},
		"in the reader's name":   {rewrap{change: func(op *Op, ros *roster) { op.Issuer = bob.self.Device }}, ErrForged},
		"tree of other wraps":    {rewrap{leaf: func(l treeHash) treeHash { l[0] ^= 1; return l }}, ErrForged},
		"roster exchanged":       {rewrap{frame: func(f *frame) { f.Roster = withMember(mustRoster(f.Roster), carol).encode() }}, ErrForged},
		"device slipped in":      {rewrap{frame: func(f *frame) { f.Roster = withGhost(mustRoster(f.Roster), bob.self.User).encode() }}, ErrForged},
		"path too long":          {rewrap{frame: func(f *frame) { f.Path = make([]byte, 32) }}, ErrForged},
		"path torn":              {rewrap{frame: func(f *frame) { f.Path = make([]byte, 31) }}, ErrForged},
		"leaf outside":           {rewrap{frame: func(f *frame) { f.Leaf = 1 }}, ErrMalformed},
		"leaves without end":     {rewrap{frame: func(f *frame) { f.Leaves = 1 << 40; f.Leaf = 1 << 39 }}, ErrMalformed},
		"no signature":           {rewrap{frame: func(f *frame) { f.Signature = nil }}, ErrMalformed},
		"reply key torn":         {rewrap{frame: func(f *frame) { f.Reply = make([]byte, 9) }}, ErrMalformed},
		"reply key added":        {rewrap{frame: func(f *frame) { f.Reply = make([]byte, replySize) }}, ErrForged},
		"secret exchanged":       {rewrap{frame: func(f *frame) { f.Secret = make([]byte, wrappedSize) }}, ErrForged},
		"room operation":         {rewrap{change: func(op *Op, ros *roster) { op.Kind = OpCreate }}, ErrUnsupported},
		"subtree transport":      {rewrap{change: func(op *Op, ros *roster) { op.Transport = TransportSubtree }}, ErrUnsupported},
		"with parents":           {rewrap{change: func(op *Op, ros *roster) { op.Parents = [][32]byte{{1}} }}, ErrUnsupported},
		"roster by hash":         {rewrap{frame: func(f *frame) { f.Roster = nil }}, ErrUnsupported},
		"roster torn":            {rewrap{frame: func(f *frame) { f.Roster = f.Roster[:20] }}, ErrMalformed},
		"operation torn":         {rewrap{frame: func(f *frame) { f.Op = f.Op[:20] }}, ErrMalformed},
	} {
		c.r.issuer, c.r.to = mallory, bob
		tag, h, p := c.r.make(t)
		if _, err := bob.OpenEpoch(tag, h, p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if bob.disk.state() != before || len(bob.epochs) != held {
		t.Fatal("a refused start changed the state")
	}
}

func mustRoster(raw []byte) roster {
	r, err := parseRoster(raw)
	if err != nil {
		panic(err)
	}
	return r
}

func withMember(r roster, n *node) roster { return stolen(r, n, n.self.User) }

func stolen(r roster, n *node, as identity.UserID) roster {
	r, err := newRoster(append(slices.Clone(r), Member{User: as, Device: n.self.Device}))
	if err != nil {
		panic(err)
	}
	return r
}

// withGhost adds a device of a user that nobody has heard of.
func withGhost(r roster, u identity.UserID) roster {
	r, err := newRoster(append(slices.Clone(r), Member{User: u, Device: identity.DeviceID{1, 2, 3}}))
	if err != nil {
		panic(err)
	}
	return r
}

func without(r roster, n *node) roster {
	return slices.DeleteFunc(slices.Clone(r), func(m Member) bool { return m.Device == n.self.Device })
}

// Unknown key share: Mallory, who is in an epoch with Alice, gives its secret
// to Bob as her own. What Alice says to Mallory must not appear at Bob's as
// said to him.
func TestAttackUnknownKeyShare(t *testing.T) {
	w := newWorld(t)
	alice, bob, mallory := w.node('a', 1), w.node('b', 1), w.node('m', 1)
	s := key{42}
	tag, h, p := rewrap{issuer: alice, to: mallory, secret: s}.make(t)
	am, err := mallory.OpenEpoch(tag, h, p)
	if err != nil {
		t.Fatal(err)
	}
	tag, h, p = rewrap{issuer: mallory, to: bob, secret: s}.make(t)
	mb, err := bob.OpenEpoch(tag, h, p)
	if err != nil {
		t.Fatal(err) // it is an honest start of her own, with a secret she chose
	}
	if am.ID == mb.ID {
		t.Fatal("two operations with one id")
	}
	for j := range uint32(Days) {
		if dayTag(mallory.epochs[am.ID].tag, j) == dayTag(bob.epochs[mb.ID].tag, j) {
			t.Fatal("the same secret gives the same tags under another operation")
		}
	}
	// Passing on the very wrap that she got does not even open.
	if _, err := bob.OpenEpoch(identity.InboxTag(w.tagKey, bob.self.Device, 1), h, p); err == nil {
		if info, _ := bob.Info(mb.ID); info.ID != mb.ID {
			t.Fatal("another epoch")
		}
	}
	tag, h, p = rewrap{issuer: alice, to: mallory, secret: s}.make(t)
	if _, err := bob.OpenEpoch(identity.InboxTag(w.tagKey, bob.self.Device, 1), h, p); !errors.Is(err, ErrForged) {
		t.Fatalf("a wrap for another device: %v", err)
	}
	_ = tag
}
