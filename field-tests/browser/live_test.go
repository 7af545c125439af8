package browser

import (
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser/fakeapi"
)

// typing puts a draft into the open conversation, the caret inside it.
func typing(st *stage) {
	st.t.Helper()
	st.must(st.Fill("#compose", "half a sentence"))
	st.must(st.Focus("#compose"))
	eval[bool](st, `document.querySelector('#compose').setSelectionRange(4, 8), true`)
}

func stillTyping(st *stage) {
	st.t.Helper()
	got := eval[string](st, `(() => { const c = document.querySelector('#compose'); return [c.value, document.activeElement === c, c.selectionStart, c.selectionEnd].join(); })()`)
	if got != "half a sentence,true,4,8" {
		st.t.Errorf("the draft, the focus or the selection is lost: %s", got)
	}
}

func TestStreamResumesWhereItWasAndDraftStays(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.Receive(c, "before the cut", nil)
	st.must(st.WaitMessage("before the cut"))
	typing(st)
	opened := st.s.Streams()
	st.s.CutStreams()
	st.s.Receive(c, "during the cut", nil)
	st.must(st.WaitMessage("during the cut"))
	until(t, "the new stream", func() bool { return st.s.Streams() > opened })
	st.s.Receive(c, "after the cut", nil)
	st.must(st.WaitMessage("after the cut"))
	stillTyping(st)
	resumed := ""
	for _, r := range st.s.Requests() {
		if r.Path == "/v1/events" {
			resumed = r.LastEventID
		}
	}
	if resumed == "" {
		t.Error("the second stream did not name the last event it has")
	}
	if n := eval[int](st, `document.querySelectorAll('#messages .message').length`); n != 3 {
		t.Errorf("%d messages are shown", n)
	}
}

func TestPollingWhenStreamsAreRefused(t *testing.T) {
	t.Parallel()
	st, c := withCharlie(t, PageOptions{})
	typing(st)
	st.s.RefuseStreams(true)
	st.must(st.WaitText("Live updates are cut; asking every few seconds."))
	st.s.Receive(c, "found by asking", nil)
	st.must(st.WaitMessage("found by asking"))
	stillTyping(st)
	st.s.RefuseStreams(false)
	st.must(st.Wait("live updates", `!`+plainText(`document.querySelector('#banner')`)+`.includes('Live updates are cut')`))
	stillTyping(st)
}

func TestNodeAwayAndBack(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	typing(st)
	st.s.Stop()
	st.must(st.WaitText("The node does not answer. Trying again by itself"))
	stillTyping(st)
	st.s.Receive(c, "while you were away", nil)
	st.s.Start()
	st.must(st.WaitMessage("while you were away"))
	st.must(st.Wait("the banner", `document.querySelector('#banner').dataset.state === 'alone'`))
	stillTyping(st)
}

// pressSend types a message and presses Enter, whatever comes of it.
func pressSend(st *stage, text string) {
	st.t.Helper()
	st.must(st.Fill("#compose", text))
	st.must(st.Focus("#compose"))
	st.must(st.Press("\r"))
}

func sentOnce(st *stage, text string) {
	st.t.Helper()
	st.must(st.WaitMessage(text))
	st.must(st.Wait("the empty draft", `document.querySelector('#compose').value === '' && document.querySelector('#compose-error').textContent === ''`))
	if n := len(st.s.Messages()); n != 2 {
		st.t.Errorf("the node has %d messages", n)
	}
	if n := eval[int](st, `document.querySelectorAll('#messages .message').length`); n != 2 {
		st.t.Errorf("%d messages are shown", n)
	}
}

// The node took the message, but its answer was lost. The browser repeats the
// request by itself when the connection was used before.
func TestLostAnswerSendsOnce(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Send("first"))
	st.s.LoseNextAnswer(false)
	pressSend(st, "did this go?")
	sentOnce(st, "did this go?")
}

// The node is killed just after the message became durable.
func TestMessageOfKilledNodeIsSettled(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Send("first"))
	st.s.RefuseStreams(true) // so that no event tells it
	st.must(st.WaitText("Live updates are cut"))
	st.s.LoseNextAnswer(true)
	pressSend(st, "did this go?")
	st.must(st.WaitText("The message may have been taken"))
	if eval[string](st, `document.querySelector('#compose').value`) != "did this go?" {
		t.Error("the draft is gone before it is known that the message was taken")
	}
	st.s.Start()
	sentOnce(st, "did this go?")
}

// Whoever presses Send again meanwhile does not send it twice either.
func TestSendPressedAgainSendsOnce(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Send("first"))
	st.s.RefuseStreams(true)
	st.must(st.WaitText("Live updates are cut"))
	st.s.LoseNextAnswer(true)
	pressSend(st, "did this go?")
	st.must(st.WaitText("The message may have been taken"))
	st.s.Start()
	st.must(st.Press("\r"))
	sentOnce(st, "did this go?")
}

