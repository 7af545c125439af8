package stranger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ENVELOPE.md: a device that reads.

type device struct {
	network, tagKey []byte
	user, id        []byte
	prekeys         map[uint32][]byte // number to KEM seed
	keys            map[string][]byte // known devices: id to public key
	epochs          map[string]*epoch // by day tag
}

func deviceID(public []byte) []byte { h := hash("device-id", public); return h[:16] }

type epoch struct {
	op     []byte // hash
	slots  [][]byte
	header []byte
	chains map[uint32]*chain // slot<<1 | live
}

type chain struct {
	key  []byte
	next uint32
	gaps map[uint32][]byte
}

var errEnvelope = errors.New("stranger: envelope does not open")

// openWrap opens the bundle that delivers an epoch (section 5) and returns the
// wrap's purge key.
func (d *device) openWrap(tag, head, payload []byte) (purge []byte, err error) {
	number, seed := uint32(0), []byte(nil)
	for j, s := range d.prekeys {
		if bytes.Equal(mac(d.tagKey, "inbox-tag", d.id, u32(j))[:8], tag) {
			number, seed = j, s
		}
	}
	if seed == nil || len(payload) < 1120 {
		return nil, errEnvelope
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, err
	}
	info := join(label("wrap"), d.network, d.id, u32(number))
	enc := payload[:1120]
	x, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, err
	}
	export := func(context ...[]byte) []byte {
		k, xerr := x.Export(string(join(context...)), 32)
		err = errors.Join(err, xerr)
		return k
	}
	padded, oerr := unseal(export(label("wrap-frame")), payload[1120:], join(label("wrap-frame"), head))
	if err = errors.Join(err, oerr); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(padded))
	if n > len(padded)-2 {
		return nil, errEnvelope
	}
	var f struct {
		Op        []byte `cbor:"1,keyasint"`
		Roster    []byte `cbor:"2,keyasint"`
		Place     uint64 `cbor:"3,keyasint"`
		Leaves    uint64 `cbor:"4,keyasint"`
		Path      []byte `cbor:"5,keyasint"`
		Signature []byte `cbor:"6,keyasint"`
		Wrapped   []byte `cbor:"7,keyasint"`
		Reply     []byte `cbor:"8,keyasint"`
	}
	if err := cbor.Unmarshal(padded[2:2+n], &f); err != nil {
		return nil, err
	}
	var op struct {
		Suite        uint64 `cbor:"1,keyasint"`
		Kind         uint64 `cbor:"2,keyasint"`
		Conversation []byte `cbor:"3,keyasint"`
		Issuer       []byte `cbor:"4,keyasint"`
		RosterHash   []byte `cbor:"8,keyasint"`
	}
	if err := cbor.Unmarshal(f.Op, &op); err != nil || op.Suite != 1 || op.Kind != 9 {
		return nil, fmt.Errorf("%w: operation: %v", errEnvelope, err)
	}
	opHash, rosterHash := hash("epoch-id", d.network, f.Op), hash("roster-hash", f.Roster)
	issuer, known := d.keys[string(op.Issuer)]
	leaf := hash("wrap-tree", []byte{0}, d.id, u32(number), u16(len(head)), head, enc, f.Wrapped, f.Reply)
	top, ok := climb(leaf[:], f.Place, f.Leaves, f.Path)
	if !known || !ok || !bytes.Equal(rosterHash[:], op.RosterHash) || !verify(issuer, "epoch", f.Signature, opHash[:], top) {
		return nil, errEnvelope
	}
	secretKey := export(label("wrap-key"), opHash[:], op.Issuer, d.id)
	w, oerr := unseal(secretKey, f.Wrapped, join(label("wrap-aad"), []byte{1}, opHash[:], op.Issuer, d.id, rosterHash[:]))
	purge = export(label("wrap-purge"))
	if err = errors.Join(err, oerr); err != nil {
		return nil, err
	}
	return purge[:16], d.begin(w, opHash[:], rosterHash[:], f.Roster)
}

// climb computes the root of RFC 9162's tree from a leaf and its path.
func climb(node []byte, place, size uint64, path []byte) ([]byte, bool) {
	if place >= size || len(path)%32 != 0 {
		return nil, false
	}
	for last := size - 1; last > 0; place, last = place/2, last/2 {
		if place == last && place%2 == 0 {
			continue // nobody beside it on this level
		}
		if len(path) == 0 {
			return nil, false
		}
		l, r := node, path[:32]
		if place%2 == 1 {
			l, r = r, l
		}
		h := hash("wrap-tree", []byte{1}, l, r)
		node, path = h[:], path[32:]
	}
	return node, len(path) == 0
}

