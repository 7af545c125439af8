package identity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// MaxVoucher is the most a voucher may have, in bytes.
const MaxVoucher = 256

// A Voucher is an admin's word for one generation of the network secret: it
// names the secret by its hash. The secret itself is handed from node to node
// and is in no signed object (decisions.md 13).
type Voucher struct {
	Generation uint32
	Hash       [32]byte // of the secret, see Hash
	Signer     KeyID
	// After is the number of the signer's set of revocations that led to this
	// generation, 0 for none. Who has not heard that set hands the secret to
	// nobody: it might be one of the revoked.
	After uint64
	At    time.Time // whole minutes, by the signer's clock

	raw []byte
}

// voucherBody is the signed part: a CBOR array of five.
type voucherBody struct {
	_          struct{} `cbor:",toarray"`
	Generation uint32
	Hash       []byte
	Signer     []byte
	After      uint64
	At         uint32
}

// Hash is what a voucher names the secret by.
func (s NetworkSecret) Hash() [32]byte {
	return Hash(LabelSecretHash, binary.BigEndian.AppendUint32(nil, s.Generation), s.Secret[:])
}

// Vouch signs for s as admin.
func (s NetworkSecret) Vouch(network NetworkID, admin PrivateKey, after uint64, at time.Time) (Voucher, error) {
	m, ok := minutes(at)
	if !ok || s.Generation == 0 {
		return Voucher{}, fmt.Errorf("identity: vouch for network secret: generation 0, or a time outside 1970 to 6053: %w", ErrMalformed)
	}
	v := Voucher{Generation: s.Generation, Hash: s.Hash(), Signer: admin.Public().ID(), After: after, At: fromMinutes(m)}
	body, err := Marshal(voucherBody{Generation: v.Generation, Hash: v.Hash[:], Signer: v.Signer[:], After: after, At: m})
	if err != nil {
		return v, fmt.Errorf("identity: vouch for network secret: %w", err)
	}
	sig := admin.Sign(DomainSecret, certMessage(network, body))
	v.raw = append(body, sig[:]...)
	return v, nil
}

// ParseVoucher reads a voucher. Verify checks its signature.
func ParseVoucher(raw []byte) (Voucher, error) {
	if len(raw) <= SignatureSize || len(raw) > MaxVoucher {
		return Voucher{}, fmt.Errorf("identity: parse voucher: %d bytes: %w", len(raw), ErrMalformed)
	}
	var b voucherBody
	if err := Unmarshal(raw[:len(raw)-SignatureSize], &b); err != nil {
		return Voucher{}, fmt.Errorf("identity: parse voucher: %w", err)
	}
	if b.Generation == 0 || len(b.Hash) != 32 || len(b.Signer) != len(KeyID{}) || b.At > maxMinutes {
		return Voucher{}, fmt.Errorf("identity: parse voucher: field out of range: %w", ErrMalformed)
	}
	return Voucher{
		Generation: b.Generation, Hash: [32]byte(b.Hash), Signer: KeyID(b.Signer), After: b.After, At: fromMinutes(b.At),
		raw: bytes.Clone(raw),
	}, nil
}

// Raw returns the voucher's bytes. The caller must not change them.
func (v Voucher) Raw() []byte { return v.raw }

// For reports whether v is about exactly this secret.
func (v Voucher) For(s NetworkSecret) bool { return v.Generation == s.Generation && v.Hash == s.Hash() }

// Verify checks that an admin who may configure the network signed v while
// the certificate was valid. The certificate's own chain is the caller's
// matter.
func (v Voucher) Verify(network NetworkID, admin Certificate) error {
	switch {
	case admin.Class != ClassAdmin || admin.Roles&RoleConfig == 0:
		return fmt.Errorf("identity: verify voucher: signed by a %v without the role config: %w", admin.Class, ErrRole)
	case v.At.Before(admin.NotBefore.Add(-skew)) || !v.At.Before(admin.NotAfter):
		return fmt.Errorf("identity: verify voucher: signed outside the admin's validity: %w", ErrRole)
	case admin.Key.ID() != v.Signer || len(v.raw) <= SignatureSize:
		return fmt.Errorf("identity: verify voucher: %w", ErrSignature)
	}
	split := len(v.raw) - SignatureSize
	if !admin.Key.Verify(DomainSecret, certMessage(network, v.raw[:split]), v.raw[split:]) {
		return fmt.Errorf("identity: verify voucher: %w", ErrSignature)
	}
	return nil
}
