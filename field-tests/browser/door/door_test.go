// Package door holds the tests of how phones and laptops come to a node's
// page: the real binary and a real browser in a network namespace, where
// addresses come and go as on a vehicle.
package door

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"outrider/field-tests/browser"
	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
	"outrider/offline/deeplink"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(func() int { return run(m) })) }

func run(m *testing.M) int {
	defer scenario.Clean()
	if err := network(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const (
	firstIP, secondIP = "10.77.0.1", "10.78.0.1"
	secure            = "https://" + firstIP + ":7443/"
	handout           = "http://" + firstIP + ":7481/"
	loginScreen       = `document.querySelector('#login-submit')`
	insideScreen      = `document.querySelector('#app:not([hidden]) #shell')`
)

// network makes a LAN with this machine alone in it.
func network() error {
	return errors.Join(ip("link", "set", "lo", "up"), ip("tuntap", "add", "dev", "lan0", "mode", "tap"), ip("link", "set", "lan0", "multicast", "on"),
		ip("addr", "add", firstIP+"/24", "dev", "lan0"), ip("link", "set", "lan0", "up"), ip("route", "add", "default", "dev", "lan0"))
}

// readdress moves this machine to another network.
func readdress(from, to string) error {
	return errors.Join(ip("addr", "add", to+"/24", "dev", "lan0"), ip("addr", "del", from+"/24", "dev", "lan0"),
		ip("route", "replace", "default", "dev", "lan0"))
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// startNode runs a node with a network and alice, its page open to the LAN.
func startNode(t *testing.T) *scenario.Box {
	t.Helper()
	ctx := t.Context()
	box := scenario.NewBoxAlone(t.TempDir(), "n", scenario.Binary(t), firstIP)
	if _, err := box.Init(ctx); err != nil {
		t.Fatal(err)
	}
	toml := "[page]\nlisten = [\"127.0.0.1\", \"0.0.0.0\"]\n\n[store]\nfree_floor_mb = 16\n"
	if err := os.WriteFile(filepath.Join(box.Dir, "outrider.toml"), []byte(toml), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(box.CreateNetwork(ctx, "eagle"), box.HostUser(ctx, "alice")); err != nil {
		t.Fatal(err)
	}
	if err := box.Up(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Kill)
	return box
}

// cli runs a command whose answer is one JSON value.
func cli[T any](t *testing.T, box *scenario.Box, stdin string, args ...string) (v T) {
	t.Helper()
	out, err := box.CLI(t.Context(), stdin, append([]string{"--json"}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &v)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return v
}

type pageInfo struct {
	URLs []string
	Name string
	CA   struct {
		SHA256 string
		URLs   []string
	}
}

type oneTimeCode struct {
	Code, URL string
	NewKey    bool `json:"new_key"`
}

func newCode(t *testing.T, box *scenario.Box, name string) oneTimeCode {
	t.Helper()
	return cli[oneTimeCode](t, box, scenario.AdminPassword+"\n", "user", "code", name, "--admin-password-file", "-")
}

// phone starts a browser that never was here before. ca, if not nil, is
// installed in it as a person would.
func phone(t *testing.T, ca []byte, flags map[string]any) *browser.Page {
	t.Helper()
	home := t.TempDir()
	if ca != nil {
		install(t, home, ca)
	}
	t.Setenv("HOME", home)
	b, err := browser.Start(context.WithoutCancel(t.Context()), browser.Options{Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	p, err := b.Page(browser.PageOptions{Width: 360, Height: 640, Mobile: true, Lang: "en-GB"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, problem := range p.Problems() {
			t.Errorf("the page: %s", problem)
		}
		if t.Failed() {
			if shown, err := browser.Eval[string](p, `document.body.innerText.slice(0, 1500)`); err == nil {
				t.Logf("the page shows:\n%s", shown)
			}
		}
		p.Close()
	})
	return p
}

// install puts an authority into Chromium's list: its own on Linux.
func install(t *testing.T, home string, ca []byte) {
	t.Helper()
	dir, file := filepath.Join(home, ".pki", "nssdb"), filepath.Join(home, "ca.pem")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, ca, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "outrider", "-i", file}} {
		cmd := exec.Command("certutil", append([]string{"-d", "sql:" + dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v: %s", err, out)
		}
	}
}

// fetchCA opens the hand-out, takes the authority as a phone would, and shuts
// it again.
func fetchCA(t *testing.T, box *scenario.Box) []byte {
	t.Helper()
	info := cli[pageInfo](t, box, "", "page", "--ca-for", "5m")
	if len(info.CA.URLs) == 0 {
		t.Fatalf("nothing is handed out: %+v", info)
	}
	raw := get(t, info.CA.URLs[0]+"outrider-ca.pem")
	cli[pageInfo](t, box, "", "page", "--ca-for", "0")
	return raw
}

func get(t *testing.T, address string) []byte {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s: %s %v", address, res.Status, err)
	}
	return raw
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// narrow fails when a screen is wider than the phone.
func narrow(t *testing.T, p *browser.Page) {
	t.Helper()
	if w, err := browser.Eval[int](p, `document.documentElement.scrollWidth`); err != nil || w > 360 {
		t.Errorf("the screen is %d pixels wide on a phone of 360 (%v)", w, err)
	}
	small, err := browser.Eval[[]string](p, `[...document.querySelectorAll('a.button, button, input, textarea')].filter((e) => e.getClientRects().length && e.type !== 'checkbox' && e.getBoundingClientRect().height < 44).map((e) => e.id || e.textContent)`)
	if err != nil || len(small) > 0 {
		t.Errorf("too small for a thumb: %v %v", small, err)
	}
}

// TestP02CertificateOnAPhone: without the authority the browser warns; with
// it the page loads, at every address the machine has or gets, and by name.
func TestP02CertificateOnAPhone(t *testing.T) {
	box := startNode(t)
	ca := fetchCA(t, box)
	info := cli[pageInfo](t, box, "", "page")

	stranger := phone(t, nil, nil)
	refused, err := stranger.Visit(secure)
	if err != nil || refused != "net::ERR_CERT_AUTHORITY_INVALID" {
		t.Errorf("without the authority: %q %v", refused, err)
	}

	name := info.Name
	if name == "" || !strings.HasSuffix(name, ".local") {
		t.Fatalf("the page has no name on the LAN: %+v", info)
	}
	p := phone(t, ca, map[string]any{"host-resolver-rules": "MAP " + name + " " + secondIP})
	must(t, p.Show(secure, "the login", loginScreen))
	if secureContext, err := browser.Eval[bool](p, `isSecureContext`); err != nil || !secureContext {
		t.Errorf("not a secure context (%v)", err)
	}
	narrow(t, p)

	t.Cleanup(func() { must(t, readdress(secondIP, firstIP)) })
	must(t, readdress(firstIP, secondIP))
	must(t, p.Show("https://"+secondIP+":7443/", "the login after the address has changed", loginScreen))

	must(t, p.Show("https://"+name+":7443/", "the login by name", loginScreen))
	must(t, box.Stop())
}

// TestN04HandoutOpensAndShuts: the plain-HTTP door is shut until asked for,
// shows what the console shows, takes nothing, and shuts again.
func TestN04HandoutOpensAndShuts(t *testing.T) {
	box := startNode(t)
	stranger := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // who has no connection from before
	shut := func() {
		t.Helper()
		if _, err := stranger.Get(handout); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the hand-out is open: %v", err)
		}
	}
	shut()
	info := cli[pageInfo](t, box, "", "page", "--ca-for", "5m")
	p := phone(t, nil, nil)
	must(t, p.Show(handout, "the instructions", `document.querySelector('#fingerprint')`))
	shown, err := browser.Eval[string](p, `document.querySelector('#fingerprint').innerText.replace(/[^0-9A-F:\n]/g, '')`)
	if err != nil || !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(shown, "\n", ":"), "::", ":"), info.CA.SHA256) {
		t.Errorf("the page shows %q, the console %s (%v)", shown, info.CA.SHA256, err)
	}
	if color, err := browser.Eval[string](p, `getComputedStyle(document.body).backgroundColor`); err != nil || color != "rgb(14, 19, 18)" {
		t.Errorf("the policy keeps the page's own style out: %s %v", color, err)
	}
	narrow(t, p)
	for _, path := range []string{"", "v1/session"} {
		res, err := http.PostForm(handout+path, url.Values{"user": {"alice"}, "password": {scenario.UserPassword}})
		must(t, err)
		res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("a password sent to /%s: %s", path, res.Status)
		}
	}
	cli[pageInfo](t, box, "", "page", "--ca-for", "0")
	shut()
	must(t, box.Stop())
}

// TestN04NameOnTheLAN asks for the page's name as a phone does.
func TestN04NameOnTheLAN(t *testing.T) {
	box := startNode(t)
	name := cli[pageInfo](t, box, "", "page").Name
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 1})
	must(t, errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{
		Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})))
	q, err := b.Finish()
	must(t, err)
	conn, err := net.ListenPacket("udp4", firstIP+":0")
	must(t, err)
	defer conn.Close()
	must(t, scenario.Poll(t.Context(), "an answer", func() (bool, error) {
		if _, err := conn.WriteTo(q, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}); err != nil {
			return false, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return false, err
		}
		buf := make([]byte, 1500)
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return false, err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || len(m.Answers) == 0 {
			return false, fmt.Errorf("%+v %v", m, err)
		}
		a, ok := m.Answers[0].Body.(*dnsmessage.AResource)
		return ok && net.IP(a.A[:]).String() == firstIP, nil
	}))
	must(t, box.Stop())
}

