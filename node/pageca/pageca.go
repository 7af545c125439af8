// Package pageca is the X.509 certificate authority of one network's web
// pages, and is used for nothing else: the mesh knows no X.509.
//
// What it promises: every node that holds a generation of the network's secret
// makes the same authority from it, to the last byte, with nobody in reach. A
// phone installs it once and then trusts the page of every node of the
// network. The authority may vouch for servers only, for names below .local
// only, and for no further authority; DESIGN.md says what that leaves open.
//
// A Keeper holds the certificate of one node's page and makes it anew before
// it ends and whenever the node's addresses are no longer those in it.
package pageca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"
)

// The authority's own dates are fixed: it must be the same on every node,
// whatever its clock says, and phones with a wrong clock must take it.
var (
	caNotBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	caNotAfter  = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC) // the last year that UTCTime has
)

// How long a page's certificate is valid. Apple takes at most 398 days, and a
// good part lies in the past for phones whose clocks are behind the node's.
const (
	leafBackdate = 30 * 24 * time.Hour
	leafAhead    = 365 * 24 * time.Hour
)

// MaxNames is how many addresses and names one certificate carries.
const MaxNames = 64

// permittedNames is all the authority may vouch for by name (RFC 5280, section
// 4.2.1.10): a page on the LAN, never a site of the internet.
var permittedNames = []string{"local", "localhost"}

// A CA is the authority of one generation of one network.
type CA struct {
	cert *x509.Certificate
	key  deterministic
}

// deterministic signs as RFC 6979 says, so that the same key signs the same
// certificate with the same bytes everywhere.
type deterministic struct{ *ecdsa.PrivateKey }

func (k deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// New makes the authority from 32 secret bytes. network tells networks apart
// in a phone's list of authorities; it is the short form of the network's id,
// never its name, since every TLS client is told it.
func New(seed [32]byte, network string) (*CA, error) {
	key, err := keyFrom(seed)
	if err != nil {
		return nil, fmt.Errorf("pageca: make key: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pageca: make key: %w", err)
	}
	id := sha256.Sum256(point)
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, id[:15]...)),
		Subject:      pkix.Name{CommonName: "Outrider pages " + network, Organization: []string{"Outrider"}},
		NotBefore:    caNotBefore, NotAfter: caNotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: permittedNames,
		SubjectKeyId: id[:20], SignatureAlgorithm: x509.ECDSAWithSHA256,
	}
	signer := deterministic{key}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("pageca: make authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pageca: make authority: %w", err)
	}
	return &CA{cert, signer}, nil
}

// keyFrom makes a P-256 key: the first of SHA-256(seed || 0), SHA-256(seed || 1)
// ... that is a scalar of the curve. All but one seed in 2^32 take the first.
func keyFrom(seed [32]byte) (*ecdsa.PrivateKey, error) {
	for i := range byte(8) {
		scalar := sha256.Sum256(append(seed[:], i))
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:]); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no scalar in eight tries")
}

// DER returns the authority's certificate.
func (c *CA) DER() []byte { return c.cert.Raw }

// PEM returns the authority's certificate as text.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// Name is how devices list the authority.
func (c *CA) Name() string { return c.cert.Subject.CommonName }

// Fingerprint is the SHA-256 of the certificate as devices show it: pairs of
// hex digits with colons.
func (c *CA) Fingerprint() string {
	sum := sha256.Sum256(c.cert.Raw)
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	pairs := make([]string, len(sum))
	for i := range pairs {
		pairs[i] = digits[2*i : 2*i+2]
	}
	return strings.Join(pairs, ":")
}

// Names are what a page is reached by.
type Names struct {
	Addrs []netip.Addr
	Hosts []string // below .local; others are left out, as nobody would believe them
}

// normal returns the names without zones, doubles and what cannot be vouched
// for, at most MaxNames.
func (n Names) normal() (out Names) {
	seen := map[string]bool{}
	add := func(s string) bool {
		if s == "" || seen[s] || len(seen) >= MaxNames {
			return false
		}
		seen[s] = true
		return true
	}
	for _, h := range n.Hosts {
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if strings.HasSuffix(h, ".local") && add(h) {
			out.Hosts = append(out.Hosts, h)
		}
	}
	for _, a := range n.Addrs {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !a.IsUnspecified() && add(a.String()) {
			out.Addrs = append(out.Addrs, a)
		}
	}
	return out
}

// covers reports whether all of m is in n.
func (n Names) covers(m Names) bool {
	have := map[string]bool{}
	for _, a := range n.Addrs {
		have[a.String()] = true
	}
	for _, h := range n.Hosts {
		have[h] = true
	}
	for _, a := range m.Addrs {
		if !have[a.String()] {
			return false
		}
	}
	for _, h := range m.Hosts {
		if !have[h] {
			return false
		}
	}
	return true
}

// issue makes a certificate for a page.
func (c *CA) issue(key *ecdsa.PrivateKey, names Names, now time.Time) (*tls.Certificate, error) {
	var serial [16]byte
	rand.Read(serial[:]) // never fails: crypto/rand
	serial[0] = serial[0]&0x7f | 1
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: "Outrider page"},
		NotBefore: now.Add(-leafBackdate), NotAfter: now.Add(leafAhead), DNSNames: names.Hosts,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, a := range names.Addrs {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, &key.PublicKey, c.key)
	if err != nil {
		return nil, fmt.Errorf("pageca: make certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pageca: make certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, bytes.Clone(c.cert.Raw)}, PrivateKey: key, Leaf: leaf}, nil
}
