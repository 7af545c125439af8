package browser

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser/fakeapi"
)

// withCharlie is a logged-in stage with the empty conversation with Charlie.
func withCharlie(t *testing.T, o PageOptions) (*stage, fakeapi.Person) {
	t.Helper()
	var c fakeapi.Person
	st := in(t, o, func(s *fakeapi.Server) { c = s.AddUser("Charlie", true, 2) })
	st.must(st.OpenChat("Charlie"))
	return st, c
}

func last(st *stage) fakeapi.Message {
	st.t.Helper()
	ms := st.s.Messages()
	if len(ms) == 0 {
		st.t.Fatal("the node has no message")
	}
	return ms[len(ms)-1]
}

func TestSendAndFollowStates(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	const text = "Bridge is clear. Moving.\nSecond line"
	st.must(st.Send(text))
	m := last(st)
	if *m.Text != text || m.To != c || m.Precedence != "routine" {
		t.Fatalf("the node has %+v", m)
	}
	if n := len(st.s.Messages()); n != 1 {
		t.Fatalf("the node has %d messages", n)
	}
	st.must(st.WaitState(text, "queued"))
	for _, state := range []string{"waiting-for-keys", "carried", "at-core", "at-node"} {
		st.s.Update(m.ID, func(m *fakeapi.Message) { m.State = state })
		st.must(st.WaitState(text, state))
		if got := eval[string](st, plainText(`document.querySelector('.message .word')`)); got != state {
			t.Errorf("state %s is called %q", state, got)
		}
	}
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.State, m.Delivered = "delivered", &fakeapi.Delivered{N: 1, M: 2} })
	st.must(st.WaitState(text, "delivered 1/2"))
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.Delivered.N = 2 })
	st.must(st.WaitState(text, "delivered 2/2"))
	for _, state := range []string{"read", "expired", "recalled", "failed"} {
		st.s.Update(m.ID, func(m *fakeapi.Message) { m.State = state })
		st.must(st.WaitState(text, state))
	}
}

// Each state has an icon of its own shape, so that colour is never needed.
func TestStatesDifferWithoutColour(t *testing.T) {
	failures(open(t), `const { stateMark, STATES } = `+module("ui/parts.mjs")+`; const wrong = [];
		const seen = new Map();
		for (const state of STATES) {
			const mark = stateMark({ state, outgoing: true });
			const shape = mark.querySelector('path').getAttribute('d');
			const word = mark.querySelector('.word').textContent;
			if (!word) wrong.push(state + ' has no word');
			for (const [other, [s, w]] of seen) { if (s === shape) wrong.push(state + ' looks like ' + other); if (w === word) wrong.push(state + ' is called like ' + other); }
			seen.set(state, [shape, word]);
		}
		if (seen.size !== 10) wrong.push('there are ' + seen.size + ' states');
		return wrong;`)
}

func TestReceiveLiveAndMarkRead(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	m := st.s.Receive(c, "Two vehicles north", nil)
	st.must(st.WaitMessage("Two vehicles north"))
	until(t, "the read mark", func() bool { return last(st).State == "read" })
	st.must(st.Go("#/settings"))
	d := st.s.AddUser("Delta", true, 1)
	st.s.Receive(d, "Hello", nil)
	st.must(st.Wait("the unread badge", plainText(`document.querySelector('#nav-badge:not([hidden])')`)+`.includes('1') && [...document.querySelectorAll('#chat-list a.unread .row-name')].map((e) => e.textContent).join() === 'Delta'`))
	if title := eval[string](st, `document.title`); title != "(1) Outrider" {
		t.Errorf("the title is %q: it may tell a number and nothing else", title)
	}
	if last(st).State == "read" {
		t.Error("a message that was not looked at is marked read")
	}
	st.must(st.OpenChat("Delta"))
	until(t, "the read mark of the other chat", func() bool { return last(st).State == "read" })
	st.must(st.Wait("no unread badge", `document.querySelector('#nav-badge').hidden`))
	if err := countRequests(st, "POST", "/v1/messages/"+m.ID+"/read"); err != nil {
		t.Error(err)
	}
}