// choose sets the new password on the door's screen.
func choose(p *browser.Page, password string) error {
	return errors.Join(p.Fill("#door-password", password), p.Fill("#door-again", password), p.Click("#door-form-submit"))
}

// TestP04FirstPasswordByCode: from the console's code to the first screen, on
// a phone; then the way back after a forgotten password, which says first what
// it costs.
func TestP04FirstPasswordByCode(t *testing.T) {
	box := startNode(t)
	p := phone(t, fetchCA(t, box), nil)
	c := newCode(t, box, "bravo")
	if c.NewKey || !strings.HasPrefix(c.URL, secure+"c/#CODE-") {
		t.Fatalf("%+v", c)
	}
	must(t, p.Show(c.URL, "the code", `document.querySelector('#door-code')?.value.length === 11`))
	narrow(t, p)
	if left, err := browser.Eval[string](p, `location.hash`); err != nil || left != "" {
		t.Errorf("the code is left in the address: %q %v", left, err)
	}
	must(t, p.Click("#door-form-submit"))
	must(t, p.Wait("the password", `document.querySelector('#door-words')`))
	narrow(t, p)
	must(t, choose(p, "eleven char"))
	must(t, p.Wait("what is wrong with it", `document.querySelector('#door-form-error').innerText.includes('fewer than 12')`))
	must(t, p.Click("#door-take"))
	words, err := browser.Eval[string](p, `document.querySelector('#door-password').value`)
	must(t, err)
	if len(strings.Split(words, "-")) != deeplink.PasswordWords {
		t.Errorf("the words offered are %q", words)
	}
	must(t, p.Click("#door-form-submit"))
	must(t, p.Wait("the page behind the login", insideScreen))

	c = newCode(t, box, "bravo")
	if !c.NewKey {
		t.Error("the console does not say that the key will change")
	}
	must(t, p.Show(secure+"c/", "the door", `document.querySelector('#door-code')`))
	must(t, errors.Join(p.Fill("#door-code", strings.ToLower(c.Code)), p.Click("#door-form-submit")))
	must(t, p.Wait("the warning", `document.querySelector('#door-newkey')?.innerText.includes('stay sealed')`))
	must(t, choose(p, "a second password"))
	must(t, p.Wait("the refusal", `document.querySelector('#door-form-error').innerText.includes('Tick the box')`))
	must(t, errors.Join(p.Click("#door-agree"), p.Click("#door-form-submit")))
	must(t, p.Wait("the page behind the login", insideScreen))
	must(t, box.Stop())
}

