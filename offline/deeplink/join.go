package deeplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"outrider/mesh/identity"
)

const (
	// kindJoin is the first element of a join object.
	kindJoin = 1
	// MaxJoin is the most a sealed join object may have, in bytes: one QR code
	// of version 20-M (decisions.md 12).
	MaxJoin = 570
	// MaxAddrs is how many addresses a join object may carry.
	MaxAddrs = 3
	// MaxUser is the longest name of a user in a join object, in bytes. A longer
	// one is left out; the network tells it later.
	MaxUser = 24
	// maxAdmin and maxDelegate are the limits of the two certificates in it.
	maxAdmin, maxDelegate = 125, 110
)

// A Join is what a new node needs to enter a network with nobody to ask: whom
// to trust, a key to be certified with, and where to knock. It carries no
// long-term private key; the node makes its own.
type Join struct {
	Network      identity.NetworkID     // hash of the root record, which the first peer hands over
	Name         string                 // the network's, at most 16 bytes
	User         string                 // what the user is called, at most 24 bytes; may be empty
	Admin        identity.Certificate   // the issuer
	Delegate     identity.Certificate   // what the ticket allows
	DelegateSeed [32]byte               // its private key, for one use
	TicketID     [16]byte               // names the ticket to its issuer
	TicketSecret [32]byte               // proves to the issuer that this node had the ticket
	Secret       identity.NetworkSecret // one generation
	Addrs        []string               // host:port, best first, at most 3
	Policy       uint32                 // version of the policy to ask for
	Expiry       time.Time              // whole minutes; the ticket's end
}

type joinWire struct {
	_            struct{} `cbor:",toarray"`
	Kind         uint8
	Network      []byte
	Name         string
	User         string
	Admin        []byte
	Delegate     []byte
	DelegateSeed []byte
	TicketID     []byte
	TicketSecret []byte
	Generation   uint32
	Secret       []byte
	Addrs        []any // 6 or 18 bytes of address and port, or text
	Policy       uint32
	Expiry       uint32 // minutes since 1970
}

// NewJoin encodes j as the content of a frame. It returns ErrTooLarge, with
// the number of bytes too many, if the sealed frame would exceed MaxJoin:
// then name fewer or shorter addresses.
func NewJoin(j Join) ([]byte, error) {
	if err := j.check(); err != nil {
		return nil, fmt.Errorf("deeplink: new join: %w", err)
	}
	delegate, err := identity.CompactDelegate(j.Delegate)
	if err != nil {
		return nil, fmt.Errorf("deeplink: new join: %w", err)
	}
	addrs, err := packAddrs(j.Addrs)
	if err != nil {
		return nil, fmt.Errorf("deeplink: new join: %w", err)
	}
	content, err := identity.Marshal(joinWire{
		Kind: kindJoin, Network: j.Network[:], Name: j.Name, User: j.User, Admin: j.Admin.Raw(), Delegate: delegate,
		DelegateSeed: j.DelegateSeed[:], TicketID: j.TicketID[:], TicketSecret: j.TicketSecret[:],
		Generation: j.Secret.Generation, Secret: j.Secret.Secret[:], Addrs: addrs,
		Policy: j.Policy, Expiry: uint32(j.Expiry.Unix() / 60),
	})
	if err != nil {
		return nil, fmt.Errorf("deeplink: new join: %w", err)
	}
	if n := len(content) + overhead; n > MaxJoin || len(j.Admin.Raw()) > maxAdmin || len(delegate) > maxDelegate {
		return nil, fmt.Errorf("deeplink: new join: %d bytes over the %d of one QR code, name fewer or shorter addresses: %w", n-MaxJoin, MaxJoin, ErrTooLarge)
	}
	return content, nil
}

// OpenJoin opens and checks a join link, a join file's content or a bare
// frame. unverified says that the clock is not to be trusted, so that the
// expiry could not be judged: keep that mark, and call CheckTime again once
// the time is known. Every error wraps one of ErrDamaged, ErrVersion,
// ErrTooLarge, ErrPassword, ErrIssuer, ErrExpired, kdf.ErrParams,
// kdf.ErrBusy or the context's.
func OpenJoin(ctx context.Context, link string, password []byte, clock identity.Clock) (j Join, unverified bool, err error) {
	frame, err := DecodeLink(link)
	if err != nil {
		return Join{}, false, err
	}
	if IsUpdate(frame) {
		return Join{}, false, fmt.Errorf("deeplink: open join: %w", ErrIsUpdate)
	}
	f, err := Open(ctx, frame, password)
	if err != nil {
		return Join{}, false, err
	}
	if j, err = ParseJoin(f); err != nil {
		return Join{}, false, err
	}
	if unverified, err = j.CheckTime(clock); err != nil {
		return Join{}, false, err
	}
	return j, unverified, nil
}