func countRequests(st *stage, method, path string) error {
	n := 0
	for _, r := range st.s.Requests() {
		if r.Method == method && r.Path == path {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%s %s was asked %d times", method, path, n)
	}
	return nil
}

func TestPrecedenceAndExpiry(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Click(`[aria-controls="compose-options"]`))
	st.must(st.ClickText("FLASH"))
	st.must(st.WaitText("Only for contact with the enemy"))
	st.must(st.ClickText("1 h"))
	st.must(st.Send("Contact north"))
	m := last(st)
	if m.Precedence != "flash" || m.Expires.Sub(m.Sent) != time.Hour {
		t.Fatalf("precedence %s, lifetime %v", m.Precedence, m.Expires.Sub(m.Sent))
	}
	st.must(st.Wait("the chips", `document.querySelector('.bubble.flash .chip.precedence')?.textContent === 'FLASH' && `+plainText(`document.querySelector('.bubble.flash .expiry.soon')`)+`.includes('expires in')`))
	st.must(st.Send("And this is ordinary again"))
	if m := last(st); m.Precedence != "routine" {
		t.Errorf("the choice stayed for the next message: %s", m.Precedence)
	}
}

func TestDetailsExplainAndRecall(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Send("Take this back"))
	m := last(st)
	st.s.SetWhy(m.ID, fakeapi.Why{
		Summary: "Bravo carries it.", Facts: []string{"Bravo took a copy 4 min ago.", "Charlie was last heard 3 h ago."},
		Next: "Bravo hands it on when it meets Charlie.", Todo: "Nothing is needed.",
	})
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.State = "carried" })
	st.must(st.WaitState("Take this back", "carried"))
	st.must(st.Click(".message.own .state-button"))
	for _, words := range []string{"Bravo carries it.", "Bravo took a copy 4 min ago.", "Charlie was last heard 3 h ago.", "Bravo hands it on", "Nothing is needed.", "0 of 2 devices"} {
		if words == "0 of 2 devices" {
			words = "0 of 1 device"
		}
		st.must(st.WaitText(words))
	}
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.State, m.Delivered = "delivered", &fakeapi.Delivered{N: 1, M: 2} })
	st.must(st.Wait("the live state in the details", plainText(`document.querySelector('dialog .big-state')`)+`.includes('delivered 1/2')`))
	st.must(st.ClickText("Recall"))
	st.must(st.WaitText("Recall this message?"))
	if last(st).State == "recalled" {
		t.Fatal("recalled without asking")
	}
	st.must(st.ClickText("Yes, recall"))
	until(t, "the recall", func() bool { return last(st).State == "recalled" })
	st.must(st.Press("\u001b"))
	st.must(st.Wait("the recalled message", `!document.querySelector('dialog') && document.querySelector('.message.own .state')?.dataset.state === 'recalled'`))
}

func TestFailuresStepper(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		for _, name := range []string{"Charlie", "Delta", "Echo"} {
			s.Sent(s.AddUser(name, true, 1), "to "+name, func(m *fakeapi.Message) {
				m.State, m.Reason, m.Hint = "failed", name+"'s certificate has expired", "ask for a new one for "+name
			})
		}
	})
	st.must(st.WaitText("3 messages are stuck"))
	st.must(st.Click("#failures-bar"))
	st.must(st.WaitText("Charlie's certificate has expired"))
	st.must(st.WaitText("ask for a new one for Charlie"))
	st.must(st.ClickText("Next"))
	st.must(st.WaitText("to Delta"))
	st.must(st.WaitText("2 of 3"))
	st.must(st.ClickText("Retry"))
	st.must(st.WaitText("Delta: The node tries again now."))
	st.must(st.WaitText("2 of 2")) // the one in its place comes by itself
	st.must(st.WaitText("to Echo"))
	until(t, "the retry", func() bool { return st.s.Messages()[1].State == "queued" })
	st.must(st.ClickText("Recall"))
	st.must(st.ClickText("Recall"))
	st.must(st.WaitText("All messages are on their way."))
	st.must(st.Press("\u001b"))
	st.must(st.Wait("no bar", `document.querySelector('#failures-bar').hidden`))
}

func TestSendFile(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	data := bytes.Repeat([]byte("outrider "), 200_000)
	path := filepath.Join(t.TempDir(), "route blue & green.kmz")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	st.must(st.Attach(path))
	st.must(st.WaitMessage("route blue & green.kmz"))
	m := last(st)
	if m.To != c || m.File.Name != "route blue & green.kmz" || sha256.Sum256(st.s.Content(m.ID)) != sha256.Sum256(data) {
		t.Fatalf("the node has %+v, %d bytes", m.File, len(st.s.Content(m.ID)))
	}
	st.must(st.Wait("no upload left", `document.querySelectorAll('.upload').length === 0`))
}

