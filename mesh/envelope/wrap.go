package envelope

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"

	"outrider/mesh/identity"
)

// A wrap delivers an epoch's secret to one device. One KEM exchange yields
// three keys by export: one seals the frame, which hides the rest; one seals
// the secret itself, bound to operation, sender and recipient; one purges.
//
// The secret has a key of its own because the signature in the frame covers
// the tree over all wraps, so a wrapped secret must exist before the frame.

func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// exporter is what hpke.Sender and hpke.Recipient have in common here.
type exporter interface {
	Export(context string, length int) ([]byte, error)
}

// wrapInfo is HPKE's info: the exchange is good for this network, device and
// prekey only.
func wrapInfo(network identity.NetworkID, device identity.DeviceID, number uint32) []byte {
	b := append(identity.LabelWrap.Prefix(), network[:]...)
	b = append(b, device[:]...)
	return binary.BigEndian.AppendUint32(b, number)
}

func export(x exporter, l identity.Label, context ...[]byte) key {
	c := l.Prefix()
	for _, part := range context {
		c = append(c, part...)
	}
	b, err := x.Export(string(c), 32)
	if err != nil {
		panic("envelope: HPKE export: " + err.Error()) // 32 bytes are always available
	}
	return key(b)
}

// A wrapper is one side of a KEM exchange.
type wrapper struct{ x exporter }

func (w wrapper) purge() PurgeKey {
	k := export(w.x, identity.LabelWrapPurge)
	return PurgeKey(k[:16])
}

func (w wrapper) frameKey() key { return export(w.x, identity.LabelWrapFrame) }

func frameAAD(header []byte) []byte { return append(identity.LabelWrapFrame.Prefix(), header...) }

// secretKey and secretAAD bind a wrapped secret to both identities, so that a
// reader cannot pass it on as their own.
func (w wrapper) secretKey(op opHash, from, to identity.DeviceID) key {
	return export(w.x, identity.LabelWrapKey, op[:], from[:], to[:])
}

func secretAAD(op opHash, from, to identity.DeviceID, r rosterHash) []byte {
	b := append(identity.LabelWrapAAD.Prefix(), Suite)
	b = append(b, op[:]...)
	b = append(b, from[:]...)
	b = append(b, to[:]...)
	return append(b, r[:]...)
}

// encapsulate starts an exchange with a device's prekey.
func encapsulate(network identity.NetworkID, device identity.DeviceID, number uint32, public []byte) (enc []byte, w wrapper, err error) {
	if len(public) != publicSize {
		return nil, w, fmt.Errorf("envelope: wrap: public key of %d bytes: %w", len(public), ErrPrekey)
	}
	pub, err := kem().NewPublicKey(public)
	if err != nil {
		return nil, w, fmt.Errorf("envelope: wrap: %w", ErrPrekey)
	}
	enc, s, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ExportOnly(), wrapInfo(network, device, number))
	if err != nil {
		return nil, w, fmt.Errorf("envelope: wrap: %v: %w", err, ErrPrekey)
	}
	return enc, wrapper{s}, nil
}

// decapsulate ends an exchange. The hybrid KEM does not tell a wrong exchange
// from a right one: the frame's seal does.
func decapsulate(network identity.NetworkID, device identity.DeviceID, number uint32, seed key, enc []byte) (w wrapper, err error) {
	priv, err := kem().NewPrivateKey(seed[:])
	if err != nil {
		return w, fmt.Errorf("envelope: open wrap: stored prekey: %v", err)
	}
	r, err := hpke.NewRecipient(enc, priv, hpke.HKDFSHA256(), hpke.ExportOnly(), wrapInfo(network, device, number))
	if err != nil {
		return w, forged("open wrap: exchange")
	}
	return wrapper{r}, nil
}

// kemPublic returns the public key of a seed.
func kemPublic(seed key) ([]byte, error) {
	priv, err := kem().NewPrivateKey(seed[:])
	if err != nil {
		return nil, fmt.Errorf("envelope: make prekey: %v", err)
	}
	return priv.PublicKey().Bytes(), nil
}

// A frame is the sealed part of a wrap.
type frame struct {
	Op        []byte `cbor:"1,keyasint"`
	Roster    []byte `cbor:"2,keyasint,omitempty"` // absent: known by its hash
	Leaf      uint64 `cbor:"3,keyasint"`           // place of this wrap in the tree
	Leaves    uint64 `cbor:"4,keyasint"`           // number of wraps
	Path      []byte `cbor:"5,keyasint,omitempty"`
	Signature []byte `cbor:"6,keyasint"` // of operation hash and tree root, by the issuer
	Secret    []byte `cbor:"7,keyasint"` // sealed
	Reply     []byte `cbor:"8,keyasint,omitempty"`
}

const wrappedSize = 32 + aeadExtra

// replySize is the length of a reply key: number (4 B) and public key.
const replySize = 4 + publicSize

func (f frame) encode(p Padding) ([]byte, error) {
	fields, err := identity.Marshal(f)
	if err != nil {
		return nil, err
	}
	return pad(p, fields, nil)
}

func parseFrame(plain []byte) (f frame, err error) {
	fields, rest, err := unpad(plain, 0)
	if err != nil {
		return f, err
	}
	if len(rest) != 0 || identity.UnmarshalOpen(fields, &f) != nil {
		return f, malformed("wrap frame")
	}
	if len(f.Signature) != sigSize || len(f.Secret) != wrappedSize || f.Leaves > MaxMembers || f.Leaf >= f.Leaves ||
		f.Reply != nil && len(f.Reply) != replySize {
		return f, malformed("wrap frame: a field has the wrong length")
	}
	return f, nil
}

// epochSigned is what the issuer of an epoch signs; the operation names the
// roster by its hash.
func epochSigned(op opHash, root treeHash) []byte { return append(op[:], root[:]...) }
