package browser

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"outrider/field-tests/browser/fakeapi"
)

// tabTo presses Tab until the element that the selector finds has the keyboard,
// and checks at each step that the focus can be seen.
func tabTo(st *stage, selector string) {
	st.t.Helper()
	for range 60 {
		if eval[bool](st, `document.activeElement?.matches(`+quote(selector)+`)`) {
			return
		}
		st.must(st.Press(kb.Tab))
		focusIsSeen(st)
	}
	st.t.Fatalf("Tab does not lead to %s", selector)
}

// focusIsSeen checks that what has the keyboard, or the face of a choice that
// has it, is outlined and on the screen.
func focusIsSeen(st *stage) {
	st.t.Helper()
	wrong := eval[string](st, `(() => {
		const e = document.activeElement;
		if (!e || e === document.body) return '';
		const shown = e.matches('.choice-key input') ? e.nextElementSibling : e;
		const s = getComputedStyle(shown);
		const r = shown.getBoundingClientRect();
		if (s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2) return e.outerHTML.slice(0, 150) + ' has the keyboard, but that cannot be seen';
		if (r.bottom <= 0 || r.top >= innerHeight || r.right <= 0 || r.left >= innerWidth) return e.outerHTML.slice(0, 150) + ' has the keyboard, but is off the screen';
		return '';
	})()`)
	if wrong != "" {
		st.t.Error(wrong)
	}
}

// From the first key to a sent message without a pointer.
func TestKeyboardAloneFromLoginToSend(t *testing.T) {
	st := newStage(t, PageOptions{})
	st.s.AddUser("Charlie", true, 1)
	st.must(st.Open(st.s.URL()))
	st.must(st.Press(account + kb.Tab + password + kb.Enter))
	st.must(st.Wait("the screens", `document.querySelector('#app:not([hidden]) #shell')`))
	st.must(st.Press("/"))
	st.must(st.Wait("the search", `document.activeElement.id === 'search' && document.activeElement.value === ''`))
	st.must(st.Press("char"))
	st.must(st.Wait("the result", `document.querySelectorAll('#chat-list a').length === 1`))
	st.must(st.Press(kb.Enter))
	st.must(st.Wait("the composer", `document.activeElement.id === 'compose'`))
	st.must(st.Press("On the ridge. g c / ?"))
	st.must(st.Press(kb.Enter, chromedp.ModifierShift))
	st.must(st.Press("All well." + kb.Enter))
	const text = "On the ridge. g c / ?\nAll well."
	st.must(st.WaitMessage(text))
	if m := last(st); *m.Text != text {
		t.Fatalf("the node has %q", *m.Text)
	}
}

func TestShortcuts(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) {
		s.Receive(s.AddUser("Charlie", true, 1), "one", func(m *fakeapi.Message) { m.Sent = m.Sent.Add(-time.Hour) })
		s.Sent(s.AddUser("Delta", true, 1), "two", func(m *fakeapi.Message) { m.State = "failed" })
	})
	st.must(st.Wait("the list", `document.querySelectorAll('#chat-list a').length === 2`))
	eval[bool](st, `document.activeElement.blur(), true`)
	for keys, screen := range map[string]string{"gp": "people", "gf": "files", "gm": "mesh", "gs": "status", "ge": "settings"} {
		st.must(st.Press(keys))
		st.must(st.Wait(screen, `document.querySelector('#shell').dataset.screen === `+quote(screen)))
	}
	st.must(st.Press("gc"))
	st.must(st.Wait("the first chat", `document.activeElement.matches('#chat-list a') && document.activeElement.textContent.includes('Delta')`))
	st.must(st.Press("j"))
	st.must(st.Wait("the second chat", `document.activeElement.textContent.includes('Charlie')`))
	st.must(st.Press("k"))
	st.must(st.Press(kb.ArrowDown))
	st.must(st.Press(kb.Enter))
	st.must(st.Wait("the composer", `document.activeElement.id === 'compose'`))
	st.must(st.WaitMessage("one"))
	st.must(st.Press(kb.Escape)) // leaves the field
	st.must(st.Press("i"))
	st.must(st.Wait("the details", `document.querySelector('dialog #why')`))
	st.must(st.Press("gs")) // a dialog has the keyboard for itself
	st.must(st.Press(kb.Escape))
	st.must(st.Wait("no dialog", `!document.querySelector('dialog') && document.querySelector('#shell').dataset.screen === 'chats'`))
	st.must(st.Press("?"))
	st.must(st.WaitText("Go to mesh"))
	st.must(st.Press(kb.Escape))
	st.must(st.Press("gx"))
	st.must(st.WaitText("1 of 1"))
	st.must(st.Press(kb.Escape))
	st.must(st.Press("r"))
	st.must(st.Wait("the composer again", `document.activeElement.id === 'compose' && document.activeElement.value === ''`))
	st.must(st.Press("g?/jki"))
	if got := eval[string](st, `document.querySelector('#compose').value`); got != "g?/jki" {
		t.Errorf("shortcuts took keys from the text: %q", got)
	}
	st.must(st.Press(kb.Escape))
	st.must(st.Press(kb.Escape))
	st.must(st.Wait("the list without a chat", `location.hash === '#/chats'`))
}

