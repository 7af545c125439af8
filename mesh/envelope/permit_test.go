package envelope

import (
	"errors"
	"testing"
)

var errNotHere = errors.New("not here")

// TestK01PermitRefusesAnEpoch: what is not permitted changes nothing, and opens
// once it is.
func TestK01PermitRefusesAnEpoch(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	var asked []Member
	why := errNotHere
	bob.Keyring.self.Permit = func(members []Member, sent uint64) error {
		if sent == 0 {
			t.Error("no time of the issuer's")
		}
		asked = members
		return why
	}
	id, wraps := alice.startOnly(bob)
	for range 2 {
		if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); !errors.Is(err, errNotHere) {
			t.Fatalf("refused with %v", err)
		}
	}
	if _, ok := bob.Info(id); ok || len(asked) != 2 {
		t.Fatalf("kept: %v; asked about %d members", ok, len(asked))
	}
	why = nil
	if info, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil || info.Known {
		t.Fatalf("permitted: %v, known before %v", err, info.Known)
	}
	why = errNotHere // asked once: what is held stays
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestK01RefusedMessagesTakeNoPlace: they count as never seen, however many
// they are, open again, also after a commit, and are used up when accepted.
func TestK01RefusedMessagesTakeNoPlace(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	var mails []mail
	for range maxUnaccepted + 1 {
		mails = append(mails, alice.send(e, "x"))
	}
	var last *Opened
	for _, m := range mails {
		o, err := bob.open(m)
		if err != nil {
			t.Fatal(err)
		}
		bob.Refuse(o, o)
		last = o
	}
	if err := errors.Join(bob.Accept(last), bob.Commit()); err != nil { // refused: there is nothing to accept
		t.Fatal(err)
	}
	for _, m := range mails[:10] {
		bob.receive(m)
	}
	bob.refuse(mails[0], ErrDuplicate)
	bob.receive(mails[len(mails)-1])
}
