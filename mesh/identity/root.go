package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode"
	"unicode/utf8"

	"filippo.io/mldsa"

	"github.com/fxamacker/cbor/v2"
)

// A Preset fixes how long a network lets things live: the ceiling of every
// time to live, relay custody, and the maximum delay D, all alike.
type Preset uint8

// The presets of decisions.md 4.
const (
	PresetStandard Preset = 1
	PresetLean     Preset = 2
	PresetOpsec    Preset = 3
)

// MaxDelay returns the preset's D: 30, 6 or 3 days, and 0 if unknown.
func (p Preset) MaxDelay() time.Duration {
	const day = 24 * time.Hour
	switch p {
	case PresetStandard:
		return 30 * day
	case PresetLean:
		return 6 * day
	case PresetOpsec:
		return 3 * day
	}
	return 0
}

var presetNames = [...]string{"unknown", "standard", "lean", "opsec"}

func (p Preset) String() string {
	if int(p) < len(presetNames) {
		return presetNames[p]
	}
	return fmt.Sprintf("preset %d", uint8(p))
}

// ParsePreset reads a preset's name.
func ParsePreset(s string) (Preset, error) {
	for i, name := range presetNames[1:] {
		if s == name {
			return Preset(i + 1), nil
		}
	}
	return 0, fmt.Errorf("identity: parse preset: %q is none of standard, lean, opsec: %w", s, ErrMalformed)
}

const (
	// MaxRoot is the most a root record may have, in bytes.
	MaxRoot = 8 << 10
	// MaxNetworkName is the most a network's name may have, in bytes of UTF-8.
	MaxNetworkName = 16
	// Suite1 is X-Wing, HKDF-SHA-256, AES-256-GCM, Ed25519 (crypto.md D2).
	Suite1 = 1

	rootVersion = 1
	// rootCritical is the first key of a root record that a reader may skip.
	// A lower one that it does not know changes what the network is.
	rootCritical = 32
)

// A RootRecord is a network's birth certificate. Its hash is the network.
type RootRecord struct {
	name    string
	preset  Preset
	created time.Time
	key     PublicKey
	id      NetworkID
	raw     []byte
}

// rootWire is the record: the body as a byte string, and two signatures of
// it, both of which must hold.
type rootWire struct {
	_       struct{} `cbor:",toarray"`
	Body    []byte
	Ed25519 []byte
	MLDSA   []byte
}

type rootBody struct {
	Version uint64 `cbor:"1,keyasint"`
	Suite   uint64 `cbor:"2,keyasint"`
	Name    string `cbor:"3,keyasint"`
	Preset  Preset `cbor:"4,keyasint"`
	Created uint32 `cbor:"5,keyasint"`
	Ed25519 []byte `cbor:"6,keyasint"`
	MLDSA   []byte `cbor:"7,keyasint"`
}

// A RootKey signs root records and admin certificates. Both of its keys come
// from one seed, so that it fits a sheet of paper. It prints as "redacted".
type RootKey struct {
	seed [32]byte
	ed   PrivateKey
	pq   *mldsa.PrivateKey
}

// NewRootKey makes a random root key.
func NewRootKey() (RootKey, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return RootKey{}, fmt.Errorf("identity: make root key: %w", err)
	}
	return RootKeyFromSeed(seed)
}

// RootKeyFromSeed restores a root key.
func RootKeyFromSeed(seed [32]byte) (RootKey, error) {
	pqSeed := Derive(seed, LabelRootMLDSA)
	pq, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), pqSeed[:])
	if err != nil {
		return RootKey{}, fmt.Errorf("identity: make root key: %v", err)
	}
	return RootKey{seed, PrivateKeyFromSeed(Derive(seed, LabelRootEd25519)), pq}, nil
}

// Seed returns the 32 secret bytes both keys are made from.
func (k RootKey) Seed() [32]byte { return k.seed }

// Public returns the Ed25519 key that signs admin certificates.
func (k RootKey) Public() PublicKey { return k.ed.Public() }

// IssueAdmin certifies an admin; Class is set here.
func (k RootKey) IssueAdmin(network NetworkID, c Certificate) (Certificate, error) {
	c.Class = ClassAdmin
	return Issue(network, k.ed, c)
}