// pressable tells what can be pressed on the screen, or in the open dialog, as
// words that stay the same when it is drawn anew. Of radio buttons one takes the
// keyboard for all; a button stands for the field that chooses files.
const pressable = `((e) => [e.localName, e.id, e.name ?? '', e.getAttribute('href') ?? '', e.getAttribute('aria-label') ?? '', e.localName === 'textarea' ? '' : e.textContent.replace(/[0-9]+/g, '')].join(' ').trim().slice(0, 120))`

const allPressable = `(() => {
	const root = document.querySelector('dialog[open]') ?? document;
	const shown = (e) => e.getClientRects().length && getComputedStyle(e).visibility !== 'hidden' && !e.closest('[hidden], [inert]');
	const all = [...root.querySelectorAll('a[href], button:not(:disabled), input:not(:disabled):not([type=file]), textarea, summary, [tabindex="0"]')].filter(shown);
	return all.filter((e) => e.type !== 'radio' || e.checked || !all.some((o) => o.name === e.name && o.checked)).map(` + pressable + `);
})()`

// tabThrough presses Tab until it has been on everything that can be pressed,
// and checks at each step that the focus can be seen.
func tabThrough(st *stage, where string, least int) {
	st.t.Helper()
	eval[bool](st, `(document.activeElement?.closest('dialog') || document.activeElement?.blur(), true)`)
	been := map[string]bool{}
	var missing []string
	for range 200 {
		been[eval[string](st, pressable+`(document.activeElement)`)] = true
		all := eval[[]string](st, allPressable)
		missing = slices.DeleteFunc(slices.Clone(all), func(e string) bool { return been[e] })
		if len(all) >= least && len(missing) == 0 {
			return
		}
		st.must(st.Press(kb.Tab))
		focusIsSeen(st)
	}
	st.t.Errorf("%s: Tab does not lead to %q", where, missing)
}

