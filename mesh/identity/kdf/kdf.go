// Package kdf turns passwords into keys, and is the only place that does.
//
// It promises that no derivation exceeds 64 MiB or 6 passes, whatever a file
// or a link asks for; that one derivation runs at a time, with four waiting
// at most, so that a board of 512 MB survives four logins at once; and that
// the memory is back with the operating system when Derive returns.
//
// In bytes, parameters are
//
//	id 1 (argon2id)              memory in MiB, passes, lanes: one byte each
//	id 2 (PBKDF2-HMAC-SHA-256)   iterations, three bytes, big endian
//
// Argon2id is RFC 9106, version 0x13. FIPS builds use id 2.
package kdf

import (
	"context"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
)

// The algorithms.
const (
	Argon2id uint8 = 1
	PBKDF2   uint8 = 2
)

// Limits: what is refused before any work (decisions.md 25). Below the floor
// a password could be guessed too fast; above the ceiling a stranger's file
// could stop the node.
const (
	floorMiB, maxMiB               = 19, 64
	floorPasses, maxPasses         = 2, 6
	maxLanes                       = 4
	floorIterations, maxIterations = 600_000, 2_000_000

	// MaxPassword is the longest password, in bytes.
	MaxPassword = 1024
	// maxWaiting is how many callers may wait for the one that runs.
	maxWaiting = 4
)

var (
	// ErrParams is returned for parameters out of bounds; nothing was computed.
	ErrParams = errors.New("key derivation parameters out of bounds")
	// ErrBusy is returned when four callers wait already.
	ErrBusy = errors.New("too many passwords are being checked, try again shortly")
)

// Params choose an algorithm and its cost.
type Params struct {
	ID        uint8  // Argon2id or PBKDF2
	MemoryKiB uint32 // Argon2id only, whole MiB
	Passes    uint32 // Argon2id: passes over the memory; PBKDF2: iterations
	Lanes     uint8  // Argon2id only
}

// Default is argon2id with 64 MiB and three passes (RFC 9106, second choice),
// and PBKDF2 where the FIPS module is in use.
func Default() Params {
	if fips140.Enabled() {
		return DefaultPBKDF2()
	}
	return Params{ID: Argon2id, MemoryKiB: 64 << 10, Passes: 3, Lanes: 4}
}

// Floor is the cheapest that is allowed, for boards of 512 MB.
func Floor() Params {
	return Params{ID: Argon2id, MemoryKiB: floorMiB << 10, Passes: floorPasses, Lanes: 1}
}

// DefaultPBKDF2 is for FIPS builds.
func DefaultPBKDF2() Params { return Params{ID: PBKDF2, Passes: floorIterations} }

// Check returns ErrParams if p is out of bounds.
func (p Params) Check() error {
	ok := false
	switch p.ID {
	case Argon2id:
		ok = p.MemoryKiB >= floorMiB<<10 && p.MemoryKiB <= maxMiB<<10 && p.MemoryKiB%1024 == 0 &&
			p.Passes >= floorPasses && p.Passes <= maxPasses && p.Lanes >= 1 && p.Lanes <= maxLanes
	case PBKDF2:
		ok = p.MemoryKiB == 0 && p.Lanes == 0 && p.Passes >= floorIterations && p.Passes <= maxIterations
	}
	if !ok {
		return fmt.Errorf("kdf: id %d, %d KiB, %d passes, %d lanes: %w", p.ID, p.MemoryKiB, p.Passes, p.Lanes, ErrParams)
	}
	return nil
}

// Bytes returns the id and the three parameter bytes of a file's header. It
// is meant for parameters that pass Check.
func (p Params) Bytes() [4]byte {
	if p.ID == PBKDF2 {
		return [4]byte{p.ID, byte(p.Passes >> 16), byte(p.Passes >> 8), byte(p.Passes)}
	}
	return [4]byte{p.ID, byte(p.MemoryKiB >> 10), byte(p.Passes), p.Lanes}
}

// FromBytes reads what Bytes wrote and checks it.
func FromBytes(b [4]byte) (Params, error) {
	p := Params{ID: b[0], MemoryKiB: uint32(b[1]) << 10, Passes: uint32(b[2]), Lanes: b[3]}
	if p.ID == PBKDF2 {
		p = Params{ID: PBKDF2, Passes: uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])}
	}
	return p, p.Check()
}

var (
	running = make(chan struct{}, 1)
	queue   = make(chan struct{}, 1+maxWaiting) // the one that runs and those that wait
)

// Derive returns the 32-byte key of a password. It waits for its turn until
// ctx ends; a derivation that has begun is finished. It returns ErrParams for
// parameters out of bounds and ErrBusy when the queue is full.
func Derive(ctx context.Context, password []byte, salt [16]byte, p Params) (key [32]byte, err error) {
	if err := p.Check(); err != nil {
		return key, err
	}
	if len(password) > MaxPassword {
		return key, fmt.Errorf("kdf: a password of %d bytes exceeds %d: %w", len(password), MaxPassword, ErrParams)
	}
	select {
	case queue <- struct{}{}:
		defer func() { <-queue }()
	default:
		return key, fmt.Errorf("kdf: %w", ErrBusy)
	}
	select {
	case running <- struct{}{}:
		defer func() { <-running }()
	case <-ctx.Done():
		return key, fmt.Errorf("kdf: wait for a turn: %w", ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return key, fmt.Errorf("kdf: wait for a turn: %w", err)
	}
	return derive(password, salt, p)
}

func derive(password []byte, salt [16]byte, p Params) (key [32]byte, err error) {
	if p.ID == PBKDF2 {
		b, err := pbkdf2.Key(sha256.New, string(password), salt[:], int(p.Passes), len(key))
		if err != nil {
			return key, fmt.Errorf("kdf: PBKDF2: %v", err)
		}
		return [32]byte(b), nil
	}
	copy(key[:], argon2.IDKey(password, salt[:], p.Passes, p.MemoryKiB, p.Lanes, uint32(len(key))))
	debug.FreeOSMemory() // 64 MiB idle until the next collection would be an eighth of a small board
	return key, nil
}
