package pageca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var seed = [32]byte{1, 2, 3}

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := New(seed, "abcdefgh")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// TestP02SameAuthorityEverywhere: what a phone installed from one node must be
// what another node's page is signed by, to the last byte. The fingerprint is
// frozen: a change would send every phone back to the console.
func TestP02SameAuthorityEverywhere(t *testing.T) {
	a, b := newCA(t), newCA(t)
	if !bytes.Equal(a.DER(), b.DER()) {
		t.Error("two nodes make different authorities from one secret")
	}
	const frozen = "5E:F4:0D:0D:C8:C9:96:5D:C0:29:C2:33:85:D4:88:B5:49:64:AE:1F:B0:46:5E:9F:6D:02:0F:36:5C:A1:C5:7B"
	if a.Fingerprint() != frozen {
		t.Errorf("fingerprint %s, frozen is %s", a.Fingerprint(), frozen)
	}
	other, err := New([32]byte{9}, "abcdefgh")
	if err != nil || bytes.Equal(other.DER(), a.DER()) {
		t.Errorf("another secret makes the same authority (%v)", err)
	}
}

func TestP02AuthorityIsForLocalPagesOnly(t *testing.T) {
	c := newCA(t).cert
	if !c.IsCA || !c.MaxPathLenZero || c.MaxPathLen != 0 || c.KeyUsage != x509.KeyUsageCertSign {
		t.Errorf("CA %v, path length %d %v, key usage %v", c.IsCA, c.MaxPathLen, c.MaxPathLenZero, c.KeyUsage)
	}
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("extended usages %v", c.ExtKeyUsage)
	}
	if !c.PermittedDNSDomainsCritical || strings.Join(c.PermittedDNSDomains, " ") != "local localhost" {
		t.Errorf("permitted names %v, critical %v", c.PermittedDNSDomains, c.PermittedDNSDomainsCritical)
	}
}

// verify is what a client does that has installed the authority.
func verify(ca *CA, cert *tls.Certificate, host string, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now})
	return err
}