// TestP04SheetAndPasswordOnThePage: another password and a recovery sheet for
// who is logged in; then back with nothing but the sheet.
func TestP04SheetAndPasswordOnThePage(t *testing.T) {
	box := startNode(t)
	p := phone(t, fetchCA(t, box), nil)
	must(t, p.Show(secure, "the login", loginScreen))
	must(t, p.Login("alice", scenario.UserPassword))
	must(t, p.Show(secure+"c/#account", "the account", `document.querySelector('#door-old')`))
	narrow(t, p)
	must(t, errors.Join(p.Fill("#door-own", scenario.UserPassword), p.Click("#door-sheet-form-submit")))
	must(t, p.Wait("the words", `document.querySelectorAll('.door-sheet li').length === 24`))
	words, err := browser.Eval[string](p, `[...document.querySelectorAll('.door-sheet li')].map((e) => e.textContent.slice(0, 4)).join(' ')`)
	must(t, err)
	must(t, p.Fill("#door-old", scenario.UserPassword))
	must(t, choose(p, "soon forgotten too"))
	must(t, p.Wait("the change", `document.querySelector('#door-changed')?.hidden === false`))

	lost := phone(t, fetchCA(t, box), nil)
	must(t, lost.Show(secure, "the login", loginScreen))
	must(t, lost.Click("#login-door"))
	must(t, lost.Wait("the door", `document.querySelector('#door-restore')`))
	must(t, lost.Click("#door-restore"))
	must(t, lost.Wait("the sheet", `document.querySelector('#door-sheet-words')`))
	must(t, lost.Fill("#door-sheet-words", words))
	must(t, choose(lost, "found with the sheet"))
	must(t, lost.Wait("the page behind the login", insideScreen))
	must(t, box.Stop())
}