// Format implements fmt.Formatter, so that no verb prints the key.
func (k RootKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// LogValue implements slog.LogValuer.
func (k RootKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// CheckNetworkName says what is wrong with a network's name, if anything is.
func CheckNetworkName(name string) error {
	if name == "" || len(name) > MaxNetworkName || !utf8.ValidString(name) {
		return fmt.Errorf("identity: a network's name must have 1 to %d bytes of UTF-8: %w", MaxNetworkName, ErrMalformed)
	}
	for i, r := range name {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) && (r != ' ' || i == 0 || i == len(name)-1) {
			return fmt.Errorf("identity: a network's name must be printable, without spaces around it: %w", ErrMalformed)
		}
	}
	return nil
}

// CreateRoot makes a network: a new root key and the record signed with it.
func CreateRoot(name string, preset Preset, created time.Time) (*RootRecord, RootKey, error) {
	key, err := NewRootKey()
	if err != nil {
		return nil, RootKey{}, err
	}
	r, err := createRoot(name, preset, created, key, func(msg []byte) ([]byte, error) {
		return key.pq.Sign(nil, msg, nil) // hedged: fresh randomness in every signature
	})
	return r, key, err
}

func createRoot(name string, preset Preset, created time.Time, key RootKey, pqSign func([]byte) ([]byte, error)) (*RootRecord, error) {
	if err := CheckNetworkName(name); err != nil {
		return nil, err
	}
	at, ok := minutes(created)
	if !ok || preset.MaxDelay() == 0 {
		return nil, errors.New("identity: create root: preset or time out of range")
	}
	pub := key.ed.Public()
	body, err := Marshal(rootBody{
		Version: rootVersion, Suite: Suite1, Name: name, Preset: preset, Created: at,
		Ed25519: pub[:], MLDSA: key.pq.PublicKey().Bytes(),
	})
	if err != nil {
		return nil, err
	}
	sig := key.ed.Sign(DomainRoot, body)
	pq, err := pqSign(append(DomainRoot.Prefix(), body...))
	if err != nil {
		return nil, fmt.Errorf("identity: create root: %v", err)
	}
	raw, err := Marshal(rootWire{Body: body, Ed25519: sig[:], MLDSA: pq})
	if err != nil {
		return nil, err
	}
	return ParseRoot(raw)
}

// ParseRoot reads a root record and checks both of its signatures. That makes
// it whole, not ours: the caller compares ID with the hash it was given.
func ParseRoot(raw []byte) (*RootRecord, error) {
	r, err := parseRoot(raw)
	if err != nil {
		return nil, fmt.Errorf("identity: parse root record: %w", err)
	}
	return r, nil
}

func parseRoot(raw []byte) (*RootRecord, error) {
	if len(raw) > MaxRoot {
		return nil, fmt.Errorf("%d bytes exceed %d: %w", len(raw), MaxRoot, ErrMalformed)
	}
	var w rootWire
	if err := Unmarshal(raw, &w); err != nil {
		return nil, err
	}
	b, err := parseRootBody(w.Body)
	if err != nil {
		return nil, err
	}
	key := PublicKey(b.Ed25519)
	if !key.Verify(DomainRoot, w.Body, w.Ed25519) {
		return nil, fmt.Errorf("Ed25519: %w", ErrSignature)
	}
	pq, err := mldsa.NewPublicKey(mldsa.MLDSA65(), b.MLDSA)
	if err != nil {
		return nil, fmt.Errorf("ML-DSA key: %v: %w", err, ErrMalformed)
	}
	if mldsa.Verify(pq, append(DomainRoot.Prefix(), w.Body...), w.MLDSA, nil) != nil {
		return nil, fmt.Errorf("ML-DSA-65: %w", ErrSignature)
	}
	return &RootRecord{
		name: b.Name, preset: b.Preset, created: fromMinutes(b.Created), key: key,
		id: sha256.Sum256(raw), raw: bytes.Clone(raw),
	}, nil
}

func parseRootBody(body []byte) (b rootBody, err error) {
	var keys map[uint64]cbor.RawMessage
	if err := UnmarshalOpen(body, &keys); err != nil {
		return b, err
	}
	for k := range keys {
		if k > 7 && k < rootCritical {
			return b, fmt.Errorf("made by a newer version (key %d): %w", k, ErrMalformed)
		}
	}
	if err := UnmarshalOpen(body, &b); err != nil {
		return b, err
	}
	switch {
	case b.Version != rootVersion || b.Suite != Suite1:
		return b, fmt.Errorf("version %d, suite %d are not known here: %w", b.Version, b.Suite, ErrMalformed)
	case b.Preset.MaxDelay() == 0:
		return b, fmt.Errorf("%v is not known here: %w", b.Preset, ErrMalformed)
	case len(b.Ed25519) != len(PublicKey{}):
		return b, fmt.Errorf("Ed25519 key of %d bytes: %w", len(b.Ed25519), ErrMalformed)
	}
	return b, CheckNetworkName(b.Name)
}

// ID returns the network's identifier.
func (r *RootRecord) ID() NetworkID { return r.id }

// Raw returns the record's bytes. The caller must not change them.
func (r *RootRecord) Raw() []byte { return r.raw }

// Name returns the network's name.
func (r *RootRecord) Name() string { return r.name }

// Preset returns the network's preset.
func (r *RootRecord) Preset() Preset { return r.preset }

// Created returns when the record was made; no clock of a member may be
// earlier.
func (r *RootRecord) Created() time.Time { return r.created }

// Key returns the Ed25519 key under which admin certificates verify.
func (r *RootRecord) Key() PublicKey { return r.key }