func TestRefusedFileCanBeRetriedOrDismissed(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.s.Fail("POST /v1/files", 507, "store_full", "full", "")
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	st.must(st.Attach(path))
	st.must(st.WaitText("The node has no room for new messages"))
	st.s.Fail("POST /v1/files", 0, "", "", "")
	st.must(st.ClickText("Retry"))
	st.must(st.WaitMessage("a.txt"))
	st.s.Fail("POST /v1/files", 413, "too_large", "large", "")
	st.must(st.Attach(path))
	st.must(st.WaitText("This is larger than the node allows"))
	st.must(st.ClickText("Dismiss \u2068a.txt\u2069"))
	st.must(st.Wait("no upload left", `document.querySelectorAll('.upload').length === 0`))
}

func TestFileArrivesInPiecesAndIsDownloaded(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 40, 30))); err != nil {
		t.Fatal(err)
	}
	total := int64(picture.Len())
	m := st.s.Receive(c, "", func(m *fakeapi.Message) {
		m.Type, m.File = "file", &fakeapi.File{Name: "bridge.png", Size: total, MediaType: "image/png", Total: 100_000}
	})
	st.s.SetContent(m.ID, picture.Bytes())
	st.must(st.WaitMessage("bridge.png"))
	st.must(st.WaitText("nothing of it has arrived yet"))
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.File.Have = 34_000 })
	st.must(st.WaitText("34 kB of 100 kB here"))
	if v := eval[float64](st, `document.querySelector('.message progress').value / document.querySelector('.message progress').max`); v != 0.34 {
		t.Errorf("the bar is at %v", v)
	}
	if eval[bool](st, `document.querySelector('.message a[download]') !== null`) {
		t.Error("half a file can be downloaded")
	}
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.File.Have, m.File.Complete = 100_000, true })
	st.must(st.Wait("the download", `document.querySelector('.message a[download="bridge.png"]')`))
	got := eval[string](st, called(`const r = await fetch(document.querySelector('.message a[download]').href); return [...new Uint8Array(await crypto.subtle.digest('SHA-256', await r.arrayBuffer()))].map((b) => b.toString(16).padStart(2, '0')).join('')`))
	if want := fmt.Sprintf("%x", sha256.Sum256(picture.Bytes())); got != want {
		t.Errorf("downloaded %s, want %s", got, want)
	}
	if eval[bool](st, `document.querySelector('.message img') !== null`) {
		t.Error("a picture is decoded although nobody asked for it")
	}
	st.must(st.ClickText("Preview"))
	st.must(st.Wait("the picture", `document.querySelector('.message img')?.naturalWidth === 40`))
	st.must(st.Go("#/files"))
	st.must(st.Wait("the file among the files", `document.querySelector('.page.files a[download="bridge.png"]')`))
}

func TestSharePositionOfDevice(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.must(st.SetPosition(&[3]float64{46.94809, 7.44744, 12.4}))
	st.must(st.ClickText("Share position"))
	st.must(st.ClickText("Use this device’s position"))
	st.must(st.WaitText("32T LT 81852 00565"))
	st.must(st.Fill("#position-note", "Quarry gate"))
	st.must(st.ClickText("Share"))
	st.must(st.WaitMessage("32T LT 81852 00565"))
	m := last(st)
	if l := m.Location; m.To != c || l.Lat != 46.94809 || l.Lon != 7.44744 || l.AccuracyM != 12 || l.Note != "Quarry gate" {
		t.Fatalf("the node has %+v", m.Location)
	}
	st.must(st.WaitText("46.94809° N, 7.44744° E"))
	st.must(st.WaitText("± 12 m"))
	st.must(st.Wait("its age", `/sent (just now|\d+ s ago)/.test(`+plainText(`document.querySelector('.message .position-age')`)+`)`))
}