// TestP02StolenAuthorityOpensNoSite: with the key in hand nothing outside .local can be
// vouched for, nor can another authority be made.
func TestP02StolenAuthorityOpensNoSite(t *testing.T) {
	ca, now := newCA(t), time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	k, err := NewKeeper(ca, func() Names { return Names{} }, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := ca.issue(k.key, Names{Hosts: []string{"bank.example"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(ca, forged, "bank.example", now); err == nil {
		t.Error("a site of the internet was believed")
	}
	good, err := ca.issue(k.key, Names{Hosts: []string{"node.local"}, Addrs: addrs("192.168.7.1")}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"node.local", "192.168.7.1"} {
		if err := verify(ca, good, host, now); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestP02LeafWithinApplesLimit(t *testing.T) {
	ca, now := newCA(t), time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	k, err := NewKeeper(ca, func() Names { return Names{Addrs: addrs("10.0.0.1")} }, func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Certificate(netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore); d > 398*24*time.Hour {
		t.Errorf("valid for %v", d)
	}
	if c.Leaf.IsCA || len(c.Leaf.ExtKeyUsage) != 1 || c.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("CA %v, usages %v", c.Leaf.IsCA, c.Leaf.ExtKeyUsage)
	}
}

// TestP02RenewedByItself: for its dates, for the clock, and for addresses; and
// for nothing else.
func TestP02RenewedByItself(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	names := Names{Addrs: addrs("10.0.0.1"), Hosts: []string{"outrider-x.local", "node.example"}}
	k, err := NewKeeper(newCA(t), func() Names { return names }, func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	get := func(local string) *tls.Certificate {
		t.Helper()
		k.asked = time.Time{} // as if namesFor had gone by
		c, err := k.Certificate(netip.MustParseAddr(local))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get("10.0.0.1")
	if strings.Join(first.Leaf.DNSNames, " ") != "outrider-x.local" {
		t.Errorf("names %v", first.Leaf.DNSNames)
	}
	now = now.Add(leafAhead - renewAhead)
	if get("10.0.0.1") != first {
		t.Error("renewed before it is due")
	}
	now = now.Add(time.Second)
	second := get("10.0.0.1")
	if second == first {
		t.Error("not renewed before its end")
	}
	names.Addrs = addrs("10.0.0.1", "192.168.9.9")
	third := get("10.0.0.1")
	if third == second || third.Leaf.VerifyHostname("192.168.9.9") != nil {
		t.Error("a new address is not in the certificate")
	}
	if c := get("172.16.0.3"); c == third || c.Leaf.VerifyHostname("172.16.0.3") != nil {
		t.Error("the address the connection came to is not in the certificate")
	}
	now = now.Add(-2 * leafBackdate)
	if c := get("10.0.0.1"); now.Before(c.Leaf.NotBefore) {
		t.Error("not renewed when the clock was set back")
	}
}

// TestP02StrangersCannotMakeTheNodeSign: handshakes by other names get the
// certificate there is.
func TestP02StrangersCannotMakeTheNodeSign(t *testing.T) {
	k, err := NewKeeper(newCA(t), func() Names { return Names{Addrs: addrs("127.0.0.1")} }, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	get := k.TLS().GetCertificate
	first, err := get(&tls.ClientHelloInfo{ServerName: "a.local"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := get(&tls.ClientHelloInfo{ServerName: "b.local"}); err != nil || again != first {
		t.Errorf("another name, another certificate (%v)", err)
	}
}

func TestP02NamesHaveALimit(t *testing.T) {
	var n Names
	for i := range MaxNames + 1 {
		n.Addrs = append(n.Addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if got := n.normal(); len(got.Addrs) != MaxNames {
		t.Errorf("%d addresses", len(got.Addrs))
	}
	odd := Names{Addrs: addrs("0.0.0.0", "fe80::1%eth0", "::ffff:10.0.0.1"), Hosts: []string{"A.LOCAL.", "a.local", "x.example", ""}}.normal()
	if len(odd.Addrs) != 2 || odd.Addrs[0].String() != "fe80::1" || odd.Addrs[1].String() != "10.0.0.1" || len(odd.Hosts) != 1 || odd.Hosts[0] != "a.local" {
		t.Errorf("%+v", odd)
	}
}

// TestP02KeeperServesTLS runs a handshake with a client that trusts the
// authority.
func TestP02KeeperServesTLS(t *testing.T) {
	ca := newCA(t)
	k, err := NewKeeper(ca, func() Names { return Names{} }, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", k.TLS())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err == nil {
			_, _ = c.Write([]byte("hello"))
			c.Close()
		}
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots}, NetDialer: &net.Dialer{Timeout: 10 * time.Second}}).Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("%q %v", b, err)
	}
	c.Close()
	ln.Close()
	<-done
}

func serve(t *testing.T, method, path, lang string, body io.Reader) *http.Response {
	t.Helper()
	h := newCA(t).Handout(func() []string { return []string{"https://192.168.7.1:7443/"} })
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Accept-Language", lang)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestN04HandoutGivesTheAuthority(t *testing.T) {
	ca := newCA(t)
	for path, want := range map[string]struct {
		kind string
		body []byte
	}{
		PathDER: {"application/x-x509-ca-cert", ca.DER()}, PathPEM: {"application/x-pem-file", ca.PEM()},
		PathProfile: {"application/x-apple-aspen-config", ca.profile()},
	} {
		res := serve(t, "GET", path, "", nil)
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != want.kind || !bytes.Equal(b, want.body) {
			t.Errorf("%s: %d, %s, %d bytes, %v", path, res.StatusCode, res.Header.Get("Content-Type"), len(b), err)
		}
	}
	if block, rest := pem.Decode(ca.PEM()); block == nil || len(rest) > 0 || !bytes.Equal(block.Bytes, ca.DER()) {
		t.Error("the PEM form is another certificate")
	}
	d := xml.NewDecoder(bytes.NewReader(ca.profile()))
	d.Strict = true
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the profile is no XML: %v", err)
		}
	}
}

func TestN04HandoutInstructs(t *testing.T) {
	ca := newCA(t)
	for lang, words := range map[string]string{"de-DE,en;q=0.5": "Damit dieses Gerät", "fr, en": "Let this device", "": "Let this device"} {
		res := serve(t, "GET", "/", lang, nil)
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%d %v", res.StatusCode, err)
		}
		page := string(b)
		for _, w := range append([]string{words, PathDER, PathPEM, PathProfile, "https://192.168.7.1:7443/", "Android", "iPhone", "Windows", "macOS", "Linux", "Firefox"}, lines(ca.Fingerprint())...) {
			if !strings.Contains(page, w) {
				t.Errorf("%q: the page lacks %q", lang, w)
			}
		}
		if strings.Contains(page, "<form") || strings.Contains(page, "<input") || strings.Contains(page, "<script") {
			t.Errorf("%q: the page could take something", lang)
		}
	}
}

// TestN04HandoutRefusesAllElse: among it a password that somebody sends.
func TestN04HandoutRefusesAllElse(t *testing.T) {
	body := &untouched{}
	for _, q := range [][2]string{{"POST", "/"}, {"POST", "/v1/session"}, {"PUT", PathDER}, {"DELETE", "/"}, {"OPTIONS", "/"}, {"GET", "/v1/status"}, {"GET", "/c/"}, {"GET", "/../state"}, {"GET", "//"}} {
		res := serve(t, q[0], q[1], "", body)
		if res.StatusCode != 405 && res.StatusCode != 404 {
			t.Errorf("%s %s: %d", q[0], q[1], res.StatusCode)
		}
	}
	if body.read {
		t.Error("what was sent was read")
	}
}

type untouched struct{ read bool }

func (u *untouched) Read([]byte) (int, error) { u.read = true; return 0, io.EOF }
