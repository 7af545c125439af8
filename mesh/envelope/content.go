package envelope

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"outrider/mesh/identity"
)

// Bodies are CBOR maps with integer keys (but the location, which has a fixed
// layout). Readers skip keys they do not know. Each Parse function checks
// every bound; what it returns can be shown once text is treated as text.

// Limits of content.
const (
	MaxText     = 32 << 10 // bytes
	MaxName     = 64       // bytes of a display name
	MaxChains   = 32       // chains one receipt or request speaks of
	MaxRanges   = 128      // ranges per chain
	MaxRecalls  = 64       // messages one recall names
	MaxRekeys   = 16       // epochs one request names
	maxBundles  = 4        // prekey bundles in a request
	maxReasonID = 255
)

// Text is the body of TypeText.
type Text struct {
	Text string
}

type wireText struct {
	Text string `cbor:"1,keyasint"`
}

// Encode makes the body.
func (t Text) Encode() ([]byte, error) {
	if len(t.Text) > MaxText || !utf8.ValidString(t.Text) {
		return nil, fmt.Errorf("envelope: encode text of %d bytes, at most %d of UTF-8: %w", len(t.Text), MaxText, ErrTooLarge)
	}
	return identity.Marshal(wireText(t))
}

// ParseText reads the body of TypeText.
func ParseText(body []byte) (Text, error) {
	var w wireText
	if identity.UnmarshalOpen(body, &w) != nil || len(w.Text) > MaxText {
		return Text{}, malformed("text")
	}
	return Text(w), nil
}

// A Receipt is the body of TypeReceipt (opened and durable) and of TypeRead
// (shown): cumulative ranges, so that the newest one says all.
type Receipt struct {
	Chains []ChainRanges
}

type wireReceipt struct {
	Chains []wireChain `cbor:"1,keyasint"`
}

// wireChain has its ranges as first index and length minus one, the first
// index counted from the end of the range before.
type wireChain struct {
	_      struct{} `cbor:",toarray"`
	Epoch  []byte
	Slot   uint64
	Ranges []uint64
}

// Encode makes the body.
func (r Receipt) Encode() ([]byte, error) {
	chains, err := encodeChains(r.Chains)
	if err != nil {
		return nil, err
	}
	return identity.Marshal(wireReceipt{chains})
}

// ParseReceipt reads the body of TypeReceipt or TypeRead.
func ParseReceipt(body []byte) (Receipt, error) {
	var w wireReceipt
	if identity.UnmarshalOpen(body, &w) != nil {
		return Receipt{}, malformed("receipt")
	}
	chains, err := parseChains(w.Chains)
	return Receipt{chains}, err
}

func encodeChains(chains []ChainRanges) ([]wireChain, error) {
	if len(chains) > MaxChains {
		return nil, fmt.Errorf("envelope: encode ranges of %d chains, at most %d: %w", len(chains), MaxChains, ErrTooLarge)
	}
	out := make([]wireChain, 0, len(chains))
	for _, c := range chains {
		if len(c.Ranges) > MaxRanges {
			return nil, fmt.Errorf("envelope: encode %d ranges, at most %d: %w", len(c.Ranges), MaxRanges, ErrTooLarge)
		}
		w := wireChain{Epoch: slices.Clone(c.Epoch[:]), Slot: uint64(c.Slot), Ranges: []uint64{}}
		next := uint64(0)
		for _, r := range c.Ranges {
			if uint64(r.From) < next || r.To < r.From {
				return nil, fmt.Errorf("envelope: encode ranges: not ascending: %w", ErrMalformed)
			}
			w.Ranges = append(w.Ranges, uint64(r.From)-next, uint64(r.To-r.From))
			next = uint64(r.To) + 1
		}
		out = append(out, w)
	}
	return out, nil
}

func parseChains(ws []wireChain) ([]ChainRanges, error) {
	if len(ws) > MaxChains {
		return nil, malformed("ranges: too many chains")
	}
	var out []ChainRanges
	for _, w := range ws {
		if len(w.Epoch) != 8 || w.Slot >= MaxMembers || len(w.Ranges)%2 != 0 || len(w.Ranges)/2 > MaxRanges {
			return nil, malformed("ranges")
		}
		c := ChainRanges{Epoch: EpochID(w.Epoch), Slot: uint16(w.Slot)}
		next := uint64(0)
		for i := 0; i < len(w.Ranges); i += 2 {
			skip, length := w.Ranges[i], w.Ranges[i+1]
			if skip > 1<<32 || length > 1<<32 || next+skip+length >= 1<<32 {
				return nil, malformed("ranges: index out of bounds")
			}
			c.Ranges = append(c.Ranges, Range{uint32(next + skip), uint32(next + skip + length)})
			next += skip + length + 1
		}
		out = append(out, c)
	}
	return out, nil
}

// A Ref names one message.
type Ref struct {
	Epoch EpochID
	Slot  uint16
	Index uint32
}

// A Recall is the body of TypeRecall: readers drop these messages of the
// recall's own sender.
type Recall struct {
	Messages []Ref
}

type wireRef struct {
	_     struct{} `cbor:",toarray"`
	Epoch []byte
	Slot  uint64
	Index uint64
}

type wireRecall struct {
	Messages []wireRef `cbor:"1,keyasint"`
}