func TestSharePositionTyped(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.ClickText("Share position"))
	st.must(st.Fill("#position-input", "somewhere"))
	st.must(st.WaitText("neither degrees nor an MGRS reference"))
	st.must(st.ClickText("Share"))
	if len(st.s.Messages()) != 0 {
		t.Fatal("nonsense was sent as a position")
	}
	st.must(st.Fill("#position-note", strings.Repeat("ä", 101)))
	st.must(st.Fill("#position-input", "32T LT 818 005"))
	st.must(st.WaitText("square of 100 m"))
	st.must(st.ClickText("Share"))
	st.must(st.WaitText("The note is 2 bytes too long"))
	st.must(st.Fill("#position-note", strings.Repeat("ä", 100)))
	st.must(st.ClickText("Share"))
	st.must(st.Wait("the closed dialog", `!document.querySelector('dialog')`))
	if l := last(st).Location; l.AccuracyM != 50 || l.Note != strings.Repeat("ä", 100) {
		t.Fatalf("the node has %+v", l)
	}
}

func TestDeniedPositionSaysWhatToDo(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.SetPosition(nil))
	st.must(st.ClickText("Share position"))
	st.must(st.ClickText("Use this device’s position"))
	st.must(st.WaitText("The browser was not allowed to read the position"))
}

func TestOldPositionIsMarkedOld(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.Receive(c, "", func(m *fakeapi.Message) {
		m.Sent = m.Sent.Add(-3*time.Hour - time.Minute)
		m.Type, m.Location = "location", &fakeapi.Location{Lat: -33.8568, Lon: 151.2153}
	})
	st.must(st.WaitText("sent 3 h ago"))
	st.must(st.Wait("the mark", `document.querySelector('.position.stale .stale-chip')?.textContent === 'old'`))
}

// L01: with a position of its own the node tells how far away a received one is.
func TestPositionTellsTheWay(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.SetFix(0, 0)
	st.s.Receive(c, "", func(m *fakeapi.Message) { m.Type, m.Location = "location", &fakeapi.Location{Lat: 0, Lon: 0.1} })
	st.must(st.Wait("the way", `document.querySelector('.position-way')?.textContent.replace(/[\u2068\u2069]/g, '').startsWith('11.1\u00a0km, bearing 090°')`))
}

func TestTooLongTextIsNotSentAndNotLost(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Fill("#compose", strings.Repeat("a", 32<<10)+"é"))
	st.must(st.WaitText("2 bytes too long"))
	st.must(st.Focus("#compose"))
	st.must(st.Press("\r"))
	if len(st.s.Messages()) != 0 {
		t.Fatal("it was sent")
	}
	st.must(st.Send(strings.Repeat("a", 32<<10)))
	st.must(st.WaitText("Show all"))
}

func TestRefusedMessageKeepsDraftAndSaysWhy(t *testing.T) {
	for code, words := range map[string]string{
		"store_full": "The node has no room for new messages", "too_many_waiting": "Too many of your messages are still waiting",
		"something_new": "The mast has fallen. Put it up.",
	} {
		t.Run(code, func(t *testing.T) {
			st, _ := withCharlie(t, PageOptions{})
			st.s.Fail("POST /v1/messages", 507, code, "The mast has fallen", "Put it up")
			st.must(st.Fill("#compose", "keep me"))
			st.must(st.Focus("#compose"))
			st.must(st.Press("\r"))
			st.must(st.WaitText(words))
			if eval[string](st, `document.querySelector('#compose').value`) != "keep me" {
				t.Error("the draft is lost")
			}
			st.s.Fail("POST /v1/messages", 0, "", "", "")
			st.must(st.Send("keep me"))
			if n := len(st.s.Messages()); n != 1 {
				t.Errorf("the node has %d messages", n)
			}
		})
	}
}