// begin derives an epoch's keys (section 6).
func (d *device) begin(w, op, rosterHash, roster []byte) error {
	s := derive(w, nil, "epoch-child", op, rosterHash)
	root, tagKey := derive(s, nil, "epoch-expand"), derive(s, nil, "epoch-tag")
	e := &epoch{op: op, header: derive(s, nil, "epoch-header"), chains: map[uint32]*chain{}}
	if len(roster) < 2 || len(roster) != 2+33*int(binary.BigEndian.Uint16(roster)) {
		return errEnvelope
	}
	for r := roster[2:]; len(r) > 0; r = r[33:] {
		slot := uint32(len(e.slots))
		e.slots = append(e.slots, r[16:32])
		for live := range byte(2) {
			e.chains[slot<<1|uint32(live)] = &chain{key: derive(root, nil, "epoch-chain", r[16:32], []byte{live}), gaps: map[uint32][]byte{}}
		}
	}
	for j := range uint32(9) {
		d.epochs[string(mac(tagKey, "epoch-tag-day", u32(j))[:8])] = e
	}
	return nil
}

// A content is what was sealed.
type content struct {
	Type    uint64 `cbor:"1,keyasint"`
	Sent    uint64 `cbor:"2,keyasint"`
	Body    []byte `cbor:"7,keyasint"`
	Packing uint64 `cbor:"8,keyasint"`

	device []byte
	index  uint32
	purge  []byte
}

// openMessage opens a message (section 7).
func (d *device) openMessage(tag, head, payload []byte) (*content, error) {
	e := d.epochs[string(tag)]
	if e == nil || len(payload) < 6+12+16+66 {
		return nil, errEnvelope
	}
	prefix, mask := bytes.Clone(payload[:6]), mac6(e.header, payload[len(payload)-16:])
	for i := range prefix {
		prefix[i] ^= mask[i]
	}
	slot, index := uint32(binary.BigEndian.Uint16(prefix)), binary.BigEndian.Uint32(prefix[2:])
	if int(slot) >= len(e.slots) || bytes.Equal(e.slots[slot], d.id) {
		return nil, errEnvelope
	}
	c, counter := e.chains[slot<<1|index>>31], index&^(1<<31)
	mk, advance, err := c.seek(counter)
	if err != nil {
		return nil, err
	}
	plain, err := unseal(derive(mk, nil, "message-seal"), payload[6:], join(label("message-seal"), e.op, prefix, head))
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(plain))
	if 2+n+64 > len(plain) || len(bytes.Trim(plain[2+n+64:], "\x00")) > 0 {
		return nil, errEnvelope
	}
	fields, signature := plain[2:2+n], plain[2+n:2+n+64]
	sender := e.slots[slot]
	if !verify(d.keys[string(sender)], "message", signature, e.op, sender, u32(index), u16(len(head)), head, fields) {
		return nil, errEnvelope
	}
	out := &content{device: sender, index: index, purge: derive(mk, nil, "message-purge")[:16]}
	if err := cbor.Unmarshal(fields, out); err != nil {
		return nil, err
	}
	advance()
	return out, nil
}

// mac6 masks a message's prefix: the one MAC here without a label.
func mac6(key, data []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(data)
	return m.Sum(nil)[:6]
}

// seek finds a message key; advance moves the chain, once the message proved
// authentic.
func (c *chain) seek(counter uint32) (mk []byte, advance func(), err error) {
	if counter < c.next {
		mk, ok := c.gaps[counter]
		if !ok {
			return nil, nil, fmt.Errorf("%w: duplicate", errEnvelope)
		}
		return mk, func() { delete(c.gaps, counter) }, nil
	}
	if counter-c.next > 5000 {
		return nil, nil, fmt.Errorf("%w: too far ahead", errEnvelope)
	}
	key, passed := c.key, map[uint32][]byte{}
	for i := c.next; ; i++ {
		mk = mac(key, "chain-message")
		key = mac(key, "chain-next")
		if i == counter {
			break
		}
		passed[i] = mk
	}
	return mk, func() {
		c.key, c.next = key, counter+1
		for i, k := range passed {
			c.gaps[i] = k
		}
	}, nil
}

// newDevice makes a reader of its seed.
func newDevice(network, tagKey, user, seed []byte) *device {
	key := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	return &device{
		network: network, tagKey: tagKey, user: user, id: deviceID(key), prekeys: map[uint32][]byte{},
		keys: map[string][]byte{string(deviceID(key)): key}, epochs: map[string]*epoch{},
	}
}
