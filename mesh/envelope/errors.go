package envelope

import (
	"errors"
	"fmt"

	"outrider/mesh/identity"
)

// What can be wrong with something received. Each is a class: it is wrapped
// by the error returned.
var (
	// ErrMalformed: the bytes are not of the form. Drop them.
	ErrMalformed = errors.New("malformed")
	// ErrForged: a seal, a signature or an authorisation does not hold. Drop it.
	ErrForged = errors.New("forged")
	// ErrUnsupported: a later version or suite wrote it. Keep it until an upgrade.
	ErrUnsupported = errors.New("unsupported version")
	// ErrUnknownEpoch: no epoch held has this tag. Its wrap may still come.
	ErrUnknownEpoch = errors.New("unknown epoch")
	// ErrUnknownSender: the seal holds, but the certificate of the sending
	// device is not known. Wait for keys. See UnknownDevice.
	ErrUnknownSender = errors.New("unknown sender")
	// ErrDuplicate: this message was opened and accepted before.
	ErrDuplicate = errors.New("duplicate")
	// ErrTooFarAhead: the index is more than MaxJump beyond the chain. It is
	// garbage, or so many messages are missing that only a new epoch helps.
	ErrTooFarAhead = errors.New("index too far ahead")
	// ErrKeyGone: the message was so late that its key was given up. The
	// sender must be asked for it again (TypeNeedRekey).
	ErrKeyGone = errors.New("message key given up")
	// ErrNoPrekey: the secret of the prekey that the wrap was made for is
	// destroyed. Publish the current prekeys; the sender will start again.
	ErrNoPrekey = errors.New("prekey destroyed")
	// ErrNotForUs: the tag is none of this device's inbox tags.
	ErrNotForUs = errors.New("not for this device")
	// ErrOwn: this device sealed the message itself.
	ErrOwn = errors.New("own message")
	// ErrCloned: the message is signed by this very device and was not sealed
	// here: a copy of the device is at work. Alarm, and revoke the device.
	ErrCloned = errors.New("this device was cloned")
	// ErrBusy: too many messages are opened and not accepted. Accept them first.
	ErrBusy = errors.New("too many messages not accepted")
)

// What can be wrong with what is to be sent.
var (
	// ErrPrekey: a recipient's prekey is not signed by its device or of
	// another suite.
	ErrPrekey = errors.New("bad prekey")
	// ErrTooLarge: a body or list is over its limit.
	ErrTooLarge = errors.New("too large")
	// ErrFull: as many epochs are held as can be.
	ErrFull = errors.New("too many epochs")
	// ErrUsed: a draft seals once.
	ErrUsed = errors.New("draft already used")
	// ErrReceiveOnly: this device may not send in the epoch.
	ErrReceiveOnly = errors.New("receive only")
)

// ErrNoSecret is what a Vault's Get returns, alone or wrapped, for an id that
// it does not hold.
var ErrNoSecret = errors.New("envelope: no such secret")

// An UnknownDevice is the ErrUnknownSender that says whose certificate is missing.
type UnknownDevice struct{ Device identity.DeviceID }

func (e *UnknownDevice) Error() string {
	return "envelope: open: no certificate of the sending device yet"
}

// Is makes the error an ErrUnknownSender.
func (e *UnknownDevice) Is(target error) bool { return target == ErrUnknownSender }

func malformed(what string) error { return fmt.Errorf("envelope: %s: %w", what, ErrMalformed) }

func forged(what string) error { return fmt.Errorf("envelope: %s: %w", what, ErrForged) }