func TestOlderMessagesAreLoadedInOrder(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		c := s.AddUser("Charlie", true, 1)
		for i := range 120 {
			s.Receive(c, fmt.Sprintf("message %d", i), func(m *fakeapi.Message) { m.State, m.Unread = "read", false })
		}
	})
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitMessage("message 119"))
	if n := eval[int](st, `document.querySelectorAll('#messages .message').length`); n != 50 {
		t.Fatalf("%d messages at first", n)
	}
	if !eval[bool](st, `(() => { const s = document.querySelector('.scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight < 5; })()`) {
		t.Error("the newest message is not in view")
	}
	for _, want := range []int{100, 120} {
		st.must(st.ClickText("Show older messages"))
		st.must(st.Wait("older messages", fmt.Sprintf(`document.querySelectorAll('#messages .message').length === %d`, want)))
	}
	got := eval[[]string](st, `[...document.querySelectorAll('#messages .text')].map((e) => e.textContent)`)
	for i, text := range got {
		if text != fmt.Sprintf("message %d", i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	if eval[bool](st, `document.querySelector('.scroller > button').getClientRects().length > 0`) {
		t.Error("still more are offered although there are none")
	}
}

// Somebody who reads further up is not torn away by a new message.
func TestNewMessageDoesNotMoveReader(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		c := s.AddUser("Charlie", true, 1)
		for i := range 40 {
			s.Receive(c, fmt.Sprintf("message %d", i), nil)
		}
	})
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitMessage("message 39"))
	st.must(st.Wait("all read", `document.querySelectorAll('#messages .state[data-state="read"]').length === 40`))
	eval[bool](st, `document.querySelector('.scroller').scrollTop = 100, true`)
	st.s.Receive(st.s.Messages()[0].From, "the newest", nil)
	st.must(st.WaitText("1 new message"))
	if y := eval[float64](st, `document.querySelector('.scroller').scrollTop`); y != 100 {
		t.Errorf("the view moved to %v", y)
	}
	st.must(st.ClickText("1 new message"))
	st.must(st.Wait("the end of the list", `(() => { const s = document.querySelector('.scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight < 5; })()`))
}

func TestPeopleAndSearch(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.AddUser("Charlie", true, 2)
		s.AddUser("Zoë Haas", false, 1)
		s.Receive(s.AddUser("Delta", true, 1), "the quarry is flooded", nil)
	})
	st.must(st.Go("#/people"))
	st.must(st.WaitText("keys have not arrived"))
	st.must(st.Go("#/chats"))
	for query, want := range map[string]string{"zoe": "Zoë Haas", "QUARRY": "Delta", "char": "Charlie"} {
		st.must(st.Fill("#search", query))
		st.must(st.Wait("the result for "+query, `[...document.querySelectorAll('#chat-list .row-name')].map((e) => e.textContent).join() === `+quote(want)))
	}
	st.must(st.Fill("#search", "nobody at all"))
	st.must(st.WaitText("Nobody and nothing found"))
	st.must(st.OpenChat("Zoë Haas"))
	st.must(st.WaitText("The keys of Zoë Haas have not arrived here"))
	st.must(st.Send("waits for you"))
	st.must(st.WaitState("waits for you", "waiting-for-keys"))
}

func TestBannerTellsTheSituation(t *testing.T) {
	st := in(t, PageOptions{}, nil)
	st.must(st.WaitText("Alone: no other node in reach"))
	seen := time.Now().Add(-3*time.Hour - time.Minute).UTC()
	st.s.SetBanner(fakeapi.Banner{State: "contact", Contacts: 1, CoreLast: &seen})
	st.must(st.WaitText("In contact with 1 node · core seen 3 h ago"))
	st.s.SetBanner(fakeapi.Banner{State: "contact", Contacts: 4})
	st.must(st.WaitText("In contact with 4 nodes"))
	st.s.SetBanner(fakeapi.Banner{State: "core", Contacts: 2, CoreLast: &seen})
	st.must(st.WaitText("Core in reach, in contact with 2 nodes"))
}

func TestMeshShowsNeighbours(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) { fillWorld(s) })
	st.must(st.Go("#/mesh"))
	st.must(st.Wait("for how long", upFor47(`up for `, ``)))
	for _, words := range []string{"Bravo", "heard", "6.1 MB", "843 kB", "LAN", "Radio", "blocked by the operator", "down for 7 h", "7 contacts in detail"} {
		st.must(st.WaitText(words))
	}
	if got := eval[string](st, `document.querySelectorAll('.strip-svg')[1].getAttribute('aria-label').replace(/[\u2068\u2069]/g, '')`); got != "Bravo: 2 contacts, 5 h in all" {
		t.Errorf("the strip of Bravo says %q", got)
	}
	link := fakeapi.Link{Node: "bravo7x2qk5n", Name: "Bravo", Class: "lan", TxBytes: 7_000_000}
	st.s.SetLinks(link)
	st.must(st.Wait("the changed link", plainText(`document.querySelector('#mesh-list')`)+`.includes('7 MB') && document.querySelectorAll('#mesh-list li').length === 1`))
	st.must(st.Go("#/status"))
	for _, words := range []string{"eagle", "361 MB of 2 GB", "1.0.0", "26 h"} {
		st.must(st.WaitText(words))
	}
}