// Everything that can be pressed is reached with Tab, on every screen, and is
// seen to be.
func TestTabReachesEverything(t *testing.T) {
	for i, theme := range []string{"day", "night", "red"} {
		t.Run(theme, func(t *testing.T) {
			t.Parallel()
			st := in(t, PageOptions{}, func(s *fakeapi.Server) { fillWorld(s) })
			st.must(st.SetTheme(theme))
			for j, s := range []struct {
				name  string
				least int // so many there are, with the seven screens
				show  func()
			}{
				{"chat", 30, func() {
					st.must(st.OpenChat("Charlie"))
					st.must(st.Wait("the messages", `document.querySelectorAll('#messages .message').length > 5`))
				}},
				{"people", 20, func() { whole("people").show(st) }},
				{"files", 12, func() { whole("files").show(st) }},
				{"mesh", 10, func() {
					whole("mesh").show(st)
					st.must(st.Wait("the contacts", `document.querySelector('.contact-list')`))
				}},
				{"status", 9, func() { whole("status").show(st) }},
				{"settings", 15, func() { whole("settings").show(st) }},
				{"map", 15, func() {
					st.must(st.Go("#/map"))
					st.must(st.Wait("the map", `document.querySelectorAll('#map .place-mark').length > 4 && document.querySelectorAll('#map-list .place-card').length > 3`))
				}},
				{"failures", 6, func() {
					st.must(st.Click("#failures-bar"))
					st.must(st.Wait("the failures", `document.querySelector('dialog [data-focus="next"]')`))
				}},
			} {
				if i > 0 && j%2 != i%2 { // each screen in two of the themes: the ways are the same in all
					continue
				}
				s.show()
				tabThrough(st, s.name, s.least)
			}
		})
	}
}

// A dialog takes the keyboard and gives it back.
func TestDialogsKeepAndReturnFocus(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) { fillWorld(s) })
	st.must(st.OpenChat("Charlie"))
	st.must(st.Wait("the messages", `document.querySelectorAll('#messages .message').length > 5`))
	st.must(st.Focus(".message.own:last-child .state-button"))
	st.must(st.Press(kb.Enter))
	st.must(st.Wait("the details", `document.querySelector('dialog #why')`))
	for range 12 {
		st.must(st.Press(kb.Tab))
		if !eval[bool](st, `document.activeElement === document.body || document.querySelector('dialog').contains(document.activeElement)`) {
			t.Fatal("the focus left the open dialog")
		}
	}
	st.must(st.Press(kb.Escape))
	st.must(st.Wait("the focus where it was", `document.activeElement.matches('.message.own:last-child .state-button')`))
}

// From login over a sent message to the end of the failures without a pointer.
func TestKeyboardAloneThroughFailures(t *testing.T) {
	st := newStage(t, PageOptions{})
	c := st.s.AddUser("Charlie", true, 1)
	for i := range 3 {
		st.s.Sent(c, fmt.Sprintf("stuck %d", i), func(m *fakeapi.Message) { m.State = "failed" })
	}
	st.must(st.Open(st.s.URL()))
	st.must(st.Press(account + kb.Tab + password + kb.Enter))
	st.must(st.Wait("the screens", `document.querySelector('#app:not([hidden]) #shell')`))
	st.following()
	st.must(st.WaitText("3 messages are stuck"))
	st.must(st.Press("gc"))
	st.must(st.Wait("the first chat", `document.activeElement.matches('#chat-list a')`))
	st.must(st.Press(kb.Enter))
	st.must(st.Wait("the composer", `document.activeElement.id === 'compose'`))
	st.must(st.Press("Going on." + kb.Enter))
	st.must(st.WaitMessage("Going on."))
	st.must(st.Press(kb.Escape))
	st.must(st.Press("gx"))
	st.must(st.WaitText("1 of 3"))
	for _, want := range []string{"2 of 3", "3 of 3", "1 of 3"} {
		st.must(st.Wait("the key for the next one", `document.activeElement.dataset.focus === 'next'`))
		st.must(st.Press(kb.Enter))
		st.must(st.WaitText(want))
	}
	tabTo(st, `dialog [data-focus="retry"]`)
	st.must(st.Press(kb.Enter))
	st.must(st.WaitText("1 of 2"))
	tabTo(st, `dialog [data-focus="recall"]`)
	st.must(st.Press(kb.Enter))
	st.must(st.WaitText("1 of 1"))
	tabTo(st, `dialog [data-focus="dismiss"]`)
	st.must(st.Press(kb.Enter))
	st.must(st.WaitText("All messages are on their way."))
	st.must(st.Press(kb.Escape))
	st.must(st.Wait("no bar", `document.querySelector('#failures-bar').hidden`))
}
