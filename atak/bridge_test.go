package atak

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/atak/cot"
	"outrider/atak/datapkg"
	"outrider/atak/tak"
)

// negotiate goes over to version 1 as ATAK does.
func (d *device) negotiate() {
	d.t.Helper()
	offer := d.waitType("t-x-takp-v")
	if offer.Find("TakControl").Child("TakProtocolSupport").Attr("version") != "1" {
		d.t.Fatalf("offer: %+v", offer)
	}
	q := made(offer.UID, "t-x-takp-q", "m-g", time.Minute, cot.E("TakControl").With(cot.E("TakRequest", "version", "1")))
	d.send(q)
	if r := d.waitType("t-x-takp-r"); r.Find("TakControl").Child("TakResponse").Attr("status") != "true" {
		d.t.Fatalf("answer: %+v", r)
	}
	d.v1 = true
}

// L03: position, chat with its receipts, both ways, one side in protobuf, the
// other in XML, over a cut.
func TestL03PositionAndChatAcrossACut(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a := nodes[0].device("ANDROID-aa", "RAVEN")
	a.negotiate()
	b := nodes[1].device("ANDROID-bb", "bravo")
	alpha, bravo := nodes[0].user.self.ID, nodes[1].user.self.ID
	b.wait("the position from before", func(e cot.Event) bool { return e.UID == uidOf(alpha) })

	a.mesh.setCut(true)
	a.here(3, 4)
	a.here(59.9127, 10.7461)
	sent := a.chat(bravo, "7d3c", "moving <now>\n& later")
	a.send(sent)
	a.send(sent) // lost answers make clients repeat
	b.quiet("something across the cut", func(e cot.Event) bool { return e.UID == uidOf(alpha) || e.Type == "b-t-f" })
	a.quiet("a receipt across the cut", func(e cot.Event) bool { return e.Type == "b-t-f-d" })
	a.mesh.setCut(false)

	e := b.wait("alpha's newest position", func(e cot.Event) bool { return e.UID == uidOf(alpha) && e.Point.Lat == 59.9127 })
	if e.Callsign() != "RAVEN" || e.How != "m-g" || e.Type != "a-f-G-U-C" || e.Point.Lon != 10.7461 || e.Point.HAE != 41.5 || e.Point.CE != 5 ||
		e.Stale.Sub(e.Start) != 75*time.Second || e.Find("track").Attr("course") != "90" || e.Find("contact").Attr("endpoint") != viaServer || e.Find("takv") == nil {
		t.Errorf("position: %s", e.XML())
	}
	c := b.waitType("b-t-f")
	chat := c.Find("__chat")
	if c.Find("remarks").Text != "moving <now>\n& later" || chat.Attr("id") != "ANDROID-bb" || chat.Attr("senderCallsign") != "alpha" ||
		chat.Child("chatgrp").Attr("uid0") != uidOf(alpha) || !strings.HasPrefix(c.UID, "GeoChat."+uidOf(alpha)+".ANDROID-bb.") {
		t.Errorf("chat: %s", c.XML())
	}
	if r := a.waitType("b-t-f-d"); r.UID != "7d3c" || r.Find("__chatreceipt").Attr("chatroom") != "Bravo" || r.Find("link").Attr("uid") != uidOf(bravo) {
		t.Errorf("receipt: %s", r.XML())
	}
	b.send(made(chat.Attr("messageId"), "b-t-f-r", "m-g", time.Hour))
	if r := a.waitType("b-t-f-r"); r.UID != "7d3c" {
		t.Errorf("read receipt: %s", r.XML())
	}
	b.send(b.chat(alpha, "1", "copy"))
	a.waitText("copy")
	b.quiet("a second copy", func(e cot.Event) bool { return e.Type == "b-t-f" })
	for len(a.frames) > 1 {
		<-a.frames
	}
	if !<-a.frames {
		t.Error("the device that asked for frames got XML")
	}
}

// zipped makes a data package.
func zipped(t *testing.T, content string) ([]byte, string) {
	t.Helper()
	var b bytes.Buffer
	if err := datapkg.Make(&b, datapkg.Manifest{UID: "p1", Name: "ao"}, []datapkg.File{{Path: "9405/9405.cot", Data: []byte(content)}}); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(sum[:])
}