// ParseJoin reads a join object from an opened frame and checks that the
// admin it carries signed it and issued the delegate. That the admin belongs
// to the network is known only once the root record with hash Network is
// there: verify Chain then. It returns ErrDamaged, ErrVersion or ErrIssuer.
func ParseJoin(f Frame) (Join, error) {
	w, err := decodeJoin(f.content)
	if err != nil {
		return Join{}, err
	}
	j := Join{
		Network: identity.NetworkID(w.Network), Name: w.Name, User: w.User, DelegateSeed: [32]byte(w.DelegateSeed),
		TicketID: [16]byte(w.TicketID), TicketSecret: [32]byte(w.TicketSecret),
		Secret: identity.NetworkSecret{Generation: w.Generation, Secret: [32]byte(w.Secret)},
		Policy: w.Policy, Expiry: time.Unix(int64(w.Expiry)*60, 0).UTC(),
	}
	if j.Admin, err = identity.ParseCertificate(w.Admin); err != nil {
		return Join{}, fmt.Errorf("deeplink: read join: %v: %w", err, ErrDamaged)
	}
	if _, err := f.Verify(j.Admin.Key); err != nil {
		return Join{}, err
	}
	key := identity.PrivateKeyFromSeed(j.DelegateSeed).Public()
	if j.Delegate, err = identity.ExpandDelegate(w.Delegate, key, j.Admin.Key.ID()); err != nil {
		return Join{}, fmt.Errorf("deeplink: read join: %v: %w", err, ErrDamaged)
	}
	if j.Addrs, err = unpackAddrs(w.Addrs); err != nil {
		return Join{}, fmt.Errorf("deeplink: read join: %w", err)
	}
	if err := j.check(); err != nil {
		return Join{}, fmt.Errorf("deeplink: read join: %w", err)
	}
	return j, nil
}

func decodeJoin(content []byte) (w joinWire, err error) {
	var head []any
	if err := identity.UnmarshalOpen(content, &head); err != nil || len(head) == 0 {
		return w, fmt.Errorf("deeplink: read join: content is no array: %w", ErrDamaged)
	}
	switch kind, ok := head[0].(uint64); {
	case ok && kind == kindUpdate:
		return w, fmt.Errorf("deeplink: read join: %w", ErrIsUpdate)
	case !ok || kind != kindJoin:
		return w, fmt.Errorf("deeplink: read join: content of another kind than a join: %w", ErrVersion)
	}
	if err := identity.Unmarshal(content, &w); err != nil {
		return w, fmt.Errorf("deeplink: read join: %v: %w", err, ErrDamaged)
	}
	if w.Addrs == nil {
		return w, fmt.Errorf("deeplink: read join: no list of addresses: %w", ErrDamaged)
	}
	for _, f := range []struct {
		b []byte
		n int
	}{{w.Network, 32}, {w.DelegateSeed, 32}, {w.TicketID, 16}, {w.TicketSecret, 32}, {w.Secret, 32}} {
		if len(f.b) != f.n {
			return w, fmt.Errorf("deeplink: read join: a field of %d bytes, want %d: %w", len(f.b), f.n, ErrDamaged)
		}
	}
	return w, nil
}

