package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"outrider/field-tests/browser/fakeapi"
)

func TestWrongPasswordSaysWhatToDo(t *testing.T) {
	st := open(t)
	err := st.Login(account, "wrong")
	if err == nil || !strings.Contains(err.Error(), "Name or password is wrong") {
		t.Fatalf("error %v", err)
	}
	if eval[string](st, `document.activeElement.id`) != "login-password" {
		t.Error("the password field does not have the keyboard for the next try")
	}
	if eval[string](st, `document.querySelector('#login-name').value`) != account {
		t.Error("the name has to be typed again")
	}
	st.must(st.Login(account, password))
}

func TestNothingTypedSaysWhatIsMissing(t *testing.T) {
	st := open(t)
	st.must(st.Click("#login-submit"))
	st.must(st.WaitText("Type your name and your password."))
	for _, r := range st.s.Requests() {
		if r.Method == "POST" {
			t.Errorf("an empty login was sent: %v", r)
		}
	}
}

func TestTooManyAttemptsCountDown(t *testing.T) {
	st := newStage(t, PageOptions{Script: `window.ahead = 0; const now = Date.now; Date.now = () => now() + window.ahead;`})
	st.must(st.Open(st.s.URL()))
	st.s.LimitLogins(15 * time.Minute)
	err := st.Login(account, password)
	if err == nil || !strings.Contains(err.Error(), "Too many attempts. Wait 900 seconds") {
		t.Fatalf("error %v", err)
	}
	left := func(most int) {
		t.Helper()
		st.must(st.Wait("the rest of the wait", fmt.Sprintf(`(() => { const n = Number(/^Wait (\d+) s/.exec(document.querySelector('#login-submit').textContent)?.[1]); return n > 0 && n <= %d; })()`, most)))
		if !eval[bool](st, `document.querySelector('#login-submit').disabled`) {
			t.Error("the button can be pressed during the wait")
		}
	}
	left(899) // it counts
	eval[bool](st, `(window.ahead = 300000, true)`)
	left(600)
	st.s.LimitLogins(0)
	eval[bool](st, `(window.ahead = 900000, true)`)
	st.must(st.Login(account, password)) // waits until the button is free again
}

func TestOtherLoginErrors(t *testing.T) {
	for code, words := range map[string]string{
		"busy": "The node is busy", "tls_required": "Open the page with https://", "something_new": "The reactor is cold. Warm it.",
	} {
		t.Run(code, func(t *testing.T) {
			st := open(t)
			st.s.Fail("POST /v1/session", 503, code, "The reactor is cold", "Warm it")
			if err := st.Login(account, password); err == nil || !strings.Contains(err.Error(), words) {
				t.Fatalf("error %v, want %q", err, words)
			}
		})
	}
}

func TestPageWaitsForNodeThatIsAway(t *testing.T) {
	st := open(t)
	st.s.Stop()
	err := st.Login(account, password)
	if err == nil || !strings.Contains(err.Error(), "The node does not answer") {
		t.Fatalf("error %v", err)
	}
	st.s.Start()
	st.must(st.Login(account, password))
}

// The node is killed and comes back without its sessions while somebody types.
func TestRestartAsksForPasswordAndKeepsDraft(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.Receive(s.AddUser("Charlie", true, 1), "Where are you?", nil)
	})
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitMessage("Where are you?"))
	st.must(st.Fill("#compose", "On the ridge, and"))
	st.s.Restart()
	st.must(st.WaitText("The session has ended"))
	if eval[bool](st, `document.querySelector('#app').getClientRects().length > 0`) || !eval[bool](st, `document.querySelector('#app').hidden`) {
		t.Error("messages can be seen although nobody is logged in")
	}
	if got := eval[string](st, `document.querySelector('#login-name').value`); got != account {
		t.Errorf("the name %q has to be typed again", got)
	}
	st.must(st.Login(account, password))
	st.must(st.Wait("the draft", `document.querySelector('#compose')?.value === 'On the ridge, and'`))
	st.must(st.Send("On the ridge, and well"))
	if ms := st.s.Messages(); *ms[len(ms)-1].Text != "On the ridge, and well" {
		t.Errorf("the node has %v", ms[len(ms)-1])
	}
}

func TestAnotherUserAfterRestartSeesNothingOfTheFirst(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.Receive(s.AddUser("Charlie", true, 1), "for alice alone", nil)
	})
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitMessage("for alice alone"))
	st.must(st.Fill("#compose", "secret draft"))
	st.s.Restart()
	st.s.Rename("Bob", "bobs password") // the same page, another account
	st.must(st.WaitText("The session has ended"))
	st.must(st.Login("Bob", "bobs password"))
	st.must(st.WaitText("No chats yet"))
	if eval[bool](st, `document.documentElement.outerHTML.includes('alice alone') || document.querySelector('#compose')?.value === 'secret draft'`) {
		t.Error("Bob's page still holds what was Alice's")
	}
}

func TestLogoutLeavesNothing(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.Receive(s.AddUser("Charlie", true, 1), "for alice alone", nil)
	})
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitMessage("for alice alone"))
	st.must(st.SetTheme("red"))
	st.must(st.Go("#/settings"))
	eval[bool](st, `(document.body.dataset.old = '1', true)`)
	st.must(st.Click("#logout"))
	st.must(st.Wait("the login", `!document.body.dataset.old && document.querySelector('#login-submit')`))
	if eval[bool](st, `document.documentElement.outerHTML.includes('alice alone')`) {
		t.Error("messages are left in the page")
	}
	stored := eval[string](st, `JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])`)
	if stored != `[{"outrider.theme":"red"},{},""]` {
		t.Errorf("the browser keeps %s", stored)
	}
	if eval[string](st, called(`return (await fetch('/v1/session')).status + ''`)) != "401" {
		t.Error("the session goes on at the node")
	}
}

func TestReloadKeepsSessionAndPlace(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.Receive(s.AddUser("Charlie", true, 1), "still here", nil)
	})
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitMessage("still here"))
	st.must(st.Press(kb.F5))
	eval[bool](st, `document.body.dataset.old = '1', location.reload(), true`)
	st.must(st.Wait("the chat after a reload", `!document.body.dataset.old && document.querySelector('#app:not([hidden]) #compose')`))
	st.must(st.WaitMessage("still here"))
}