func form(t *testing.T, field string, data []byte) (*bytes.Buffer, string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	p, err := w.CreateFormFile(field, "ao.zip")
	if err == nil {
		_, err = p.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return &b, w.FormDataContentType()
}

// share uploads a package in ATAK's order and offers it to somebody.
func (d *device) share(data []byte, hash, to string) {
	d.t.Helper()
	if code, _, _ := d.http(d.cert, "GET", "/Marti/sync/missionquery?hash="+hash, "", nil); code != 404 {
		d.t.Errorf("a package that is not there: %d", code)
	}
	body, kind := form(d.t, "assetfile", data)
	code, answer, _ := d.http(d.cert, "POST", "/Marti/sync/missionupload?Hash="+hash+"&filename=ao.zip&CreatorUid="+d.uid, kind, body)
	if code != 200 || !strings.HasSuffix(answer, "/Marti/sync/content?hash="+hash) {
		d.t.Fatalf("upload: %d %s", code, answer)
	}
	if code, _, _ := d.http(d.cert, "PUT", "/Marti/api/sync/metadata/"+hash+"/tool", "text/plain", strings.NewReader("private")); code != 200 {
		d.t.Errorf("tool: %d", code)
	}
	d.send(d.offer(hash, to, len(data), answer))
}

func (d *device) offer(hash, to string, size int, where string) cot.Event {
	return made("offer-1", "b-f-t-r", "h-e", 10*time.Second,
		cot.E("fileshare", "filename", "ao.zip", "senderUrl", where, "sizeInBytes", fmt.Sprint(size), "sha256", hash, "senderUid", d.uid, "senderCallsign", d.callsign, "name", "ao"),
		cot.E("ackrequest", "uid", "2f1c", "ackrequested", "true", "tag", "ao"), cot.E("marti").With(cot.E("dest", "callsign", to)))
}

// L03: a data package reaches a client of the other node, by our own offer
// with our own address, across a cut, and the acknowledgement comes back under
// the first request.
func TestL03DataPackageAcrossACut(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a, b := nodes[0].device("ANDROID-aa", "alpha"), nodes[1].device("ANDROID-bb", "bravo")
	data, hash := zipped(t, strings.Repeat("<event/>", 50_000))
	a.mesh.setCut(true)
	a.share(data, hash, "bravo")
	a.quiet("an acknowledgement across the cut", func(e cot.Event) bool { return e.Type == "b-f-t-a" })
	a.mesh.setCut(false)
	e := b.waitType("b-f-t-r")
	f := e.Find("fileshare")
	u, err := url.Parse(f.Attr("senderUrl"))
	if err != nil || f.Attr("sha256") != hash || f.Attr("senderUid") != uidOf(nodes[0].user.self.ID) || f.Attr("senderCallsign") != "alpha" {
		t.Fatalf("offer: %s", e.XML())
	}
	_, files := nodes[1].srv.Addrs()
	if u.Host != files.String() {
		t.Errorf("the offer names %s, the node is %s", u.Host, files)
	}
	for offset, want := range map[string][]byte{"": data, "&offset=70000": data[min(len(data), 70000):]} {
		if offset != "" && len(data) < 70000 {
			continue
		}
		code, got, h := b.http(b.cert, "GET", u.RequestURI()+offset, "", nil)
		if code != 200 || got != string(want) || !strings.Contains(h.Get("Content-Disposition"), "ao.zip") {
			t.Errorf("download%s: %d, %d bytes", offset, code, len(got))
		}
	}
	if ack := a.waitType("b-f-t-a"); ack.Find("ackresponse").Attr("uid") != "2f1c" || ack.Find("ackresponse").Attr("success") != "true" {
		t.Errorf("acknowledgement: %s", ack.XML())
	}
	b.send(made("x", "b-f-t-a", "m-g", time.Minute, cot.E("ackresponse", "uid", e.Find("ackrequest").Attr("uid"), "success", "true")))
	b.quiet("something", func(cot.Event) bool { return false })
	if left, _ := nodes[1].user.Unread(t.Context(), 10); len(left) != 0 {
		t.Errorf("%d messages are unread after the import", len(left))
	}
}

// A client that was away gets what came, once it is back, with the original
// time; what it has read is not given again.
func TestL03ClientThatWasAway(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a := nodes[0].device("ANDROID-aa", "alpha")
	bravo := nodes[1].user.self.ID
	a.send(a.chat(bravo, "1", "first"))
	data, hash := zipped(t, "x")
	a.share(data, hash, "bravo")
	a.waitType("b-f-t-a")
	nodes[1].stop()
	nodes[1].start()
	b := nodes[1].device("ANDROID-bb", "bravo")
	b.wait("the last position", func(e cot.Event) bool { return e.UID == uidOf(nodes[0].user.self.ID) })
	c := b.waitText("first")
	b.waitType("b-f-t-r")
	b.send(made(c.Find("__chat").Attr("messageId"), "b-t-f-r", "m-g", time.Hour))
	a.waitType("b-t-f-r")
	again := nodes[1].device("ANDROID-b2", "bravo")
	again.waitType("b-f-t-r")
	again.quiet("what was read", func(e cot.Event) bool { return e.Type == "b-t-f" })
}

// An upload survives a restart before it is offered.
func TestL03UploadSurvivesARestart(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	cert, _ := nodes[0].enrol()
	data, hash := zipped(t, strings.Repeat("secret ", 30_000))
	body, kind := form(t, "assetfile", data)
	if code, answer, _ := nodes[0].http(cert, "POST", "/Marti/sync/missionupload?hash="+hash+"&filename=ao.zip", kind, body); code != 200 {
		t.Fatal(code, answer)
	}
	err := filepath.WalkDir(nodes[0].cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("ao.zip")) || bytes.Contains(b, []byte("manifest.xml")) || strings.Contains(path, hash) || bytes.Contains(b, []byte(hash)) {
			t.Errorf("%s shows the file", filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].stop()
	nodes[0].start()
	if code, got, _ := nodes[0].http(cert, "GET", "/Marti/sync/content?hash="+hash, "", nil); code != 200 || got != string(data) {
		t.Errorf("after the restart: %d, %d bytes", code, len(got))
	}
}

func TestL03ListsAndSmallCalls(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	cert, _ := nodes[0].enrol()
	data, hash := zipped(t, "x")
	code, answer, h := nodes[0].http(cert, "POST", "/Marti/sync/upload?name=ao.zip&keywords=missionpackage&creatorUid=U", "application/zip", bytes.NewReader(data))
	var meta map[string]any
	if err := json.Unmarshal([]byte(answer), &meta); code != 200 || err != nil || meta["Hash"] != hash || h.Get("Content-Type") != "text/json" {
		t.Errorf("upload: %d %s", code, answer)
	}
	code, answer, _ = nodes[0].http(cert, "GET", "/Marti/sync/search?keywords=missionpackage&tool=public", "", nil)
	if code != 200 || !strings.Contains(answer, `"resultCount":1`) || !strings.Contains(answer, hash) || !strings.Contains(answer, `"PrimaryKey":"1"`) {
		t.Errorf("search: %d %s", code, answer)
	}
	for path, part := range map[string]string{
		"/Marti/api/version": "Outrider", "/Marti/api/version/config": `"type":"ServerConfig"`, "/Marti/api/clientEndPoints": `"callsign":"bravo"`,
		"/Marti/api/contacts/all": `"uid":"OUTRIDER-id-bravo"`, "/Marti/api/groups/all?useCache=true": `"__ANON__"`, "/files/api/config": `"uploadSizeLimit":256`,
		"/Marti/sync/" + hash + "/metadata": `"Name":"ao.zip"`, "/Marti/api/groups/groupCacheEnabled": `"java.lang.Boolean"`,
	} {
		if code, answer, _ := nodes[0].http(cert, "GET", path, "", nil); code != 200 || !strings.Contains(answer, part) {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
	if code, _, _ := nodes[0].http(cert, "GET", "/Marti/api/device/profile/connection", "", nil); code != 204 {
		t.Errorf("profile: %d", code)
	}
	if code, _, _ := nodes[0].http(cert, "DELETE", "/Marti/sync/delete?hash="+hash, "", nil); code != 200 {
		t.Errorf("delete: %d", code)
	}
	if code, _, _ := nodes[0].http(cert, "GET", "/Marti/sync/missionquery?hash="+hash, "", nil); code != 404 {
		t.Errorf("after the delete: %d", code)
	}
}

// K01: whoever archives gets no position of the bridge, and is no contact of a
// device; their name is still nobody else's, and what is written to them is
// refused in words.
func TestK01ArchiveReaderIsNoContact(t *testing.T) {
	nodes := world(t, "alpha", "bravo", "keeper")
	w, keeper := nodes[0].mesh, nodes[2].user.self.ID
	w.mu.Lock()
	nodes[2].user.self.Archive = true
	w.mu.Unlock()
	a, b := nodes[0].device("ANDROID-aa", "keeper"), nodes[1].device("ANDROID-bb", "bravo")
	e := b.wait("alpha", func(e cot.Event) bool { return e.UID == uidOf(nodes[0].user.self.ID) })
	if e.Callsign() != "alpha" {
		t.Errorf("alpha appears as %q", e.Callsign())
	}
	for path, shown := range map[string]string{"/Marti/api/clientEndPoints": `"callsign":"bravo"`, "/Marti/api/contacts/all": `"callsign":"bravo"`} {
		code, answer, _ := nodes[0].http(a.cert, "GET", path, "", nil)
		if code != 200 || !strings.Contains(answer, shown) || strings.Contains(answer, "keeper") {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
	w.mu.Lock()
	if w.toArchive != 0 {
		t.Errorf("%d positions were sent to the reader", w.toArchive)
	}
	w.mu.Unlock()
	a.send(a.chat(keeper, "1", "hello"))
	a.waitText("written to by nobody")
}

// L03: what is refused is refused in words, and nothing is sent.
func TestL03WhatCannotBeCarriedIsSaid(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a, b := nodes[0].device("ANDROID-aa", "alpha"), nodes[1].device("ANDROID-bb", "bravo")
	b.wait("alpha", func(e cot.Event) bool { return e.UID == uidOf(nodes[0].user.self.ID) })
	all := a.chat("x", "1", "to all")
	all.Find("__chat").Attrs[3], all.Find("__chat").Attrs[4] = cot.Attr{Name: "chatroom", Value: "All Chat Rooms"}, cot.Attr{Name: "id", Value: "All Chat Rooms"}
	a.send(all)
	a.waitText("groups, teams and missions")
	empty := a.chat(nodes[1].user.self.ID, "2", "")
	a.send(empty)
	a.waitText("no text")
	a.send(made("marker", "b-m-p-s-m", "h-e", time.Hour))
	a.waitText("Markers, drawings")
	a.send(a.offer(strings.Repeat("0", 64), "bravo", 1, "http://10.0.0.1:8080/getfile?file=1"))
	if ack := a.waitType("b-f-t-a"); ack.Find("ackresponse").Attr("success") != "false" {
		t.Errorf("%s", ack.XML())
	}
	a.waitText("was not uploaded")
	a.send(a.offer(strings.Repeat("0", 64), "nobody", 1, ""))
	a.waitText("nobody of that name")
	a.mesh.mu.Lock()
	nodes[0].user.fail = errors.New("the node is full")
	a.mesh.mu.Unlock()
	a.send(a.chat(nodes[1].user.self.ID, "3", "x"))
	a.waitText("the node is full")
	b.quiet("anything", func(e cot.Event) bool { return e.Type == "b-t-f" || e.Type == "b-f-t-r" || e.Type == "b-m-p-s-m" })
}

// L02, F03: what a group's policy forbids or keeps back is said, once; a file
// that is kept back is said again to a device that returns.
func TestL02PolicyIsSaid(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a, b := nodes[0].device("ANDROID-aa", "alpha"), nodes[1].device("ANDROID-bb", "bravo")
	b.wait("alpha", func(e cot.Event) bool { return e.UID == uidOf(nodes[0].user.self.ID) })
	rule := &Forbidden{Rule: "the policy of group convoy forbids positions"}
	a.mesh.mu.Lock()
	nodes[0].user.fail = rule
	a.mesh.mu.Unlock()
	a.here(48.2, 11.6)
	a.waitText("Your position is not sent: " + rule.Rule)
	a.send(a.chat(nodes[1].user.self.ID, "1", "x"))
	a.waitText("was not sent: " + rule.Rule)

	held := Message{ID: "held", Peer: nodes[0].user.self, Kind: Package, Unread: true, Withheld: "a file was withheld by the policy of group convoy"}
	place := held
	place.Kind, place.Withheld = Place, "a position was withheld by the policy of group convoy"
	to := nodes[1].user.self.ID
	for range 2 {
		nodes[1].srv.Update(to, held)
		place.ID += "p"
		nodes[1].srv.Update(to, place)
	}
	b.waitText("a file was withheld by the policy of group convoy")
	b.waitText("a position was withheld by the policy of group convoy")
	b.quiet("the same again", func(e cot.Event) bool {
		return e.Find("remarks") != nil && strings.Contains(e.Find("remarks").Text, "withheld")
	})
	a.mesh.mu.Lock()
	nodes[1].user.messages = append(nodes[1].user.messages, &fakeMessage{Message: held})
	a.mesh.mu.Unlock()
	nodes[1].device("ANDROID-b2", "bravo").waitText("a file was withheld by the policy of group convoy")
}

// What carries our mark has been here; a name of somebody else is no callsign.
func TestL03LoopsAndBorrowedNames(t *testing.T) {
	nodes := world(t, "alpha", "bravo", "charlie")
	a, b := nodes[0].device("ANDROID-aa", "Charlie"), nodes[1].device("ANDROID-bb", "bravo")
	e := b.wait("alpha", func(e cot.Event) bool { return e.UID == uidOf(nodes[0].user.self.ID) })
	if e.Callsign() != "alpha" {
		t.Errorf("alpha appears as %q", e.Callsign())
	}
	looped := a.chat(nodes[1].user.self.ID, "1", "again")
	looped.Detail = append(looped.Detail, cot.E("_flow-tags_", nodes[0].srv.tag, "now"))
	a.send(looped)
	a.quiet("an own event", func(e cot.Event) bool { return e.UID == uidOf(nodes[0].user.self.ID) || e.Type == "b-t-f-d" })
	b.quiet("a loop", func(e cot.Event) bool { return e.Type == "b-t-f" })
	if got, _ := nodes[1].user.Positions(t.Context(), maxMarks); len(got) != 1 {
		t.Errorf("bravo got %d positions", len(got))
	}
}

func TestL03ForeignCertificatesAreRefused(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	addr, files := nodes[0].srv.Addrs()
	foreign, _ := nodes[1].enrol()
	good, cred := nodes[0].enrol()
	nobody := nodes[0].cert(t, Credential{Serial: cred.Serial, User: "id-nobody"})
	nodes[0].mesh.mu.Lock()
	nodes[0].accounts.withdrawn[cred.Serial] = true
	nodes[0].mesh.mu.Unlock()
	for name, c := range map[string][]tls.Certificate{"none": nil, "of another node": {foreign}, "withdrawn": {good}, "of nobody": {nobody}} {
		for _, where := range []string{addr.String(), files.String()} {
			conn, err := tls.Dial("tcp", where, nodes[0].tls(c...))
			if err != nil {
				continue // TLS 1.3 tells at the first read
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = conn.Write([]byte("GET /Marti/sync/search HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			b := make([]byte, 1024)
			n, err := conn.Read(b)
			if err == nil && !strings.HasPrefix(string(b[:n]), "HTTP/1.1 403") {
				t.Errorf("%s: %q", name, b[:n])
			}
			conn.Close()
		}
	}
	old := nodes[0].tls(good)
	old.MaxVersion = tls.VersionTLS12
	if _, err := tls.Dial("tcp", addr.String(), old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	// A client learns of its refusal before the server has counted it.
	nodes[0].eventually("seven refusals are counted", func(st Stats) bool { return st.Refused >= 7 })
	if st := nodes[0].srv.Stats(); st.Users != 0 {
		t.Errorf("%+v", st)
	}
}

func (n *node) cert(t *testing.T, c Credential) tls.Certificate {
	t.Helper()
	cert, key, err := n.ca.client(c)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// A stream that breaks the rules ends, one event that does does not, and
// others are served meanwhile.
func TestL03HostileStreams(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a, b := nodes[0].device("ANDROID-aa", "alpha"), nodes[1].device("ANDROID-bb", "bravo")
	bravo := nodes[1].user.self.ID
	for name, raw := range map[string][]byte{
		"entity bomb": []byte(`<!DOCTYPE a [<!ENTITY b "c">]><event uid="&b;"></event>`),
		"deep":        []byte("<event>" + strings.Repeat("<a>", 10_000) + "</event>"),
		"no event":    tak.AppendFrame(nil, []byte{0xff, 0xff, 0xff}),
	} {
		before := nodes[0].srv.Stats().Broken
		a.raw(raw)
		a.quiet(name, func(e cot.Event) bool { return false })
		if nodes[0].srv.Stats().Broken != before+1 {
			t.Errorf("%s was not counted", name)
		}
	}
	a.send(a.chat(bravo, "1", "still here"))
	b.waitText("still here")
	for name, raw := range map[string][]byte{
		"4 GiB":   {0xBF, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"endless": bytes.Repeat([]byte("<event "), tak.MaxMessage/7+2),
		"noise":   bytes.Repeat([]byte{7}, 70<<10),
	} {
		h := nodes[0].device("ANDROID-"+name[:1], "alpha")
		_, _ = h.conn.Write(raw)
		h.waitEnd()
	}
	a.send(a.chat(bravo, "2", "and still"))
	b.waitText("and still")
}

func TestL03UnsafeUploadsAreRefused(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	cert, _ := nodes[0].enrol()
	data, hash := zipped(t, "x")
	slip := bytes.ReplaceAll(data, []byte("9405/9405.cot"), []byte("../../etc/eve"))
	for name, c := range map[string]struct {
		query string
		data  []byte
		code  int
	}{
		"another hash":     {"hash=" + strings.Repeat("0", 64) + "&filename=ao.zip", data, 400},
		"names that climb": {"filename=ao.zip", slip, 400},
		"no zip":           {"filename=ao.zip", []byte("x"), 400},
		"no name":          {"hash=" + hash, data, 400},
		"a name too long":  {"filename=" + strings.Repeat("n", 256), data, 400},
	} {
		body, kind := form(t, "assetfile", c.data)
		if code, answer, _ := nodes[0].http(cert, "POST", "/Marti/sync/missionupload?"+c.query, kind, body); code != c.code {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
	body, kind := form(t, "other", data)
	body = bytes.NewBuffer(bytes.Replace(body.Bytes(), []byte(`; filename="ao.zip"`), nil, 1))
	if code, _, _ := nodes[0].http(cert, "POST", "/Marti/sync/missionupload?filename=a.zip", kind, body); code != 400 {
		t.Errorf("a form without a file: %d", code)
	}
	if code, _, _ := nodes[0].http(cert, "POST", "/Marti/sync/missionupload?filename=../../a.zip", "application/zip", bytes.NewReader(data)); code != 200 {
		t.Errorf("a path as name: %d", code)
	}
	list, err := filepath.Glob(filepath.Join(nodes[0].cfg.Dir, "spool", "*", "*"))
	if err != nil || len(list) != 2 {
		t.Errorf("what is left: %v, %v", list, err)
	}
	if code, _, _ := nodes[0].http(cert, "GET", "/Marti/sync/content?hash="+hash+"&offset=-1", "", nil); code != 400 {
		t.Errorf("offset -1: %d", code)
	}
}

// A package from the mesh that could harm is not offered, and is told of.
func TestL03UnsafePackageIsNotOffered(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	b := nodes[1].device("ANDROID-bb", "bravo")
	data, _ := zipped(t, "x")
	slip := bytes.ReplaceAll(data, []byte("9405/9405.cot"), []byte("../../etc/eve"))
	for name, body := range map[string][]byte{"evil.zip": slip, "photo.jpg": []byte("jpg")} {
		if _, err := nodes[0].user.SendFile(t.Context(), nodes[1].user.self.ID, name, "", bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		b.waitText(name)
	}
	b.quiet("an offer", func(e cot.Event) bool { return e.Type == "b-f-t-r" })
}

// One client too many is refused; one that takes nothing is closed and the
// others go on.
func TestL03TooManyAndTooSlow(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a := nodes[0].device("ANDROID-aa", "alpha")
	for i := range MaxUserClients - 1 {
		nodes[0].device(fmt.Sprint("ANDROID-", i), "alpha")
	}
	// A client is connected before the server has given it its place.
	nodes[0].eventually("all have their places", func(st Stats) bool { return st.Clients == MaxUserClients })
	cert, _ := nodes[0].enrol()
	extra := nodes[0].connect("ANDROID-x", "alpha", cert)
	extra.waitEnd()
	a.quiet("an end", func(cot.Event) bool { return false })

	nodes[0].srv.mu.Lock()
	desk := nodes[0].srv.desks[nodes[0].user.self.ID]
	nodes[0].srv.mu.Unlock()
	c := newClient(desk, extra.conn)
	for range maxQueue {
		c.send(nodes[0].srv.pong())
	}
	if c.closed {
		t.Fatal("closed before the queue was full")
	}
	c.send(nodes[0].srv.pong())
	if !c.closed {
		t.Error("a full queue takes more")
	}
}

// The desk gives its user back when nobody has worked at it for a while, and
// at once when the certificate is withdrawn.
func TestL03UserIsGivenBack(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	a := nodes[0].device("ANDROID-aa", "alpha")
	a.quiet("x", func(cot.Event) bool { return false })
	if st := nodes[0].srv.Stats(); st.Clients != 1 || st.Users != 1 {
		t.Errorf("%+v", st)
	}
	nodes[0].srv.Drop(nodes[0].user.self.ID)
	a.waitEnd()
	nodes[0].stop()
	a.mesh.mu.Lock()
	open := nodes[0].user.open
	a.mesh.mu.Unlock()
	if open != 0 {
		t.Errorf("the user is held %d times", open)
	}
	d := newDesk(nodes[0].srv, nodes[0].user, nil)
	d.leave()
	if d.forgotten() {
		t.Error("forgotten at once")
	}
	d.idle = time.Now().Add(-linger)
	if !d.forgotten() || d.join() {
		t.Error("not forgotten after a while")
	}
}

// The connection package holds what a stock client needs, and nothing else.
func TestL03ConnectionPackage(t *testing.T) {
	ca := cas[0]()
	cred, err := NewCredential("id-alpha")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.ConnectionPackage(Enrolment{Credential: cred, Callsign: "alpha <1>", Node: "eagle", Host: "192.0.2.1", StreamPort: 8089})
	if err != nil {
		t.Fatal(err)
	}
	m, err := datapkg.Check(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(m.Entries) != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
	pref, err := preferences(Enrolment{Credential: cred, Callsign: "alpha <1>", Node: "eagle", Host: "192.0.2.1", StreamPort: 8089}, "a-ca.p12", "a.p12")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{">192.0.2.1:8089:ssl<", `key="locationCallsign" class="class java.lang.String">alpha &lt;1&gt;<`, ">cert/a-ca.p12<", ">cert/a.p12<"} {
		if !strings.Contains(string(pref), part) {
			t.Errorf("no %s in %s", part, pref)
		}
	}
	cert, _, err := ca.client(cred)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := credentialOf(cert); err != nil || got != cred {
		t.Errorf("%v", err)
	}
	if strings.Contains(cert.Subject.String(), "alpha") {
		t.Error("the certificate names its user")
	}
	if _, err := credentialOf(ca.cert); !errors.Is(err, ErrRefused) {
		t.Error("a certificate without a credential")
	}
}

// A client can be told of an IPv4 address or a host name. All else is refused in
// words before there is a package.
func TestL03HostsOfAPackage(t *testing.T) {
	cred, err := NewCredential("id-alpha")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 63)
	for _, host := range []string{"192.0.2.1", "127.0.0.1", "node-7", "node7.example.org", "7node.example", "A.b", long + ".x", strings.Repeat(long+".", 3) + strings.Repeat("b", 61)} {
		if err := CheckHost(host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	for host, says := range map[string]string{
		"": "no host name", "bad host": "no host name", "bad host:99": "without the port", "192.0.2.1:8089": "without the port", "192.0.2": "no IPv4 address",
		"192.0.2.256": "no IPv4 address", "-a.example": "no host name", "a-.example": "no host name", "a..b": "no host name", "a.": "no host name",
		"a_b": "no host name", "nöde": "no host name", "a\nb": "no host name", long + "a": "no host name", strings.Repeat(long+".", 3) + strings.Repeat("b", 62): "no host name",
		"::1": "IPv6", "[::1]": "no host name", "fe80::1%eth0": "IPv6", "::ffff:192.0.2.1": "IPv6", "::": "IPv6", "0.0.0.0": "could reach", "239.2.3.1": "could reach",
	} {
		if err := CheckHost(host); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", host, err)
		}
		if b, err := cas[0]().ConnectionPackage(Enrolment{Credential: cred, Callsign: "a", Node: "n", Host: host, StreamPort: 8089}); err == nil || b != nil {
			t.Errorf("a package for %q", host)
		}
	}
}

// A listener that fails is told; a port that is taken too.
func TestL03RunTellsOfFaults(t *testing.T) {
	n := world(t, "alpha")[0]
	addr, _ := n.srv.Addrs()
	second := n.cfg
	second.Stream = addr.String()
	if err := New(second).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a taken port: %v", err)
	}
	second.Stream, second.HTTPS = "127.0.0.1:0", addr.String()
	if err := New(second).Run(t.Context()); err == nil {
		t.Error("a taken port for files")
	}
}
