package gossip

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"outrider/mesh/identity"
)

// Limits of the metadata, fixed by the format.
const (
	maxMetadata  = 200 // bytes
	maxMoreAddrs = 3   // addresses besides the one gossip runs on
)

// metadata is what a node says of itself to the whole group.
type metadata struct {
	Epoch    uint64   `cbor:"1,keyasint"`           // grows with every change and every start
	MeshPort uint16   `cbor:"2,keyasint"`           // TCP and UDP
	More     [][]byte `cbor:"3,keyasint,omitempty"` // further IP addresses, 4 or 16 bytes each
}

// signedPart is what a node's signature covers: who, where, and the body of
// the metadata as it is.
func signedPart(id identity.NodeID, at netip.AddrPort, body []byte) []byte {
	ip := at.Addr().Unmap().As16()
	b := append([]byte(nil), id[:]...)
	b = append(b, ip[:]...)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	return append(b, body...)
}

// signMetadata encodes m and signs it for the gossip address at.
func signMetadata(key identity.PrivateKey, at netip.AddrPort, m metadata) ([]byte, error) {
	body, err := identity.Marshal(m)
	if err != nil {
		return nil, err
	}
	sig := key.Sign(identity.DomainMember, signedPart(key.Public().NodeID(), at, body))
	b := append(body, sig[:]...)
	if len(b) > maxMetadata {
		return nil, fmt.Errorf("metadata of %d bytes, at most %d allowed", len(b), maxMetadata)
	}
	return b, nil
}

// openMetadata checks the signature of id for the gossip address at and
// decodes what it covers. Unknown keys are skipped.
func openMetadata(id identity.NodeID, at netip.AddrPort, b []byte) (m metadata, err error) {
	if len(b) > maxMetadata || len(b) <= ed25519.SignatureSize {
		return m, fmt.Errorf("metadata of %d bytes: %w", len(b), identity.ErrMalformed)
	}
	body, sig := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	if !id.PublicKey().Verify(identity.DomainMember, signedPart(id, at, body), sig) {
		return m, errForged
	}
	return decodeMetadata(body)
}

// decodeMetadata reads the body of metadata.
func decodeMetadata(body []byte) (m metadata, err error) {
	if err := identity.UnmarshalOpen(body, &m); err != nil {
		return metadata{}, err
	}
	if m.MeshPort == 0 || len(m.More) > maxMoreAddrs {
		return metadata{}, fmt.Errorf("mesh port %d, %d more addresses: %w", m.MeshPort, len(m.More), identity.ErrMalformed)
	}
	for _, ip := range m.More {
		if _, ok := netip.AddrFromSlice(ip); !ok {
			return metadata{}, fmt.Errorf("address of %d bytes: %w", len(ip), identity.ErrMalformed)
		}
	}
	return m, nil
}

// ips returns all addresses of the node, the one gossip runs on first.
func (m metadata) ips(at netip.AddrPort) []netip.Addr {
	all := []netip.Addr{at.Addr().Unmap()}
	for _, b := range m.More {
		if ip, ok := netip.AddrFromSlice(b); ok && !slices.Contains(all, ip.Unmap()) {
			all = append(all, ip.Unmap())
		}
	}
	return all
}

// meshAddrs returns where the node listens for links, best first.
func (m metadata) meshAddrs(at netip.AddrPort) []string {
	var addrs []string
	for _, ip := range m.ips(at) {
		addrs = append(addrs, netip.AddrPortFrom(ip, m.MeshPort).String())
	}
	return addrs
}

// nodeAddr converts memberlist's address of a node.
func nodeAddr(ip []byte, port uint16) (netip.AddrPort, error) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || port == 0 {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes, port %s: %w", len(ip), strconv.Itoa(int(port)), identity.ErrMalformed)
	}
	return netip.AddrPortFrom(a.Unmap(), port), nil
}
