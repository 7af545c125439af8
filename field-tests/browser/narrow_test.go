package browser

import (
	"fmt"
	"testing"
	"time"

	"outrider/field-tests/browser/fakeapi"
)

// cut tells which of the elements do not show all of their words.
func cut(selector string) string {
	return `[...document.querySelectorAll(` + quote(selector) + `)].filter((e) => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 2).map((e) => e.textContent)`
}

// lines are how many lines the words of an element take.
func lines(selector string) string {
	return `(() => { const range = document.createRange(); range.selectNodeContents(document.querySelector(` + quote(selector) + `)); return new Set([...range.getClientRects()].map((r) => Math.round(r.top / 4))).size; })()`
}

// On the smallest phone names, numbers and words of buttons are whole, in
// German, whose words are the longest.
func TestNarrowWordsAreWhole(t *testing.T) {
	t.Parallel()
	st := newStage(t, phone)
	p := fillWorld(st.s)
	twin := st.s.AddUser("Charlie", true, 1)
	since := time.Now().Add(-3 * time.Hour)
	st.s.SetContacts(fakeapi.Contact{Node: "2wmjyhmwzt8q", Class: "lan", Start: since, Times: 1})
	check := func(what string, ok string) {
		t.Helper()
		if !eval[bool](st, ok) {
			t.Error(what)
		}
	}
	whole := func(selector string) {
		t.Helper()
		if c := eval[[]string](st, cut(selector)); len(c) > 0 {
			t.Errorf("%s: cut off: %q", selector, c)
		}
	}

	st.must(st.Open(st.s.URL() + "/?lang=de"))
	st.must(st.Wait("the node's name", `document.querySelector('.login-where').textContent`))
	if n := eval[int](st, lines("#login-door")); n > 2 {
		t.Errorf("the way to the one-time code takes %d lines", n)
	}
	check("the way to the one-time code sticks to what is around it", `(() => { const at = (s) => document.querySelector(s).getBoundingClientRect(); return at('#login-door').top - at('#login-submit').bottom >= 8 && at('.login-door + .quiet').top - at('#login-door').bottom >= 8; })()`)

	st.must(st.Login(account, password))
	for _, name := range []string{"Tamsin Reyes", "Mora Lindqvist"} {
		st.must(st.OpenChat(name))
		whole("#chat h1")
	}
	check("a gap behind the way back", `document.querySelector('#chat .avatar').getBoundingClientRect().left - document.querySelector('.back .icon').getBoundingClientRect().right < 16`)
	check("the way back is smaller than a thumb", `(() => { const r = document.querySelector('.back').getBoundingClientRect(); return [1, 28, 55].every((x) => document.elementFromPoint(r.left + x, r.top + r.height / 2)?.closest('.back')); })()`)
	st.must(st.Go("#/chats/u/" + twin.ID))
	st.must(st.Wait("the namesake", fmt.Sprintf(`document.querySelector('#chat[data-peer=%s] .name-warning code')`, quote(twin.ID))))
	if n := eval[int](st, lines(".name-warning code")); n != 1 {
		t.Errorf("the number of a namesake takes %d lines", n)
	}

	st.must(st.Go("#/people"))
	st.must(st.Wait("the people", fmt.Sprintf(`document.querySelectorAll('.person').length === %d`, len(p)+2)))
	whole(".person .row-name")
	st.must(st.Go("#/mesh"))
	st.must(st.Wait("the contacts", `document.querySelector('.strip-name')?.textContent === '2wmjyhmw'`))
	whole(".strip-name")
	st.must(st.Go("#/files"))
	st.must(st.Wait("the files", `document.querySelector('.file-row .actions a[download]')`))
	check("the words of a button take two lines or touch its edge", `[...document.querySelectorAll('.file-row .actions .button')].every((b) => { const w = b.querySelector('span').getBoundingClientRect(); const r = b.getBoundingClientRect(); return w.height < 30 && b.firstChild.getBoundingClientRect().left - r.left >= 8 && r.right - w.right >= 8; })`)
}

// No card has a heading that its button or its row says again, and on a desk
// the cards of the status fill their rows.
func TestCardsSayThingsOnce(t *testing.T) {
	t.Parallel()
	st := in(t, desk, func(s *fakeapi.Server) { fillWorld(s) })
	for _, name := range []string{"settings", "status"} {
		whole(name).show(st)
		if again := eval[[]string](st, `[...document.querySelectorAll('.page .card')].flatMap((c) => [...c.querySelectorAll('.button, dt')].filter((e) => e.textContent === c.querySelector('h2')?.textContent).map((e) => e.textContent))`); len(again) > 0 {
			t.Errorf("%s: said twice: %q", name, again)
		}
	}
	if short := eval[[]string](st, `(() => {
		const cards = [...document.querySelectorAll('.status-body > .card')].map((e) => ({ r: e.getBoundingClientRect(), words: e.querySelector('h2').textContent }));
		const right = document.querySelector('.status-body').getBoundingClientRect().right;
		return cards.filter((c) => right - Math.max(...cards.filter((o) => o.r.top === c.r.top).map((o) => o.r.right)) > 1).map((c) => c.words);
	})()`); len(short) > 0 {
		t.Errorf("rows of the status that end early: %q", short)
	}
}

// What takes room from a conversation, as a banner, the keyboard or the
// options of the composer, does not take the newest message away; who reads
// further up stays there.
func TestChatKeepsItsEndWhenItShrinks(t *testing.T) {
	t.Parallel()
	st, c := withCharlie(t, phone)
	for i := range 30 {
		st.s.Receive(c, fmt.Sprintf("message %d", i), nil)
	}
	st.must(st.WaitMessage("message 29"))
	const below = `(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight)(document.querySelector('.scroller'))`
	st.must(st.Wait("the end", below+` < 2`))
	high := eval[int](st, `document.querySelector('.scroller').clientHeight`)
	options := `[aria-controls="compose-options"]`
	st.must(st.Click(options))
	st.must(st.Wait("the options, and the end above them", fmt.Sprintf(`document.querySelector('.scroller').clientHeight < %d - 100 && `+below+` < 2`, high)))
	st.must(st.Click(options))
	st.must(st.Wait("the end again", fmt.Sprintf(`document.querySelector('.scroller').clientHeight === %d && `+below+` < 2`, high)))
	eval[bool](st, `new Promise((done) => { const s = document.querySelector('.scroller'); s.addEventListener('scroll', () => done(true), { once: true }); s.scrollTop = 200; })`)
	st.must(st.Click(options))
	st.must(st.Wait("the options", fmt.Sprintf(`document.querySelector('.scroller').clientHeight < %d - 100`, high)))
	if at := eval[int](st, called(`await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); return document.querySelector('.scroller').scrollTop;`)); at != 200 {
		t.Errorf("who read at 200 px is at %d", at)
	}
}
