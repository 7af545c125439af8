package deeplink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

var (
	epoch    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	password = []byte("abbey-acorn-badge-candy-dance-eagle")
	allErrs  = []error{ErrDamaged, ErrVersion, ErrPassword, ErrIssuer, ErrExpired, ErrTooLarge, kdf.ErrParams}
)

type fixedClock struct {
	now     time.Time
	trusted bool
}

func (c fixedClock) Now() time.Time { return c.now }
func (c fixedClock) Trusted() bool  { return c.trusted }

var noon = fixedClock{epoch.AddDate(0, 0, 1), true}

func seeded(word string) identity.PrivateKey {
	return identity.PrivateKeyFromSeed(sha256.Sum256([]byte(word)))
}

type issuer struct {
	root  *identity.RootRecord
	key   identity.PrivateKey
	admin identity.Certificate
}

var newIssuer = sync.OnceValue(func() issuer {
	root, rootKey, err := identity.CreateRoot("sixteen bytes ok", identity.PresetStandard, epoch)
	if err != nil {
		panic(err)
	}
	key := seeded("admin")
	// The largest admin there can be within a join's limit: a generation above
	// 255 would take it to 126 bytes.
	admin, err := rootKey.IssueAdmin(root.ID(), identity.Certificate{
		Key: key.Public(), Roles: identity.RoleAdmin, Generation: 255, NotBefore: epoch, NotAfter: epoch.AddDate(10, 0, 0),
	})
	if err != nil {
		panic(err)
	}
	return issuer{root, key, admin}
})

// newJoin makes a join object with every field at its widest, but for the
// addresses.
func newJoin(t testing.TB, roles identity.Role, addrs ...string) (issuer, Join) {
	t.Helper()
	is := newIssuer()
	j := Join{
		Network: is.root.ID(), Name: is.root.Name(), Admin: is.admin, DelegateSeed: sha256.Sum256([]byte("delegate")),
		TicketID: [16]byte(bytes.Repeat([]byte{7}, 16)), TicketSecret: sha256.Sum256([]byte("ticket")),
		Secret: identity.NetworkSecret{Generation: 1<<16 + 1, Secret: sha256.Sum256([]byte("network"))},
		Addrs:  addrs, Policy: 1<<16 + 1, Expiry: epoch.AddDate(0, 0, 7),
	}
	var err error
	j.Delegate, err = identity.Issue(is.root.ID(), is.key, identity.Certificate{
		Class: identity.ClassDelegate, Subject: bytes.Repeat([]byte{9}, 16), Roles: roles, Generation: 300,
		Key:       identity.PrivateKeyFromSeed(j.DelegateSeed).Public(),
		NotBefore: epoch, NotAfter: j.Expiry.Add(identity.ProvisionalGrace),
	})
	if err != nil {
		t.Fatal(err)
	}
	return is, j
}

const both = identity.RoleUser | identity.RoleNode

func seal(t testing.TB, is issuer, j Join) []byte {
	t.Helper()
	content, err := NewJoin(j)
	if err != nil {
		t.Fatal(err)
	}
	return sealContent(t, content, is.key)
}

func sealContent(t testing.TB, content []byte, key identity.PrivateKey) []byte {
	t.Helper()
	frame, err := Seal(t.Context(), content, key, password, kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func same(t *testing.T, got, want Join) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("comes back different:\n%v\n%v", got.Addrs, want.Addrs)
	}
}

// TestLargest encodes the largest join object there can be in both link forms
// and draws it: decisions.md 12.
func TestLargest(t *testing.T) {
	is, j := newJoin(t, both, "192.0.2.255:65535", "192.0.2.254:65535", "x:7411")
	j.User = "bravo"
	for { // stretch the last address until nothing more fits
		longer := j
		longer.Addrs = append(j.Addrs[:2:2], "x"+j.Addrs[2])
		if _, err := NewJoin(longer); err != nil {
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "1 bytes over") {
				t.Errorf("one past the limit: %v", err)
			}
			break
		}
		j = longer
	}
	frame := seal(t, is, j)
	if len(frame) != MaxJoin {
		t.Fatalf("the largest join has %d bytes, not %d", len(frame), MaxJoin)
	}
	web, err := WebLink("255.255.255.255:7443", frame)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{Link(frame), web} {
		c, err := QR(link)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d characters, QR version %d-M, %d modules a side", len(link), c.Version, c.Size)
		if c.Version > 20 || c.Size != 17+4*c.Version {
			t.Errorf("QR version %d, %d modules", c.Version, c.Size)
		}
		if !c.Black(0, 0) || c.Black(7, 0) || c.Black(1, 1) || !c.Black(2, 2) {
			t.Error("no finder pattern in the corner")
		}
		got, unverified, err := OpenJoin(t.Context(), link, password, noon)
		if err != nil || unverified {
			t.Fatal(err)
		}
		same(t, got, j)
	}
	if _, err := QR(Link(append(frame, make([]byte, 40)...))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too much for one code: %v", err)
	}
	if _, err := QR(ShortLink(frame)); err == nil || errors.Is(err, ErrTooLarge) {
		t.Errorf("base64url was drawn: %v", err)
	}
}