// upFor47 is the JavaScript for a link that came up 47 minutes before the test,
// which itself takes its time.
func upFor47(before, after string) string {
	return `/` + before + `(4[7-9]|5\d) min` + after + `/.test(` + plainText(`document.querySelector('#mesh-list')`) + `)`
}

func TestTwinNamesAndMixedAlphabetsAreMarked(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.AddUser("Charlie", true, 1)
		s.AddUser("charlie ", true, 1)
		s.AddUser("\u0430dmin", true, 1)
	})
	st.must(st.Go("#/people"))
	st.must(st.Wait("the marks", `document.querySelectorAll('.row-warning').length === 3`))
	st.must(st.WaitText("mixes alphabets"))
	st.must(st.WaitText("Somebody else has the same name"))
}

func TestExpiredCanBeWrittenAgainAndWaitingPutAside(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.Sent(s.AddUser("Charlie", true, 1), "too late", func(m *fakeapi.Message) {
			m.State, m.ReasonCode, m.Reason, m.Precedence = "expired", "expired", "prose of the node", "immediate"
		})
		s.Sent(s.AddUser("Haas", false, 1), "no keys yet", func(m *fakeapi.Message) { m.State, m.ReasonCode = "waiting-for-keys", "no_keys" })
	})
	st.must(st.Click("#failures-bar"))
	st.must(st.WaitText("Its time ran out before it reached Charlie."))
	if eval[bool](st, plainText(`document.querySelector('dialog')`)+`.includes('Retry')`) {
		t.Error("an expired message can be retried")
	}
	st.must(st.ClickText("Next"))
	st.must(st.WaitText("The keys of Haas have not arrived at this node."))
	st.must(st.ClickText("Dismiss"))
	st.must(st.WaitText("1 of 1"))
	st.must(st.ClickText("Write it again"))
	st.must(st.Wait("the draft", `document.querySelector('#compose')?.value === 'too late' && !document.querySelector('dialog')`))
	st.must(st.Wait("no bar", `document.querySelector('#failures-bar').hidden`))
	st.must(st.Focus("#compose"))
	st.must(st.Press("\r"))
	until(t, "the second try", func() bool { return len(st.s.Messages()) == 3 })
	if m := last(st); *m.Text != "too late" || m.Precedence != "immediate" {
		t.Errorf("the node has %+v", m)
	}
}

// Somebody who types faster than the node answers loses no key, and what they
// send arrives in their order.
func TestTypingWhileSending(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	release := st.s.HoldAnswers("POST /v1/messages")
	st.must(st.Focus("#compose"))
	st.must(st.Press("one\r"))
	until(t, "the first message at the node", func() bool { return len(st.s.Messages()) == 1 })
	st.must(st.Press("two\r"))
	if eval[string](st, `document.querySelector('#compose').value`) != "two" {
		t.Error("what was typed meanwhile is lost, or is mixed with what is being sent")
	}
	release()
	st.must(st.WaitMessage("two"))
	st.must(st.Wait("the empty draft", `document.querySelector('#compose').value === ''`))
	ms := st.s.Messages()
	if len(ms) != 2 || *ms[0].Text != "one" || *ms[1].Text != "two" {
		t.Errorf("the node has %d messages", len(ms))
	}
}

// A failure puts the text back in front of what was typed since.
func TestFailureWhileTypingKeepsBoth(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	release := st.s.HoldAnswers("POST /v1/messages")
	st.s.Fail("POST /v1/messages", 507, "store_full", "full", "")
	st.must(st.Focus("#compose"))
	st.must(st.Press("one\r"))
	st.must(st.Wait("the draft handed over", `document.querySelector('#compose').value === ''`))
	st.must(st.Press("tw"))
	release()
	st.must(st.WaitText("The node has no room"))
	if got := eval[string](st, `document.querySelector('#compose').value`); got != "one\ntw" {
		t.Errorf("the draft is %q", got)
	}
}

