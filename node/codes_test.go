package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
)

const carolName, carolPassword = "Carol", "password-of-carol-in-this-test"

// ask is do with an answer that may be empty.
func (r *running) ask(method, path string, body, out any) error {
	var raw json.RawMessage
	err := r.do(method, path, body, &raw)
	if _, empty := errors.AsType[*json.SyntaxError](err); empty && out == nil {
		return nil
	}
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

func (r *running) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// code asks for a code on the operator's socket.
func (r *running) code(name string) (c struct {
	Code   string
	Name   string
	NewKey bool `json:"new_key"`
}) {
	r.t.Helper()
	r.must(r.ask("POST", "/v1/codes", map[string]any{"name": name, "admin_password": adminPassword}, &c))
	return c
}

// redeem spends a code and returns the user and the session.
func (r *running) redeem(code, password string, newKey bool) (identity.UserID, error) {
	var s struct {
		Token  string
		UserID identity.UserID `json:"user_id"`
	}
	err := r.ask("POST", "/v1/codes/redeem", map[string]any{"code": code, "password": password, "new_key": newKey}, &s)
	if err == nil {
		r.token = s.Token
	}
	return s.UserID, err
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), `"`+code+`"`) {
		t.Errorf("got %v, want %s", err, code)
	}
}

// await waits until the user has read exactly these texts.
func (r *running) await(want ...string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("the texts %q", want), func() error {
		if got := r.texts(); !slices.Equal(got, want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

func TestP04CodeIsGoodOnce(t *testing.T) {
	h, alice, _ := founded(t)
	r := up(t, h, onLoopback(t))
	c := r.code(carolName)
	if c.NewKey || c.Name != carolName || len(c.Code) != codeLength+1 {
		t.Errorf("%+v", c)
	}
	var about struct{ Name, Network, Words string }
	typed := strings.ToLower(strings.ReplaceAll(c.Code, "0", "o"))
	r.must(r.ask("POST", "/v1/codes/check", map[string]string{"code": " " + typed + " "}, &about))
	if about.Name != carolName || about.Network != networkName || len(strings.Split(about.Words, "-")) != deeplink.PasswordWords {
		t.Errorf("%+v", about)
	}
	wantCode(t, r.ask("POST", "/v1/codes/check", map[string]string{"code": "00000-00000"}, nil), "bad_code")
	if _, err := r.redeem(c.Code, "eleven char", false); err == nil || !strings.Contains(err.Error(), "weak_password") {
		t.Errorf("a password of eleven characters: %v", err)
	}
	carol, err := r.redeem(c.Code, carolPassword, false)
	r.must(err)
	r.send(alice, "I am here")
	if _, err := r.redeem(c.Code, carolPassword, false); err == nil {
		t.Error("the code was good twice")
	}
	r.login(alice, alicePassword)
	r.await("I am here")
	r.must(r.down())

	again := up(t, h, r.cfg)
	again.login(carol, carolPassword)
	again.must(again.down())
}

func TestP04CodeByLink(t *testing.T) {
	h, _, bob := founded(t)
	r := up(t, h, onLoopback(t))
	var c struct{ Code, Name string }
	r.must(r.ask("POST", "/v1/codes", map[string]any{"link": deeplink.Link(bob.Frame), "link_password": bob.Password}, &c))
	if c.Name != bobName {
		t.Errorf("%+v", c)
	}
	id, err := r.redeem(c.Code, bobPassword, false)
	r.must(err)
	if id != bob.User {
		t.Errorf("%s is not the link's user", id)
	}
	r.must(r.down())
}

// TestP04NewKeyAfterForgottenPassword: nothing happens without consent; then
// contacts see a later generation, old content stays sealed, new content comes.
func TestP04NewKeyAfterForgottenPassword(t *testing.T) {
	h, alice, _ := founded(t)
	r := up(t, h, onLoopback(t))
	carol, err := r.redeem(r.code(carolName).Code, carolPassword, false)
	r.must(err)
	carolToken := r.token
	r.send(alice, "the old secret")
	r.login(alice, alicePassword)
	r.await("the old secret")
	oldToken := r.token

	c := r.code(aliceName)
	if !c.NewKey {
		t.Fatal("the code does not say that it makes a new key")
	}
	_, err = r.redeem(c.Code, "the-new-password-of-alice", false)
	wantCode(t, err, "new_key")
	r.token = oldToken
	r.await("the old secret") // nothing has happened

	id, err := r.redeem(c.Code, "the-new-password-of-alice", true)
	r.must(err)
	if id != alice {
		t.Errorf("another user, %s", id)
	}
	if got := r.texts(); len(got) != 0 {
		t.Errorf("the new key reads %q", got)
	}
	aliceToken := r.token
	r.token = oldToken
	wantCode(t, r.ask("GET", "/v1/session", nil, nil), "no_session")
	r.token = ""
	wantCode(t, r.ask("POST", "/v1/session", map[string]string{"user": alice.String(), "password": alicePassword}, nil), "bad_password")

	r.token = carolToken
	r.awaitChangedKey(alice)
	r.awaitState(r.send(alice, "the new secret").ID, "delivered")
	r.token = aliceToken
	r.await("the new secret")
	r.must(r.down())

	if _, err := os.Stat(h.asideDir(alice, 1) + "/keystore"); err != nil {
		t.Errorf("the old keystore is not kept: %v", err)
	}
	again := up(t, h, r.cfg)
	again.login(alice, "the-new-password-of-alice")
	again.await("the new secret")
	again.login(carol, carolPassword)
	again.must(again.down())
}

// awaitChangedKey waits until a user's contact has learned of their next key.
func (r *running) awaitChangedKey(of identity.UserID) {
	r.t.Helper()
	eventually(r.t, "the changed key at a contact", func() error {
		var people struct {
			Users []struct {
				ID         identity.UserID
				KeyChanged bool `json:"key_changed"`
			}
		}
		if err := r.ask("GET", "/v1/users", nil, &people); err != nil {
			return err
		}
		for _, p := range people.Users {
			if p.ID == of && p.KeyChanged {
				return nil
			}
		}
		return fmt.Errorf("%+v", people)
	})
}

// TestP04SettleAfterCrash leaves off after each step that replaceKeys takes on
// the disk, and looks at whose keys are the user's then.
func TestP04SettleAfterCrash(t *testing.T) {
	for _, moved := range [][]string{{}, {"keystore"}, {"keystore", "vault"}} {
		t.Run(fmt.Sprint(len(moved), " moved"), func(t *testing.T) {
			h, alice, _ := founded(t)
			old, err := h.Keystore(alice)
			if err != nil {
				t.Fatal(err)
			}
			dir := h.path("users", alice.String())
			if err := os.MkdirAll(dir+"/vault", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := replaceFile(h.nextKeystore(alice, 1), []byte("new")); err != nil {
				t.Fatal(err)
			}
			if got, err := h.Keystore(alice); err != nil || string(got) != string(old) {
				t.Fatalf("before the state says so the old keys are the user's: %d bytes, %v", len(got), err)
			}
			if err := h.change(func() error { h.state.Users[0].Aside = 1; return nil }); err != nil {
				t.Fatal(err)
			}
			for _, name := range moved {
				if err := errors.Join(os.MkdirAll(h.asideDir(alice, 1), 0o700), os.Rename(dir+"/"+name, h.asideDir(alice, 1)+"/"+name)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if got, err := h.Keystore(alice); err != nil || string(got) != "new" {
					t.Fatalf("%q %v", got, err)
				}
			}
			if kept, err := os.ReadFile(h.asideDir(alice, 1) + "/keystore"); err != nil || string(kept) != string(old) {
				t.Errorf("the old keys are lost: %v", err)
			}
			if _, err := os.Stat(dir + "/vault"); err == nil {
				t.Error("the old vault is in the new one's place")
			}
		})
	}
}

func TestP04PasswordChange(t *testing.T) {
	h, alice, _ := founded(t)
	r := up(t, h, onLoopback(t))
	r.login(alice, alicePassword)
	other := r.token
	r.login(alice, alicePassword)
	change := func(old, password string) error {
		return r.ask("POST", "/v1/password", map[string]string{"old": old, "password": password}, nil)
	}
	wantCode(t, change("not the password", "a new long password"), "bad_password")
	wantCode(t, change(alicePassword, "eleven char"), "weak_password")
	r.must(change(alicePassword, "a new long password"))
	r.must(r.ask("GET", "/v1/session", nil, nil))
	r.token = other
	wantCode(t, r.ask("GET", "/v1/session", nil, nil), "no_session")
	r.login(alice, "a new long password")
	wantCode(t, r.ask("POST", "/v1/session", map[string]string{"user": alice.String(), "password": alicePassword}, nil), "bad_password")
	r.must(r.down())
}

func TestP04RecoverySheetBringsEverythingBack(t *testing.T) {
	h, alice, _ := founded(t)
	r := up(t, h, onLoopback(t))
	_, err := r.redeem(r.code(carolName).Code, carolPassword, false)
	r.must(err)
	r.send(alice, "from before")
	r.login(alice, alicePassword)
	r.await("from before")
	var sheet struct{ Words, Network string }
	wantCode(t, r.ask("POST", "/v1/recovery", map[string]string{"password": "wrong"}, nil), "bad_password")
	r.must(r.ask("POST", "/v1/recovery", map[string]string{"password": alicePassword}, &sheet))
	words := strings.Fields(sheet.Words)
	if len(words) != deeplink.SheetWords || sheet.Network != networkName {
		t.Fatalf("%d words, network %q", len(words), sheet.Network)
	}
	r.must(r.down())

	again := up(t, h, r.cfg)
	restore := func(words string) error {
		var s struct{ Token string }
		err := again.ask("POST", "/v1/recovery/restore", map[string]string{"words": words, "password": "found again, twelve"}, &s)
		again.token = s.Token
		return err
	}
	wantCode(t, restore(deeplink.SheetFrom([32]byte{1})), "bad_words")
	wantCode(t, restore(strings.Join(words[1:], " ")), "bad_words")
	again.must(restore(sheet.Words))
	again.await("from before")
	again.login(alice, "found again, twelve")
	again.must(again.down())
}

func TestP04CodesEndAndAreFew(t *testing.T) {
	a := &accounts{}
	add := func(i int, ttl time.Duration) (string, error) {
		text := newCodeText()
		c := &code{digest: digestOf(text), user: newUserID(), name: fmt.Sprint("user", i), expires: time.Now().Add(ttl)}
		return text, a.keep(c)
	}
	if text, err := add(0, -time.Second); err != nil {
		t.Fatal(err)
	} else if _, err := a.find(text); !errors.Is(err, api.ErrCode) {
		t.Errorf("an expired code: %v", err)
	}
	for i := range maxCodes {
		if text, err := add(i, time.Hour); err != nil {
			t.Fatal(err)
		} else if c, err := a.find(text); err != nil || !a.take(c) || a.take(c) {
			t.Fatalf("%v", err)
		} else if err := a.keep(c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := add(maxCodes, time.Hour); !errors.Is(err, chat.ErrBusy) {
		t.Errorf("one past the limit: %v", err)
	}
	if _, err := add(3, time.Hour); err != nil {
		t.Errorf("a user's second code does not replace the first: %v", err)
	}
}

func TestP04CodeNeedsTheAdmin(t *testing.T) {
	h, _, _ := founded(t)
	r := up(t, h, onLoopback(t))
	err := r.ask("POST", "/v1/codes", map[string]any{"name": carolName, "admin_password": "wrong"}, nil)
	wantCode(t, err, "bad_password")
	r.must(r.down())
}

// TestP04RecoverySheetOnAnotherNode: the user's identity without the messages,
// and nobody sees a changed key.
func TestP04RecoverySheetOnAnotherNode(t *testing.T) {
	adminHome, alice, link := founded(t)
	ca, cb := onLoopback(t), onLoopback(t)
	cb.Gossip.Seeds = []string{ca.Gossip.Listen}
	joined := newHome(t)
	if _, _, err := joined.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	a, b := up(t, adminHome, ca), up(t, joined, cb)
	a.login(alice, alicePassword)
	var sheet struct{ Words string }
	a.must(a.ask("POST", "/v1/recovery", map[string]string{"password": alicePassword}, &sheet))
	var s struct {
		Token  string
		UserID identity.UserID `json:"user_id"`
	}
	eventually(t, "the certificate to cross", func() error {
		return b.ask("POST", "/v1/recovery/restore", map[string]string{"words": sheet.Words, "password": "found on another node"}, &s)
	})
	if s.UserID != alice {
		t.Fatalf("restored %s", s.UserID)
	}
	b.token = s.Token
	m := b.send(link.User, "I am on your node now")
	b.login(link.User, bobPassword)
	b.await("I am on your node now")
	var people struct {
		Users []struct {
			ID         identity.UserID
			KeyChanged bool `json:"key_changed"`
		}
	}
	b.must(b.ask("GET", "/v1/users", nil, &people))
	for _, p := range people.Users {
		if p.ID == alice && p.KeyChanged {
			t.Error("the same key is told as changed")
		}
	}
	b.token = s.Token
	b.awaitState(m.ID, "delivered")
	a.must(a.down())
	b.must(b.down())
}

// TestP04ForgottenFarFromTheAdmin: the user's node has no admin key. A link for
// the user there is brings new keys, once; whoever had the old link gets
// nothing by it.
func TestP04ForgottenFarFromTheAdmin(t *testing.T) {
	h, alice, bob := founded(t)
	away := newHome(t)
	_, _, err := away.Join(t.Context(), joinRequest(bob), today())
	if err != nil {
		t.Fatal(err)
	}
	ca, cb := onLoopback(t), onLoopback(t)
	cb.Gossip.Seeds = []string{ca.Gossip.Listen}
	a, b := up(t, h, ca), up(t, away, cb)
	b.login(bob.User, bobPassword)
	a.login(alice, alicePassword)
	a.awaitState(a.send(bob.User, "before").ID, "delivered")
	b.await("before")

	again := map[string]any{"name": bobName, "again": true, "admin_password": adminPassword, "addrs": []string{"127.0.0.1:9"}}
	wantCode(t, b.ask("POST", "/v1/network/users", again, nil), "not_admin")
	var link struct {
		User           identity.UserID `json:"user_id"`
		Link, Password string
	}
	again["name"] = "nobody of that name"
	wantCode(t, a.ask("POST", "/v1/network/users", again, nil), "not_found")
	again["name"] = bobName
	a.must(a.ask("POST", "/v1/network/users", again, &link))
	if link.User != bob.User {
		t.Fatalf("the link is for %s", link.User)
	}
	wantCode(t, b.ask("POST", "/v1/codes", map[string]any{"link": deeplink.Link(bob.Frame), "link_password": bob.Password}, nil), "exists")
	var c struct {
		Code   string
		NewKey bool `json:"new_key"`
	}
	byLink := map[string]any{"link": link.Link, "link_password": link.Password}
	b.must(b.ask("POST", "/v1/codes", byLink, &c))
	if !c.NewKey {
		t.Error("the code does not say that it makes a new key")
	}
	_, err = b.redeem(c.Code, "the-new-password-of-bob", false)
	wantCode(t, err, "new_key")
	_, err = b.redeem(c.Code, "the-new-password-of-bob", true)
	b.must(err)
	if got := b.texts(); len(got) != 0 {
		t.Errorf("the new key reads %q", got)
	}
	a.awaitChangedKey(bob.User) // what is sealed to the old keys nobody opens any more
	a.awaitState(a.send(bob.User, "after").ID, "delivered")
	b.await("after")
	wantCode(t, b.ask("POST", "/v1/codes", byLink, nil), "exists")
	a.must(a.down())
	b.must(b.down())
}

// TestP04CodeNamesThePageThatIs: the address is the node's own, whatever its
// settings, or none where the page is off.
func TestP04CodeNamesThePageThatIs(t *testing.T) {
	h, _, _ := founded(t)
	c := onLoopback(t)
	r := up(t, h, c)
	var out struct {
		Code, URL string
		Local     string `json:"local_url"`
	}
	r.must(r.ask("POST", "/v1/codes", map[string]any{"name": carolName, "admin_password": adminPassword}, &out))
	if want := "http://" + c.Page.Listen[0] + "/c/#CODE-" + out.Code; out.URL != "" || out.Local != want {
		t.Errorf("%q and %q, want %q for this machine alone", out.URL, out.Local, want)
	}
	r.must(r.down())
	c.Page.Listen = []string{}
	if p := newPage(h, c, time.Now, nil); len(p.localURLs())+len(p.secureURLs()) != 0 {
		t.Errorf("the page is off: %v %v", p.localURLs(), p.secureURLs())
	}
}
