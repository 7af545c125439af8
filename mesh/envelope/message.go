package envelope

import (
	"encoding/binary"
	"fmt"

	"outrider/mesh/identity"
)

// A position is where in its epoch a message stands. The top bit of the index
// tells the chain for live positions from the chain for mail.
type position struct {
	slot  uint16
	index uint32
}

func (p position) live() bool      { return p.index&liveBit != 0 }
func (p position) counter() uint32 { return p.index &^ liveBit }

func (p position) bytes() (b [prefixSize]byte) {
	binary.BigEndian.PutUint16(b[:], p.slot)
	binary.BigEndian.PutUint32(b[2:], p.index)
	return b
}

func messageAAD(op opHash, at position, header []byte) []byte {
	b := append(identity.LabelMessageSeal.Prefix(), op[:]...)
	prefix := at.bytes()
	b = append(b, prefix[:]...)
	return append(b, header...)
}

// messageSigned is what the sending device signs: the epoch (whose hash names
// network, conversation and roster), itself, the index, the header, the fields.
func messageSigned(op opHash, from identity.DeviceID, index uint32, header, fields []byte) []byte {
	b := make([]byte, 0, 32+16+4+2+len(header)+len(fields))
	b = append(b, op[:]...)
	b = append(b, from[:]...)
	b = binary.BigEndian.AppendUint32(b, index)
	b = binary.BigEndian.AppendUint16(b, uint16(len(header)))
	b = append(b, header...)
	return append(b, fields...)
}

func hashMessage(signed []byte) MessageHash {
	h := identity.Hash(identity.LabelMessageHash, signed)
	return MessageHash(h[:8])
}

// A binding is what all messages of an epoch are bound to.
type binding struct {
	op     opHash
	header key // hides slot and index
}

// sealMessage makes a payload. message is the key of one step of a chain.
func (c binding) sealMessage(message key, at position, signer identity.PrivateKey, header, fields []byte, p Padding) ([]byte, MessageHash, error) {
	if len(header) == 0 || len(header) > MaxHeader {
		return nil, MessageHash{}, fmt.Errorf("envelope: seal: header of %d bytes, want 1 to %d: %w", len(header), MaxHeader, ErrTooLarge)
	}
	signed := messageSigned(c.op, signer.Public().DeviceID(), at.index, header, fields)
	sig := signer.Sign(identity.DomainMessage, signed)
	plain, err := pad(p, fields, sig[:])
	if err != nil {
		return nil, MessageHash{}, err
	}
	payload := make([]byte, prefixSize, prefixSize+len(plain)+aeadExtra)
	payload = message.derive(identity.LabelMessageSeal).seal(payload, plain, messageAAD(c.op, at, header))
	prefix, m := at.bytes(), mask(c.header, payload)
	for i := range m {
		payload[i] = prefix[i] ^ m[i]
	}
	return payload, hashMessage(signed), nil
}

// locate reads the position of a payload. It is authentic only if the seal holds.
func (c binding) locate(payload []byte) (position, error) {
	if len(payload) < prefixSize+aeadExtra+2+sigSize || len(payload) > MaxPayload {
		return position{}, malformed(fmt.Sprintf("open: payload of %d bytes", len(payload)))
	}
	m := mask(c.header, payload)
	for i := range m {
		m[i] ^= payload[i]
	}
	return position{binary.BigEndian.Uint16(m[:]), binary.BigEndian.Uint32(m[2:])}, nil
}

// A sealed message, opened and not yet believed.
type unsealed struct {
	fields, sig []byte
}

// openSeal checks the AEAD seal with the key of the position.
func (c binding) openSeal(message key, at position, header, payload []byte) (u unsealed, err error) {
	plain, err := message.derive(identity.LabelMessageSeal).open(payload[prefixSize:], messageAAD(c.op, at, header))
	if err != nil {
		return u, forged("open: seal")
	}
	u.fields, u.sig, err = unpad(plain, sigSize)
	return u, err
}

// verify checks that the device with that key signed the message for here.
func (c binding) verify(u unsealed, at position, header []byte, from identity.PublicKey) (MessageHash, error) {
	signed := messageSigned(c.op, from.DeviceID(), at.index, header, u.fields)
	if !from.Verify(identity.DomainMessage, signed, u.sig) {
		return MessageHash{}, forged("open: signature")
	}
	return hashMessage(signed), nil
}