func TestSameWordsTwiceAreTwoMessages(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	for n := range 3 {
		st.must(st.Send("Yes"))
		st.must(st.Wait("the messages", fmt.Sprintf(`document.querySelectorAll('#messages .message').length === %d`, n+1)))
	}
	if n := len(st.s.Messages()); n != 3 {
		t.Errorf("the node has %d messages", n)
	}
}

// What is dismissed is dismissed on the node: another page does not show it.
func TestDismissedForGood(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		c := s.AddUser("Charlie", true, 1)
		s.Sent(c, "one", func(m *fakeapi.Message) { m.State = "failed" })
		s.Sent(c, "two", func(m *fakeapi.Message) { m.State = "expired" })
	})
	st.must(st.Click("#failures-bar"))
	st.must(st.WaitText("1 of 2"))
	st.must(st.ClickText("Dismiss"))
	st.must(st.WaitText("1 of 1"))
	st.must(st.Press("\u001b"))
	st.must(st.Open(st.s.URL()))
	st.must(st.WaitText("1 message is stuck"))
	dismissed := 0
	for _, m := range st.s.Messages() {
		if m.Dismissed {
			dismissed++
		}
	}
	if dismissed != 1 {
		t.Errorf("the node has %d dismissed messages", dismissed)
	}
}

// The files of all conversations, also those of messages that no chat on the
// screen has loaded.
func TestFilesOfAllConversations(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		people := []fakeapi.Person{s.AddUser("Charlie", true, 1), s.AddUser("Haas", true, 1)}
		for i := range 60 {
			s.Receive(people[i%2], "", func(m *fakeapi.Message) {
				m.Type, m.Sent = "file", m.Sent.Add(-time.Duration(i)*time.Hour)
				m.File = &fakeapi.File{Name: fmt.Sprintf("map-%02d.pdf", i), Size: 1000, Have: 400, Total: 1000}
			})
			for range 3 {
				s.Receive(people[i%2], "x", func(m *fakeapi.Message) { m.Sent = m.Sent.Add(-time.Duration(i) * time.Hour) })
			}
		}
	})
	st.must(st.Go("#/files"))
	st.must(st.Wait("the newest", `document.querySelectorAll('.file-row').length === 50`))
	st.must(st.ClickText("Show older files"))
	st.must(st.Wait("all", `document.querySelectorAll('.file-row').length === 60 && [...document.querySelectorAll('.files .button')].every((b) => !b.textContent.includes('older') || b.hidden)`))
	st.must(st.WaitText("400 B of 1 kB here"))
	st.must(st.Fill("#main input[type=search]", "map-59"))
	st.must(st.Wait("the oldest", `document.querySelectorAll('.file-row').length === 1`))
	if n := eval[int](st, `document.querySelectorAll('.file-row progress').length`); n != 1 {
		t.Errorf("%d bars", n)
	}
}

// A key that changed is told over the conversation, compared in a dialog by
// keyboard alone, and known as compared from then on.
func TestChangedKeyIsComparedByKeyboard(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.SetUser(c.ID, func(u *fakeapi.User) { u.KeyChanged = true })
	st.must(st.WaitText("Charlie has another key than before."))
	eval[bool](st, `document.activeElement.blur(), true`)
	tabTo(st, ".key-notice .button")
	st.must(st.Press("\r"))
	st.must(st.Wait("both fingerprints", `document.querySelectorAll('dialog .fingerprint').length === 2`))
	tabTo(st, `dialog [data-focus="trust"]`)
	release := st.s.HoldAnswers("GET /v1/users") // they press before the page knows:
	defer release()
	st.s.SetUser(c.ID, func(u *fakeapi.User) { u.Fingerprint = "99999 00917 55120 39044 71286 62035" }) // while they compare
	st.must(st.Press("\r"))
	st.must(st.WaitText("The key has changed meanwhile."))
	release()
	st.must(st.WaitText("99999"))
	st.must(st.Wait("the button again", `!document.querySelector('dialog [data-focus="trust"]').disabled`))
	eval[bool](st, `document.querySelector('dialog [data-focus="trust"]').focus(), true`)
	st.must(st.Press("\r"))
	st.must(st.WaitText("Noted: you have compared this key."))
	st.must(st.Press("\u001b"))
	st.must(st.Wait("no notice", `!document.querySelector('.key-notice')`))
	st.must(st.Go("#/people"))
	st.must(st.Wait("the mark", `[...document.querySelectorAll('.person')].some((p) => p.textContent.includes('Charlie') && p.textContent.includes('compared'))`))
}