// check holds for a join object on both sides.
func (j Join) check() error {
	if err := identity.CheckNetworkName(j.Name); err != nil {
		return fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	if len(j.User) > MaxUser || !utf8.ValidString(j.User) || strings.ContainsFunc(j.User, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return fmt.Errorf("user's name is not printable, or longer than %d bytes: %w", MaxUser, ErrDamaged)
	}
	if j.Admin.Class != identity.ClassAdmin || j.Delegate.Class != identity.ClassDelegate ||
		identity.PrivateKeyFromSeed(j.DelegateSeed).Public() != j.Delegate.Key {
		return fmt.Errorf("certificates are not an admin's and this delegate's: %w", ErrIssuer)
	}
	if err := identity.VerifyIssued(j.Network, j.Admin, j.Delegate); err != nil {
		return fmt.Errorf("%v: %w", err, ErrIssuer)
	}
	if m := j.Expiry.Unix() / 60; m <= 0 || m > 1<<32-1 {
		return fmt.Errorf("expiry out of range: %w", ErrDamaged)
	}
	if j.Delegate.NotAfter.After(j.Expiry.Add(identity.ProvisionalGrace)) {
		return fmt.Errorf("delegate outlives its ticket by more than %v: %w", identity.ProvisionalGrace, ErrIssuer)
	}
	if len(j.Addrs) > MaxAddrs {
		return fmt.Errorf("%d addresses, at most %d fit: %w", len(j.Addrs), MaxAddrs, ErrTooLarge)
	}
	return nil
}

// CheckTime judges the ticket's expiry. A trusted clock is obeyed and gives
// ErrExpired. One that is not never refuses; unverified then tells the caller
// to keep the ticket marked and to call again when the time is known
// (decisions.md 12). Time past the expiry is in any case enough to enrol only
// while the delegate's certificate lasts, which peers judge by themselves.
func (j Join) CheckTime(clock identity.Clock) (unverified bool, err error) {
	if !clock.Trusted() {
		return true, nil
	}
	if !clock.Now().Before(j.Expiry) {
		return false, fmt.Errorf("deeplink: ended %s: %w", j.Expiry.Format(time.RFC3339), ErrExpired)
	}
	return false, nil
}

// Chain returns the delegate's chain, to be verified when the root record is
// known.
func (j Join) Chain() identity.Chain { return identity.Chain{j.Delegate, j.Admin} }

// CertifyUser spends the ticket on a user's key and returns the user's
// provisional chain. It returns identity.ErrRole if the ticket is for a node
// only.
func (j Join) CertifyUser(user identity.PublicKey) (identity.Chain, error) {
	return j.certify(identity.Certificate{
		Class: identity.ClassUser, Key: user, Roles: j.Delegate.Roles &^ (identity.RoleUser | identity.RoleNode),
	})
}

// CertifyNode spends the ticket on a node's key and returns the node's
// provisional chain, its hello. It returns identity.ErrRole if the ticket is
// for a user only.
func (j Join) CertifyNode(node identity.NodeID) (identity.Chain, error) {
	return j.certify(identity.Certificate{Class: identity.ClassNode, Key: node.PublicKey()})
}

// certify fills in what the delegate fixes. The validity is the delegate's
// own: the clock of a node that joins may be anything.
func (j Join) certify(c identity.Certificate) (identity.Chain, error) {
	c.Subject, c.Generation = j.Delegate.Subject, j.Delegate.Generation
	c.NotBefore, c.NotAfter = j.Delegate.NotBefore, j.Delegate.NotAfter
	c, err := identity.Issue(j.Network, identity.PrivateKeyFromSeed(j.DelegateSeed), c)
	if err != nil {
		return nil, fmt.Errorf("deeplink: redeem: %w", err)
	}
	if err := identity.VerifyIssued(j.Network, j.Delegate, c); err != nil {
		return nil, fmt.Errorf("deeplink: redeem: %w", err)
	}
	return identity.Chain{c, j.Delegate, j.Admin}, nil
}

// packAddrs writes an IP address and port as 6 or 18 bytes, a name as text.
func packAddrs(addrs []string) ([]any, error) {
	out := []any{}
	for _, a := range addrs {
		host, port, err := net.SplitHostPort(a)
		if err != nil || !validHost(host) || !validPort(port) {
			return nil, fmt.Errorf("%q is not host:port", a)
		}
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			out = append(out, a)
			continue
		}
		if ap.Addr().Zone() != "" {
			return nil, fmt.Errorf("%q means nothing on another machine (it has a zone)", a)
		}
		ip := ap.Addr().Unmap().AsSlice()
		out = append(out, append(ip, byte(ap.Port()>>8), byte(ap.Port())))
	}
	return out, nil
}

var errAddr = errors.New("address of an unknown form")

func unpackAddrs(packed []any) ([]string, error) {
	var out []string
	for _, p := range packed {
		s, err := unpackAddr(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
		}
		out = append(out, s)
	}
	again, err := packAddrs(out)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	for i := range again { // one way to write each address
		a, ok1 := again[i].([]byte)
		b, ok2 := packed[i].([]byte)
		if ok1 != ok2 || ok1 && !bytes.Equal(a, b) {
			return nil, fmt.Errorf("%w: %w", errAddr, ErrDamaged)
		}
	}
	return out, nil
}

func unpackAddr(p any) (string, error) {
	switch v := p.(type) {
	case string:
		return v, nil
	case []byte:
		if len(v) != 6 && len(v) != 18 {
			return "", errAddr
		}
		ip, _ := netip.AddrFromSlice(v[:len(v)-2])
		port := v[len(v)-2:]
		return net.JoinHostPort(ip.String(), strconv.Itoa(int(port[0])<<8|int(port[1]))), nil
	}
	return "", errAddr
}
