package identity

import (
	"bytes"
	"fmt"
	"time"
)

// MaxPrekey is the most a prekey bundle may have, in bytes. The largest known
// KEM key, that of MLKEM1024-P384, has 1,665.
const MaxPrekey = 2048

// A PrekeyBundle is a device's public key for the start of epochs (crypto.md
// 4.2). The roster carries it without knowing the KEM.
type PrekeyBundle struct {
	Device    DeviceID
	Number    uint32 // 0 is the last-resort bundle
	NotBefore time.Time
	NotAfter  time.Time
	KEM       uint16 // HPKE KEM identifier
	Public    []byte // the KEM's public key

	raw []byte
}

type prekeyBody struct {
	_         struct{} `cbor:",toarray"`
	Device    []byte
	Number    uint32
	NotBefore uint32
	NotAfter  uint32
	KEM       uint16
	Public    []byte
}

// Sign signs the bundle with the device's key and returns it with Device and
// its bytes filled in; times are cut to whole minutes.
func (p PrekeyBundle) Sign(network NetworkID, device PrivateKey) (PrekeyBundle, error) {
	nb, ok1 := minutes(p.NotBefore)
	na, ok2 := minutes(p.NotAfter)
	if !ok1 || !ok2 {
		return p, fmt.Errorf("identity: sign prekey: validity out of range")
	}
	p.Device = device.Public().DeviceID()
	p.NotBefore, p.NotAfter, p.Public = fromMinutes(nb), fromMinutes(na), bytes.Clone(p.Public)
	if err := p.check(); err != nil {
		return p, fmt.Errorf("identity: sign prekey: %w", err)
	}
	body, err := Marshal(prekeyBody{Device: p.Device[:], Number: p.Number, NotBefore: nb, NotAfter: na, KEM: p.KEM, Public: p.Public})
	if err != nil {
		return p, err
	}
	sig := device.Sign(DomainPrekey, certMessage(network, body))
	p.raw = append(body, sig[:]...)
	return p, nil
}

// ParsePrekey reads a prekey bundle. Verify checks its signature.
func ParsePrekey(raw []byte) (PrekeyBundle, error) {
	if len(raw) <= SignatureSize || len(raw) > MaxPrekey {
		return PrekeyBundle{}, fmt.Errorf("identity: parse prekey: %d bytes: %w", len(raw), ErrMalformed)
	}
	var b prekeyBody
	if err := Unmarshal(raw[:len(raw)-SignatureSize], &b); err != nil {
		return PrekeyBundle{}, fmt.Errorf("identity: parse prekey: %w", err)
	}
	if len(b.Device) != len(DeviceID{}) {
		return PrekeyBundle{}, fmt.Errorf("identity: parse prekey: device id of %d bytes: %w", len(b.Device), ErrMalformed)
	}
	p := PrekeyBundle{
		Device: DeviceID(b.Device), Number: b.Number, KEM: b.KEM, Public: b.Public,
		NotBefore: fromMinutes(b.NotBefore), NotAfter: fromMinutes(b.NotAfter), raw: bytes.Clone(raw),
	}
	if err := p.check(); err != nil {
		return PrekeyBundle{}, fmt.Errorf("identity: parse prekey: %w", err)
	}
	return p, nil
}

func (p PrekeyBundle) check() error {
	switch {
	case !p.NotBefore.Before(p.NotAfter):
		return fmt.Errorf("ends before it begins: %w", ErrMalformed)
	case len(p.Public) == 0 || len(p.Public) > MaxPrekey-128:
		return fmt.Errorf("public key of %d bytes: %w", len(p.Public), ErrMalformed)
	}
	return nil
}

// Verify reports whether the device with the given key signed the bundle in
// the given network.
func (p PrekeyBundle) Verify(network NetworkID, device PublicKey) bool {
	if len(p.raw) <= SignatureSize || device.DeviceID() != p.Device {
		return false
	}
	split := len(p.raw) - SignatureSize
	return device.Verify(DomainPrekey, certMessage(network, p.raw[:split]), p.raw[split:])
}

// Raw returns the bundle's bytes. The caller must not change them.
func (p PrekeyBundle) Raw() []byte { return p.raw }