func TestUnansweredMessageStaysAsDraft(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	st.s.Stop()
	st.must(st.Fill("#compose", "hold this"))
	st.must(st.Focus("#compose"))
	st.must(st.Press("\r"))
	st.must(st.WaitText("The node did not answer in time"))
	st.s.Start()
	st.must(st.Wait("the node", `document.querySelector('#banner').dataset.state === 'alone'`))
	if eval[string](st, `document.querySelector('#compose').value`) != "hold this" || len(st.s.Messages()) != 0 {
		t.Error("the draft is lost, or was sent without being asked")
	}
	st.must(st.Send("hold this"))
}

// Events of a burst arrive once each, in order, and cost few requests.
func TestBurst(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.Receive(c, "start", nil)
	st.must(st.WaitMessage("start"))
	before, began := len(st.s.Requests()), time.Now()
	for range 300 {
		st.s.Receive(c, "burst", func(m *fakeapi.Message) { m.State, m.Unread = "read", false })
	}
	st.s.Receive(c, "end", nil)
	st.must(st.WaitMessage("end"))
	st.must(st.Wait("all messages", `[...document.querySelectorAll('#messages .text')].filter((e) => e.textContent === 'burst').length === 300`))
	n, took := len(st.s.Requests())-before, time.Since(began)
	if most := 60 + 3*int(took/(200*time.Millisecond)); n > most { // lists are asked for at most every 200 ms
		t.Errorf("300 messages caused %d requests in %v", n, took)
	}
}

func TestUpgradedNodeOffersNewPage(t *testing.T) {
	st := in(t, PageOptions{}, nil)
	st.s.SetVersion("2.0.0")
	st.s.CutStreams()
	st.must(st.WaitText("The node was updated."))
	st.must(st.ClickText("Load the new page"))
	st.must(st.Wait("the page without the notice", `document.querySelector('#app:not([hidden]) #banner') && !`+plainText(`document.body`)+`.includes('was updated')`))
}

// What an event brought is newer than a list that was on its way meanwhile.
func TestListOnItsWayHidesNoNewerMessage(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.Receive(c, "first", nil)
	st.must(st.WaitMessage("first"))
	until(t, "quiet", func() bool { return last(st).State == "read" })
	release := st.s.HoldAnswers("GET /messages")
	defer release()
	lists := func() int { return requests(st, "/messages") }
	before, opened := lists(), st.s.Streams()
	st.s.CutStreams() // the page asks for the list again when the stream is back
	until(t, "the list asked for", func() bool { return lists() > before && st.s.Streams() > opened })
	st.s.Receive(c, "second", nil)
	st.must(st.WaitMessage("second"))
	release()
	st.must(st.Wait("the list", `document.querySelectorAll('#messages .message').length >= 1`))
	for range 20 { // the old list is here by now, and for some time
		if !eval[bool](st, bubble("second", false)+` !== undefined`) {
			t.Fatal("the older list took the newer message off the screen")
		}
	}
	st.must(st.WaitState("second", "read"))
}

// requests counts those whose path ends so.
func requests(st *stage, path string) (n int) {
	for _, r := range st.s.Requests() {
		if strings.HasSuffix(r.Path, path) {
			n++
		}
	}
	return n
}

// A status that was asked for before the node's situation changed does not put
// the old one back.
func TestStatusOnItsWayHidesNoNewerBanner(t *testing.T) {
	st := in(t, PageOptions{}, nil)
	st.must(st.WaitText("Alone: no other node in reach"))
	release := st.s.HoldAnswers("GET /status")
	defer release()
	asked := func() int { return requests(st, "/status") }
	before, opened := asked(), st.s.Streams()
	st.s.CutStreams() // the page asks again when the stream is back
	until(t, "the status asked for", func() bool { return asked() > before && st.s.Streams() > opened })
	st.s.SetBanner(fakeapi.Banner{State: "contact", Contacts: 4})
	st.must(st.WaitText("In contact with 4 nodes"))
	release()
	for range 20 { // the old status is here by now, and for some time
		if !eval[bool](st, `document.querySelector('#banner-words').innerText.includes('4 nodes')`) {
			t.Fatal("the older status took the newer situation off the screen")
		}
	}
}

func TestResetLoadsEverythingAnew(t *testing.T) {
	st, c := withCharlie(t, PageOptions{})
	st.s.Receive(c, "first", nil)
	st.must(st.WaitMessage("first"))
	typing(st)
	st.s.PutSilently(c, "in the gap")
	st.s.DropEvents()
	st.must(st.WaitMessage("in the gap"))
	stillTyping(st)
}