// What the node tells as codes is said in the user's language; what the page
// has no words for, as the node wrote it.
func TestExplanationInBothLanguages(t *testing.T) {
	for lang, want := range map[string][]string{
		"en": {"waits for a neighbour to take it.", "Sent 3 min ago, precedence FLASH.", "Keys of Charlie are known for 2 devices.", "Copies were taken by bravo, delta.", "Something new.", "It goes to the next node"},
		"de": {"wartet auf einen Nachbarn", "Vor 3 min gesendet, Dringlichkeit FLASH.", "Schlüssel von Charlie sind für 2 Geräte bekannt.", "Kopien haben übernommen: bravo, delta.", "Something new.", "Sie geht zum nächsten Knoten"},
	} {
		st := newStage(t, PageOptions{})
		m := st.s.Sent(st.s.AddUser("Charlie", true, 1), "where is it", func(m *fakeapi.Message) { m.State = "queued" })
		st.s.SetWhy(m.ID, fakeapi.Why{
			Summary: "Sum.", Facts: []string{"F1.", "F2.", "F3.", "Something new."}, Next: "Next.",
			SummarySaid: &fakeapi.Sentence{Code: "state_queued"},
			FactsSaid: []fakeapi.Sentence{
				{Code: "sent", Args: map[string]any{"age_s": 190, "precedence": "flash"}}, {Code: "keys_known", Args: map[string]any{"name": "Charlie", "n": 2}},
				{Code: "taken_by", Args: map[string]any{"nodes": []string{"bravo", "delta"}}}, {Code: "of_tomorrow"},
			},
			NextSaid: &fakeapi.Sentence{Code: "next_queued"},
		})
		st.must(st.Open(st.s.URL() + "/?lang=" + lang))
		st.must(st.Login(account, password))
		st.must(st.OpenChat("Charlie"))
		st.must(st.Click(".message.own .state-button"))
		for _, words := range want {
			st.must(st.WaitText(words))
		}
	}
}

// What the node refuses with a code is told in the person's language, not in
// the node's English.
func TestRefusalsSpeakThePersonsLanguage(t *testing.T) {
	t.Parallel()
	st := newStage(t, PageOptions{})
	st.s.AddUser("Charlie", true, 1)
	st.must(st.Open(st.s.URL() + "/?lang=de"))
	st.must(st.Login(account, password))
	st.must(st.OpenChat("Charlie"))
	for code, c := range map[string]struct {
		status int
		words  string
	}{
		"receive_only":      {403, "Sie archivieren, was dieses Netz sagt, und empfangen nur."},
		"too_slow":          {408, "Die Verbindung war zu langsam"},
		"too_many_requests": {429, "Von hier kamen zu viele Anfragen. Warten Sie 1 Sekunde"},
		"a_new_code":        {409, "something new. do this."},
	} {
		st.s.Fail("POST /v1/messages", c.status, code, "chat: something new", "do this")
		st.must(st.Fill("#compose", "Over."))
		st.must(st.Click(".send"))
		st.must(st.Wait("words for "+code, plainText(`document.querySelector('.composer .error')`)+`.trim().startsWith(`+quote(c.words)+`)`))
	}
	words := called(`const { errorText } = ` + module("ui/parts.mjs") + `; return errorText({ status: 403, code: 'policy', body: { error: { group: 'scouts' } } }).replace(/[\u2068\u2069]/g, '');`)
	if got := eval[string](st, words); !strings.HasPrefix(got, "Die Richtlinie der Gruppe scouts verbietet das.") {
		t.Errorf("a policy's refusal says %q", got)
	}
	st.must(st.Show(st.s.URL()+"/c/?lang=de", "the door", `document.querySelector('#door-code')`))
	st.must(st.Fill("#door-code", "7KQ2M-X4TRB"))
	eval[bool](st, `(window.fetch = async () => new Response('{"error":{"code":"no_network","message":"node: no network"}}', { status: 409 }), true)`)
	st.must(st.Click("#door-form-submit"))
	st.must(st.WaitText("Dieser Knoten gehört noch zu keinem Netzwerk."))
}
