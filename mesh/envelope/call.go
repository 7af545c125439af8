package envelope

import (
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// Sizes in calls, in bytes.
const (
	callIDSize     = 16
	callCommitSize = 32 // SHA-256
	callKeySize    = 65 // uncompressed point of P-256
)

// A CallKind says what a call signal is.
type CallKind uint8

// The kinds of call signals.
const (
	CallInvite CallKind = 1 // from the caller: it should ring
	CallRing   CallKind = 2 // from the callee: it rings
	CallAnswer CallKind = 3 // from the callee, with its key
	CallReveal CallKind = 4 // from the caller, with the key it announced
	CallEnd    CallKind = 5 // from either
	maxCall             = CallEnd
)

// A CallSignal is the body of TypeCall: one step of two devices towards a
// call, or its end. Signals are lived through, not kept.
type CallSignal struct {
	Call   [callIDSize]byte
	Kind   CallKind
	Node   identity.NodeID // invite: where the call's media meets
	Commit []byte          // invite: commitment to the caller's key, 32 B
	Key    []byte          // answer and reveal: public key for this call, 65 B
	Reason uint8           // end: media.Reason; unknown ones are kept
}

type wireCall struct {
	Call   []byte `cbor:"1,keyasint"`
	Kind   uint64 `cbor:"2,keyasint"`
	Node   []byte `cbor:"3,keyasint,omitempty"`
	Commit []byte `cbor:"4,keyasint,omitempty"`
	Key    []byte `cbor:"5,keyasint,omitempty"`
	Reason uint64 `cbor:"6,keyasint,omitempty"`
}

// fits tells whether a signal has the fields of its kind and no others.
func (w wireCall) fits() bool {
	want := struct{ node, commit, key int }{}
	switch CallKind(w.Kind) {
	case CallInvite:
		want.node, want.commit = len(identity.NodeID{}), callCommitSize
	case CallAnswer, CallReveal:
		want.key = callKeySize
	}
	return len(w.Call) == callIDSize && w.Kind >= 1 && w.Kind <= uint64(maxCall) && len(w.Node) == want.node && len(w.Commit) == want.commit &&
		len(w.Key) == want.key && w.Reason <= 255 && (w.Reason == 0 || CallKind(w.Kind) == CallEnd)
}

// Encode makes the body.
func (c CallSignal) Encode() ([]byte, error) {
	w := wireCall{Call: c.Call[:], Kind: uint64(c.Kind), Commit: c.Commit, Key: c.Key, Reason: uint64(c.Reason)}
	if !c.Node.IsZero() {
		w.Node = slices.Clone(c.Node[:])
	}
	if !w.fits() {
		return nil, fmt.Errorf("envelope: encode call signal of kind %d: its fields do not fit: %w", c.Kind, ErrTooLarge)
	}
	return identity.Marshal(w)
}

// ParseCall reads the body of TypeCall.
func ParseCall(body []byte) (CallSignal, error) {
	var w wireCall
	if identity.UnmarshalOpen(body, &w) != nil || !w.fits() {
		return CallSignal{}, malformed("call signal")
	}
	c := CallSignal{Call: [callIDSize]byte(w.Call), Kind: CallKind(w.Kind), Commit: w.Commit, Key: w.Key, Reason: uint8(w.Reason)}
	if w.Node != nil {
		if c.Node = identity.NodeID(w.Node); c.Node.IsZero() {
			return CallSignal{}, malformed("call signal: node")
		}
	}
	return c, nil
}

// A CallStatus says how a call went: features.md C08.
type CallStatus uint8

// The statuses.
const (
	CallStarting  CallStatus = 0 // it still runs
	CallCompleted CallStatus = 1
	CallMissed    CallStatus = 2
	CallCancelled CallStatus = 3
	CallDeclined  CallStatus = 4
	maxCallStatus            = CallDeclined
)

// A CallRecord is the body of TypeCallRecord: what stays of a call. The caller
// sends it when the call is over.
type CallRecord struct {
	Call     [callIDSize]byte
	Status   CallStatus
	Began    uint64 // hlc, milliseconds since 1970
	Duration uint32 // seconds from the answer to the end
}

type wireCallRecord struct {
	Call     []byte `cbor:"1,keyasint"`
	Status   uint64 `cbor:"2,keyasint"`
	Began    uint64 `cbor:"3,keyasint"`
	Duration uint64 `cbor:"4,keyasint,omitempty"`
}

// Encode makes the body.
func (c CallRecord) Encode() ([]byte, error) {
	if c.Status > maxCallStatus || c.Began > maxFix {
		return nil, fmt.Errorf("envelope: encode call record: %w", ErrTooLarge)
	}
	return identity.Marshal(wireCallRecord{c.Call[:], uint64(c.Status), c.Began, uint64(c.Duration)})
}

// ParseCallRecord reads the body of TypeCallRecord.
func ParseCallRecord(body []byte) (CallRecord, error) {
	var w wireCallRecord
	if identity.UnmarshalOpen(body, &w) != nil || len(w.Call) != callIDSize || w.Status > uint64(maxCallStatus) || w.Began > maxFix || w.Duration > maxSeconds {
		return CallRecord{}, malformed("call record")
	}
	return CallRecord{[callIDSize]byte(w.Call), CallStatus(w.Status), w.Began, uint32(w.Duration)}, nil
}