// TestUsual makes the join that most will see, with three IPv4 addresses.
func TestUsual(t *testing.T) {
	is, j := newJoin(t, both, "192.168.1.20:7411", "10.20.0.1:7411", "172.16.4.4:7411")
	j.Secret.Generation, j.Policy = 1, 1
	frame := seal(t, is, j)
	t.Logf("%d bytes, %d characters in base32, %d in base64url", len(frame), len(Link(frame)), len(ShortLink(frame)))
	if len(frame) > 560 {
		t.Errorf("%d bytes", len(frame))
	}
	mixed := j // the dearest mix that is promised to fit
	mixed.Addrs = []string{"192.168.1.20:7411", "[2001:db8::1]:7411", "a.local:7411"}
	got, _, err := OpenJoin(t.Context(), Link(seal(t, is, mixed)), password, noon)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, mixed)
	if err := got.Chain().Verify(is.root, noon); err != nil {
		t.Error(err)
	}
}

// TestCarriers opens one frame from every form it may arrive in.
func TestCarriers(t *testing.T) {
	is, j := newJoin(t, both, "192.0.2.1:7411")
	frame := seal(t, is, j)
	web, err := WebLink("alpha.local:7443", frame)
	if err != nil {
		t.Fatal(err)
	}
	payload := strings.TrimPrefix(Link(frame), Scheme)
	for name, link := range map[string]string{
		"link": Link(frame), "short link": ShortLink(frame), "web link": web, "file": string(frame), "bare base32": payload,
		"lower case": strings.ToLower(Link(frame)), "capitals": strings.ToUpper(Link(frame)), "no slash": "outrider://c#" + payload,
		"plain http": "http://192.0.2.1:7480/c#" + payload, "wrapped by mail": Link(frame)[:70] + "\r\n " + Link(frame)[70:] + "\n",
	} {
		got, err := DecodeLink(link)
		if err != nil || !bytes.Equal(got, frame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, _, err := OpenJoin(t.Context(), string(frame), []byte("Abbey, Acorn  Badge CANDY dance. eagle\n"), noon)
	if err != nil {
		t.Fatalf("password as people type it: %v", err)
	}
	same(t, got, j)
	for _, host := range []string{"", "host", "a b:1", "a/b:1", "a#b:1", "h:0", "h:65536", "h:07", "h:x", "user@h:1", "fe80::1:7443"} {
		if link, err := WebLink(host, frame); err == nil {
			t.Errorf("%q made %s", host, link[:40])
		}
	}
}

// exactly reports whether err is want and none of the others.
func exactly(err, want error) bool {
	for _, e := range allErrs {
		if errors.Is(err, e) != (e == want) {
			return false
		}
	}
	return true
}

// TestErrorsAreDistinct: each fault gets its own error and no other's.
func TestErrorsAreDistinct(t *testing.T) {
	is, j := newJoin(t, both, "192.0.2.1:7411")
	frame := seal(t, is, j)
	link := Link(frame)
	rechecked := func(at int, b byte) string {
		bad := bytes.Clone(frame[:len(frame)-checkSize])
		bad[at] ^= b
		return Link(appendCheck(bad))
	}
	content, err := NewJoin(j)
	if err != nil {
		t.Fatal(err)
	}
	other := seeded("a member who knows the password")
	try := func(name, link string, pw []byte, clock fixedClock, want error) {
		t.Helper()
		_, _, err := OpenJoin(t.Context(), link, pw, clock)
		if !exactly(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	try("wrong password", link, []byte("abbey-acorn-badge-candy-dance-cabbage"), noon, ErrPassword)
	try("one character missing at the end", link[:len(link)-1], password, noon, ErrDamaged)
	try("half", link[:len(link)/2], password, noon, ErrDamaged)
	try("one character changed", link[:400]+flipChar(link[400])+link[401:], password, noon, ErrDamaged)
	try("a character that is none", link[:300]+"!"+link[301:], password, noon, ErrDamaged)
	try("nothing", "", password, noon, ErrDamaged)
	try("only the scheme", Scheme, password, noon, ErrDamaged)
	try("another program's", "https://example.org/#"+link[14:], password, noon, ErrDamaged)
	try("secret in the path, not behind #", "https://alpha/c/"+link[14:], password, noon, ErrDamaged)
	try("another version", Link(appendCheck(append([]byte("OR2"), frame[3:len(frame)-2]...))), password, noon, ErrVersion)
	try("another version, base64", ShortLink([]byte("OR9"+string(frame[3:]))), password, noon, ErrVersion)
	try("another version, file", "OR2"+string(frame[3:]), password, noon, ErrDamaged) // as text it is no link
	try("kdf of 4 GiB", rechecked(4, 0xff), password, noon, kdf.ErrParams)
	try("kdf of 7 passes", rechecked(5, 5), password, noon, kdf.ErrParams)
	try("kdf unknown", rechecked(3, 8), password, noon, kdf.ErrParams)
	try("too large", Link(make([]byte, MaxFrame+1)), password, noon, ErrTooLarge)
	try("salt changed, check mended", rechecked(10, 1), password, noon, ErrPassword)
	try("ciphertext changed, check mended", rechecked(200, 1), password, noon, ErrPassword)
	try("signed by another", Link(sealContent(t, content, other)), password, noon, ErrIssuer)
	try("expired", link, password, fixedClock{j.Expiry, true}, ErrExpired)
	try("content of a later kind", Link(sealContent(t, []byte{0x82, 9, 1}, is.key)), password, noon, ErrVersion)
	try("content that is nothing", Link(sealContent(t, []byte{0xff}, is.key)), password, noon, ErrDamaged)
	if _, _, err := OpenJoin(t.Context(), link, password, fixedClock{j.Expiry.Add(-time.Minute), true}); err != nil {
		t.Errorf("in the last minute: %v", err)
	}
	if _, unverified, err := OpenJoin(t.Context(), link, password, fixedClock{time.Unix(0, 0), false}); err != nil || !unverified {
		t.Errorf("clock not set: %v %v", unverified, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := OpenJoin(ctx, link, password, noon); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// flipChar returns another character of the alphabet.
func flipChar(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// TestEveryBit changes every byte of a frame, with the check bytes mended as
// a thief would.
func TestEveryBit(t *testing.T) {
	is, j := newJoin(t, both)
	frame := seal(t, is, j)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what gets as far as the derivation is proven by the seal: see below
	key, err := kdf.Derive(t.Context(), password, [16]byte(frame[7:]), kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Open(key, frame[headerSize:len(frame)-checkSize], frame[:headerSize]); err != nil {
		t.Fatal(err)
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 1
		if _, err := DecodeLink(Link(bad)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if i >= len(frame)-checkSize {
			continue
		}
		bad = appendCheck(bad[:len(bad)-checkSize])
		if _, err := Open(ctx, bad, password); err == nil {
			t.Fatalf("byte %d opened", i)
		}
		if _, err := identity.Open(key, bad[headerSize:len(bad)-checkSize], bad[:headerSize]); err == nil {
			t.Fatalf("byte %d is not covered by the seal", i)
		}
	}
}

// TestPasswordHolderCannotAlter: who knows the password may seal anything,
// but not in the admin's name.
func TestPasswordHolderCannotAlter(t *testing.T) {
	is, j := newJoin(t, both, "192.0.2.1:7411")
	frame := seal(t, is, j)
	f, err := Open(t.Context(), frame, password)
	if err != nil {
		t.Fatal(err)
	}
	content, err := f.Verify(is.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(seeded("x").Public()); !errors.Is(err, ErrIssuer) {
		t.Errorf("another issuer: %v", err)
	}
	for i := range content {
		altered := Frame{Issuer: f.Issuer, content: bytes.Clone(content), sig: f.sig}
		altered.content[i] ^= 1
		if _, err := ParseJoin(altered); err == nil {
			t.Fatalf("byte %d makes no difference", i)
		}
	}
}

// TestIssuerCannotOverreach: an admin's own signature does not make a join
// out of parts that do not fit.
func TestIssuerCannotOverreach(t *testing.T) {
	is, good := newJoin(t, both, "192.0.2.1:7411")
	change := func(f func(*Join)) Join { j := good; f(&j); return j }
	foreignAdmin := good.Admin
	foreignAdmin.Key = seeded("other").Public()
	for name, c := range map[string]struct {
		j    Join
		want error
	}{
		"seed of another delegate":   {change(func(j *Join) { j.DelegateSeed[0] ^= 1 }), ErrIssuer},
		"delegate by somebody else":  {change(func(j *Join) { j.Admin = foreignAdmin }), ErrIssuer},
		"delegate outlives ticket":   {change(func(j *Join) { j.Expiry = j.Expiry.Add(-time.Minute) }), ErrIssuer},
		"another network":            {change(func(j *Join) { j.Network[0] ^= 1 }), ErrIssuer},
		"four addresses":             {change(func(j *Join) { j.Addrs = []string{"a:1", "b:1", "c:1", "d:1"} }), ErrTooLarge},
		"name too long":              {change(func(j *Join) { j.Name = "seventeen bytes!!" }), ErrDamaged},
		"user's certificate instead": {change(func(j *Join) { j.Delegate = j.Admin }), ErrIssuer},
	} {
		if _, err := NewJoin(c.j); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, a := range []string{"", "192.0.2.1", "192.0.2.1:0", "a b:1", "[fe80::1%eth0]:7411", "h:65536", "x#y:1"} {
		if _, err := NewJoin(change(func(j *Join) { j.Addrs = []string{a} })); err == nil {
			t.Errorf("address %q was taken", a)
		}
	}
	if _, err := Seal(t.Context(), []byte{0x81, 1}, is.key, []byte("eleven char"), kdf.Floor()); !errors.Is(err, ErrWeakPassword) {
		t.Errorf("short password: %v", err)
	}
	for p, want := range map[string]error{"": ErrWeakPassword, "äöüäöüäöüäö": ErrWeakPassword, "äöüäöüäöüäöü": nil, "twelve chars": nil} {
		if err := CheckPassword([]byte(p)); err != want {
			t.Errorf("%q: %v", p, err)
		}
	}
	if _, err := Seal(t.Context(), make([]byte, MaxFrame), is.key, password, kdf.Floor()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large content: %v", err)
	}
}

// TestWireRefuses alters the encoding itself, signed as it should be.
func TestWireRefuses(t *testing.T) {
	is, j := newJoin(t, both, "192.0.2.1:7411")
	content, err := NewJoin(j)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*joinWire){
		"short seed":          func(w *joinWire) { w.DelegateSeed = w.DelegateSeed[:31] },
		"long ticket":         func(w *joinWire) { w.TicketID = append(w.TicketID, 0) },
		"no addresses":        func(w *joinWire) { w.Addrs = nil },
		"address of 7 bytes":  func(w *joinWire) { w.Addrs = []any{make([]byte, 7)} },
		"address a number":    func(w *joinWire) { w.Addrs = []any{uint64(5)} },
		"IPv4 as 18 bytes":    func(w *joinWire) { w.Addrs = []any{append(bytes.Repeat([]byte{0}, 10), 255, 255, 1, 2, 3, 4, 5, 6)} },
		"IP address as text":  func(w *joinWire) { w.Addrs = []any{"192.0.2.1:7411"} },
		"port 0":              func(w *joinWire) { w.Addrs = []any{[]byte{1, 2, 3, 4, 0, 0}} },
		"text without a port": func(w *joinWire) { w.Addrs = []any{"alpha"} },
		"admin cut":           func(w *joinWire) { w.Admin = w.Admin[:50] },
		"delegate cut":        func(w *joinWire) { w.Delegate = w.Delegate[:50] },
		"expiry 0":            func(w *joinWire) { w.Expiry = 0 },
		"no name":             func(w *joinWire) { w.Name = "" },
	} {
		var w joinWire
		if err := identity.Unmarshal(content, &w); err != nil {
			t.Fatal(err)
		}
		change(&w)
		bad, err := identity.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseJoin(frameOf(bad, is.key)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// frameOf returns an opened frame without the cost of sealing.
func frameOf(content []byte, key identity.PrivateKey) Frame {
	plain := sign(content, key)
	return Frame{Issuer: key.Public().ID(), content: content, sig: plain[len(plain)-identity.SignatureSize:]}
}

// TestRedeem spends a ticket and has the root record judge what comes of it.
func TestRedeem(t *testing.T) {
	for _, roles := range []identity.Role{identity.RoleUser, identity.RoleNode, both, both | identity.RoleModerator} {
		is, j := newJoin(t, roles)
		user, uErr := j.CertifyUser(seeded("me").Public())
		node, nErr := j.CertifyNode(seeded("my node").Public().NodeID())
		for _, c := range []struct {
			chain identity.Chain
			err   error
			may   bool
		}{{user, uErr, roles&identity.RoleUser != 0}, {node, nErr, roles&identity.RoleNode != 0}} {
			if !c.may {
				if !errors.Is(c.err, identity.ErrRole) {
					t.Errorf("roles %v: %v", roles, c.err)
				}
				continue
			}
			if c.err != nil {
				t.Fatal(c.err)
			}
			if err := c.chain.Verify(is.root, noon); err != nil || !c.chain.Provisional() {
				t.Errorf("roles %v: %v", roles, err)
			}
			if end := j.Expiry.Add(identity.ProvisionalGrace); c.chain.Until().After(end) {
				t.Errorf("lasts until %v, after %v", c.chain.Until(), end)
			}
		}
	}
}

func TestWords(t *testing.T) {
	checkList(t, words, wordStart, 1<<wordBits, 3, "28aa463baeaf520c")
	checkList(t, passwordWords(), passwordStart, 7776, 4, "13dcde2e7f61c39f")
	seen := map[string]bool{}
	for range 200 {
		w, err := Words()
		if err != nil || seen[w] || len(strings.Split(w, "-")) != PasswordWords {
			t.Fatalf("%q %v", w, err)
		}
		seen[w] = true
		typed := strings.Fields(strings.ToUpper(strings.ReplaceAll(w, "-", " ")) + "\n")
		for i, word := range typed {
			typed[i] = word[:min(len(word), passwordStart)]
		}
		if got := string(canonicalPassword([]byte(strings.Join(typed, " ") + "\n"))); got != w {
			t.Fatalf("%q is %q, not %q", typed, got, w)
		}
	}
	for _, own := range []string{"my own password!", "Abbey-acid-badge", "a b c d e f", "abbey acorn badge candy dance eaglefish", "abbey acorn badge candy dance eagle fabric"} {
		if got := canonicalPassword([]byte(own)); string(got) != own {
			t.Errorf("%q became %q", own, got)
		}
	}
}

// checkList holds a frozen list of words to its promises.
func checkList(t *testing.T, list []string, start, count, shortest int, want string) {
	t.Helper()
	if len(list) != count {
		t.Fatalf("%d words, not %d", len(list), count)
	}
	starts := map[string]bool{}
	for i, w := range list {
		if i > 0 && list[i-1] >= w || len(w) < shortest || len(w) > 7 || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Errorf("word %q", w)
		}
		first := w[:min(start, len(w))]
		if starts[first] {
			t.Errorf("%q begins like another", w)
		}
		starts[first] = true
	}
	sum := sha256.Sum256([]byte(strings.Join(list, " ")))
	if got := fmt.Sprintf("%x", sum[:8]); got != want {
		t.Errorf("the frozen list has changed: %s", got)
	}
}

func TestFingerprint(t *testing.T) {
	if got := Fingerprint(identity.NetworkID{}); got != "puppy soft jeans glove eternal cruise" {
		t.Errorf("the fingerprint of zero has changed: %s", got)
	}
	if Fingerprint(identity.NetworkID{1}) == Fingerprint(identity.NetworkID{2}) {
		t.Error("fingerprints repeat")
	}
}

// TestOpenVector opens a frozen link: what was handed out on paper must open
// for ever (decisions.md 28).
func TestOpenVector(t *testing.T) {
	const link = "outrider://c/#J5JDCAITAIAQKJWM7PTOSH7WXJGCZTRDLPJ75PMEILA6GUXGVEC4MMGOIYCY3WATER7OJVG5TXMJQKYTBW2W5ORXOT464XYC6WK5UHME2X2SQLEBG2QOFV4UE2C464D4RVF25FTOUTLGUX7GHMV7J6OQ64CFWF5RR4BDOLPTEWTB7Z5Y5QQL52VFQAEPQU4RJLFYJ3WROZCE3TWNUR2KLEAKQIDJHTGHVCHG7CZ6BSCBWQFY7FHOXKLAFQM2L34UTPZQ5KHQ4OLFQQOKE2FCGOSGMKMDTFLXVHTRQOAZ3MDU7O7OE35IPKKUSQOOIRMTWDEBSPIC6ZHUHLY6FT4FA6ANNRPGLSEJEHRUHRTHM753FQCBBOQOYLGATXWFHQOT3IKKR7BK2D5XY4A3RF5NE6GP7X6JO343XWHISAYFP2WEFXFDU7H2EFWC5RZOEK23JT4ZEXU6HNKKVKTJRJVL6GZ3O4ZNGWHSFSNN2VW5YZY66X6GJNSJ6SWHOQVBN2E3FR52DYRI36HVSXXHCYJQRDTTORP4YGZFSUFZXLMBQT5I5IZ467M6ATCCVTMXRFMASJWM76WMELSV2ZOX56FXJ7S5HRZFIHY57UH6WLUU6GJAB74NH6UAGHLHSUWUNS2ZSX6T27VXGC5BU45N5LWVKZCTFSCQ7SLT7HSEMPOSQJ4DV2KXBYTL42L7P6TUCPRA2L6HQOZTLWZOXOX2237JZNAGM4YH2CN6YCNLETITZY243KEIASDGXI2AX2IRRKLOCMCHYWLFDHQLJHBHRP6K36NITAGFDKQLZKSCWH7VKVMJUWLHYQKOM5C26FNNFW4BZ2NKZ6CIJ3OIXAB7JTNSBT37B4H3AD5EBY6KHFVG7V7ZCAGPHKLLIFCPOR4CVB63UOFUO542SBNMHJPY"
	j, _, err := OpenJoin(t.Context(), link, []byte("abbey acorn badge candy dance eagle"), noon)
	if err != nil {
		t.Fatal(err)
	}
	if j.Name != "sixteen bytes ok" || j.User != "bravo" || j.Secret.Generation != 1<<16+1 || len(j.Addrs) != 3 || j.Addrs[2] != "a.local:7411" || !j.Expiry.Equal(epoch.AddDate(0, 0, 7)) {
		t.Errorf("%v %v %v", j.Name, j.Addrs, j.Expiry)
	}
}

func FuzzDecodeLink(f *testing.F) {
	frame := appendCheck(append([]byte("OR1\x01\x13\x02\x01"), make([]byte, 150)...))
	f.Add(Link(frame))
	f.Add(ShortLink(frame))
	f.Add("https://h:1/c/#" + base64.RawURLEncoding.EncodeToString(frame))
	f.Add(string(frame))
	f.Fuzz(func(t *testing.T, s string) {
		got, err := DecodeLink(s)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		if again, err := DecodeLink(Link(got)); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("does not come back: %v", err)
		}
	})
}

func FuzzParseJoin(f *testing.F) {
	is, j := newJoin(f, both, "192.0.2.1:7411", "[2001:db8::1]:1", "a:1")
	content, err := NewJoin(j)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseJoin(frameOf(b, is.key))
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrIssuer) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		again, err := NewJoin(got)
		if err != nil && !errors.Is(err, ErrTooLarge) || err == nil && !bytes.Equal(again, b) {
			t.Fatalf("does not come back: %v", err)
		}
	})
}

func BenchmarkOpenJoin(b *testing.B) {
	is, j := newJoin(b, both, "192.0.2.1:7411")
	frame := seal(b, is, j)
	for b.Loop() {
		if _, err := Open(b.Context(), frame, password); err != nil {
			b.Fatal(err)
		}
	}
}

// What is no link at all is told from a link that was damaged on the way.
func TestNoLink(t *testing.T) {
	for _, text := range []string{
		"", " \n", "hello", "root:x:0:0:root:/root:/bin/sh\n", "\x89PNG\r\n\x1a\n\x00#/", "https://example.org/", "https://example.org/x#J5JD", "outrider:", "OR",
	} {
		if _, err := DecodeLink(text); !errors.Is(err, ErrNoLink) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"OR1", "J5JD", Scheme + "hello", Scheme, "https://192.0.2.1:7443/c/#J5JDCAAA"} {
		if _, err := DecodeLink(text); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoLink) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