// Encode makes the body.
func (r Recall) Encode() ([]byte, error) {
	if len(r.Messages) > MaxRecalls {
		return nil, fmt.Errorf("envelope: recall of %d messages, at most %d: %w", len(r.Messages), MaxRecalls, ErrTooLarge)
	}
	w := wireRecall{Messages: []wireRef{}}
	for _, m := range r.Messages {
		w.Messages = append(w.Messages, wireRef{Epoch: slices.Clone(m.Epoch[:]), Slot: uint64(m.Slot), Index: uint64(m.Index)})
	}
	return identity.Marshal(w)
}

// ParseRecall reads the body of TypeRecall. That the messages are the
// sender's own is for the caller to check.
func ParseRecall(body []byte) (Recall, error) {
	var w wireRecall
	if identity.UnmarshalOpen(body, &w) != nil || len(w.Messages) > MaxRecalls {
		return Recall{}, malformed("recall")
	}
	var r Recall
	for _, m := range w.Messages {
		if len(m.Epoch) != 8 || m.Slot >= MaxMembers || m.Index >= 1<<32 {
			return Recall{}, malformed("recall")
		}
		r.Messages = append(r.Messages, Ref{EpochID(m.Epoch), uint16(m.Slot), uint32(m.Index)})
	}
	return r, nil
}

// A RekeyReason says why a device cannot read what was sent to it.
type RekeyReason uint8

// Reasons.
const (
	RekeyPrekeyGone  RekeyReason = 1 // the wrap was made for a destroyed prekey
	RekeyKeyGone     RekeyReason = 2 // messages came after their keys were given up
	RekeyTooFarAhead RekeyReason = 3 // more than MaxJump messages are missing
	RekeyCloned      RekeyReason = 4 // two messages with one identity
)

// NeedRekey is the body of TypeNeedRekey: start a new epoch, and seal what is
// unexpired of the named messages again.
type NeedRekey struct {
	Reason  RekeyReason
	Epochs  []EpochID     // that are of no more use
	Missing []ChainRanges // of the addressee's chains
	Prekeys []Prekey      // fresh ones of the asking device
}

type wireNeedRekey struct {
	Reason  uint64      `cbor:"1,keyasint"`
	Epochs  [][]byte    `cbor:"2,keyasint,omitempty"`
	Missing []wireChain `cbor:"3,keyasint,omitempty"`
	Prekeys [][]byte    `cbor:"4,keyasint,omitempty"`
}

// Encode makes the body.
func (n NeedRekey) Encode() ([]byte, error) {
	if len(n.Epochs) > MaxRekeys || len(n.Prekeys) > maxBundles {
		return nil, fmt.Errorf("envelope: encode need-rekey: %d epochs, %d prekeys: %w", len(n.Epochs), len(n.Prekeys), ErrTooLarge)
	}
	missing, err := encodeChains(n.Missing)
	if err != nil {
		return nil, err
	}
	w := wireNeedRekey{Reason: uint64(n.Reason), Missing: missing}
	for _, e := range n.Epochs {
		w.Epochs = append(w.Epochs, slices.Clone(e[:]))
	}
	for _, p := range n.Prekeys {
		w.Prekeys = append(w.Prekeys, p.Raw())
	}
	return identity.Marshal(w)
}

// ParseNeedRekey reads the body of TypeNeedRekey. The prekeys are parsed, not
// verified: StartEpoch does that.
func ParseNeedRekey(body []byte) (NeedRekey, error) {
	var w wireNeedRekey
	if identity.UnmarshalOpen(body, &w) != nil || w.Reason > maxReasonID || len(w.Epochs) > MaxRekeys || len(w.Prekeys) > maxBundles {
		return NeedRekey{}, malformed("need-rekey")
	}
	missing, err := parseChains(w.Missing)
	if err != nil {
		return NeedRekey{}, err
	}
	n := NeedRekey{Reason: RekeyReason(w.Reason), Missing: missing}
	for _, e := range w.Epochs {
		if len(e) != 8 {
			return NeedRekey{}, malformed("need-rekey: epoch")
		}
		n.Epochs = append(n.Epochs, EpochID(e))
	}
	for _, raw := range w.Prekeys {
		p, err := identity.ParsePrekey(raw)
		if err != nil {
			return NeedRekey{}, malformed("need-rekey: prekey")
		}
		n.Prekeys = append(n.Prekeys, p)
	}
	return n, nil
}

// A Profile is the body of TypeProfile.
type Profile struct {
	Name string // display name
}

type wireProfile struct {
	Name string `cbor:"1,keyasint"`
}

// Encode makes the body.
func (p Profile) Encode() ([]byte, error) {
	if len(p.Name) > MaxName || !utf8.ValidString(p.Name) {
		return nil, fmt.Errorf("envelope: encode profile: name of %d bytes, at most %d of UTF-8: %w", len(p.Name), MaxName, ErrTooLarge)
	}
	return identity.Marshal(wireProfile(p))
}

// ParseProfile reads the body of TypeProfile.
func ParseProfile(body []byte) (Profile, error) {
	var w wireProfile
	if identity.UnmarshalOpen(body, &w) != nil || len(w.Name) > MaxName {
		return Profile{}, malformed("profile")
	}
	return Profile(w), nil
}