// TestP02LandingPageTellsAPhoneWhatToDo: a join link in its web form, opened
// on a phone. The node is sent nothing of what stands behind the #.
func TestP02LandingPageTellsAPhoneWhatToDo(t *testing.T) {
	box := startNode(t)
	inv := cli[struct {
		PageLink string `json:"page_link"`
		Link     string
	}](t, box, scenario.AdminPassword+"\n", "user", "add", "delta", "--admin-password-file", "-")
	if !strings.HasPrefix(inv.PageLink, secure+"c/#") {
		t.Fatalf("%+v", inv)
	}
	p := phone(t, fetchCA(t, box), nil)
	must(t, p.Show(inv.PageLink, "the landing page", `document.querySelector('#door-link')`))
	if link, err := browser.Eval[string](p, `document.querySelector('#door-link').value`); err != nil || link != inv.Link {
		t.Errorf("the link is another one: %q %v", link, err)
	}
	if left, err := browser.Eval[string](p, `location.href`); err != nil || left != secure+"c/" {
		t.Errorf("the secret is left in the address: %q %v", left, err)
	}
	narrow(t, p)
	secret := strings.TrimPrefix(inv.Link, "outrider://c/#")[:40]
	for _, r := range p.Requests() {
		if strings.Contains(r.URL, secret) && !strings.HasPrefix(r.URL, inv.PageLink) || strings.Contains(strings.SplitN(r.URL, "#", 2)[0], secret) {
			t.Errorf("the secret was sent to %s", r.URL)
		}
	}
	must(t, p.Click("#door-have-code"))
	must(t, p.Wait("the way to a code", `document.querySelector('#door-code')`))
	must(t, p.Show(secure+"c/#J5JDE", "a link that is cut short", `document.querySelector('#door-link')`))
	must(t, p.Show(secure+"c/#something", "what is no link", `document.querySelector('.notice')?.innerText.includes('not whole')`))
	must(t, box.Stop())
}
