package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// doorAnswers stands for the node's calls of the door.
const doorAnswers = `(() => {
	const words = 'anchor basket candle drift ember falcon garden harbor island jungle kettle lantern marble nectar orchid pepper quartz ribbon saddle timber umpire velvet walnut zipper';
	const answers = {
		'/v1/codes/check': { name: 'Mora Lindqvist', network: 'eagle', new_key: true, words: 'anchor-basket-candle-drift-ember-falcon-garden' },
		'/v1/session': { user: { name: 'Mora Lindqvist' } },
		'/v1/recovery': { name: 'Mora Lindqvist', network: 'eagle', user_id: 'k3vd'.repeat(13), words },
	};
	window.fetch = async (path) => new Response(JSON.stringify(answers[path] ?? { error: { code: 'bad_code', message: 'x' } }), { status: answers[path] ? 200 : 401 });
	return true;
})()`

// doorScreens are what a person without a password sees, and the account's.
var doorScreens = []screen{
	{"code", func(st *stage) { st.must(st.Wait("the code", `document.querySelector('#door-code')`)) }},
	{"refused", func(st *stage) {
		st.must(st.Fill("#door-code", "7KQ2M-X4TRB"))
		eval[bool](st, `(window.fetch = async () => new Response('{"error":{"code":"bad_code"}}', { status: 401 }), true)`)
		st.must(st.Click("#door-form-submit"))
		st.must(st.Wait("the refusal", `document.querySelector('.error .icon')`))
	}},
	{"password", func(st *stage) {
		eval[bool](st, doorAnswers)
		st.must(st.Click("#door-form-submit"))
		st.must(st.Wait("the warning", `document.querySelector('#door-newkey') && document.querySelector('#door-words')`))
	}},
	doorAt("restore", "restore", `document.querySelector('#door-sheet-words')`),
	doorAt("link", strings.Repeat("J5JDEMZTGQ", 60), `document.querySelector('#door-link')`),
	doorAt("broken", "something", `document.querySelector('.notice') && !document.querySelector('#door-link')`),
	doorAt("account", "account", `document.querySelector('#door-sheet-form')`),
	{"sheet", func(st *stage) {
		st.must(st.Fill("#door-own", password))
		st.must(st.Click("#door-sheet-form-submit"))
		st.must(st.Wait("the words", `document.querySelectorAll('.door-sheet li').length === 24`))
		if style := eval[string](st, `getComputedStyle(document.querySelector('.door-sheet li')).listStyleType`); style != "decimal" {
			st.t.Errorf("the words, whose order matters, have no numbers but %s", style)
		}
		eval[bool](st, `(document.querySelector('#door-sheet').scrollIntoView(), true)`)
	}},
}

func doorAt(name, fragment, there string) screen {
	return screen{name, func(st *stage) {
		st.t.Helper()
		eval[string](st, `location.hash = `+quote(fragment))
		st.must(st.Wait("the "+name, there))
	}}
}

// TestDoorLooks: each screen of the door in each theme and both languages, on
// a small phone and on a desk. Nothing sticks out, all can be read and hit.
func TestDoorLooks(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]PageOptions{"phone": {Width: 360, Height: 640, Mobile: true}, "desk": desk} {
		for lang, themes := range map[string][]string{"en": {"day", "night", "red"}, "de": {"night"}} {
			t.Run(name+"-"+lang, func(t *testing.T) {
				st := newStage(t, o)
				st.must(st.Show(st.s.URL()+"/c/?lang="+lang, "the door", `document.querySelector('#door-code')`))
				eval[bool](st, doorAnswers)
				for _, s := range doorScreens {
					s.show(st)
					for _, theme := range themes {
						st.must(st.SetTheme(theme))
						doorSound(st, s.name+" "+theme, theme)
					}
				}
			})
		}
	}
}

// doorSound looks at the screen that is shown.
func doorSound(st *stage, where, theme string) {
	st.t.Helper()
	keep(st, where)
	for _, low := range eval[[]string](st, contrasts) {
		st.t.Errorf("%s: %s", where, low)
	}
	for _, wrong := range eval[[]string](st, `[...document.querySelectorAll('a, button, input, textarea, li, h1, h2, p, label')].filter((e) => e.getClientRects().length).flatMap((e) => {
		const r = (e.matches('input[type=checkbox]') ? e.closest('label') : e).getBoundingClientRect();
		const wrong = r.left < 0 || r.right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 2 && e.matches('a, button, label, li') ? ['sticks out: '] : [];
		return wrong.concat(e.matches('a, button, input, textarea') && (r.height < 55.5 || r.width < 55.5) ? ['too small for a thumb: '] : []).map((w) => w + e.outerHTML.slice(0, 100));
	})`) {
		st.t.Errorf("%s: %s", where, wrong)
	}
	if theme == "red" {
		data, err := st.Screenshot()
		st.must(err)
		if foreign, red := redOnly(st.t, data); foreign > 0 || red < 500 {
			st.t.Errorf("%s: %d pixels are not red, %d are", where, foreign, red)
		}
	}
}

// TestP04DoorByKeyboard: a password is set with a code without a pointer, and
// what has the keyboard is seen to have it.
func TestP04DoorByKeyboard(t *testing.T) {
	st := newStage(t, PageOptions{Width: 360, Height: 640, Mobile: true})
	st.must(st.Show(st.s.URL()+"/c/?lang=en", "the door", `document.activeElement.id === 'door-code'`)) // it waits for the code
	eval[bool](st, doorAnswers)
	st.must(st.Press("7KQ2M-X4TRB" + kb.Enter))
	st.must(st.Wait("the password", `document.querySelector('#door-newkey')`))
	tabTo(st, "#door-agree")
	st.must(st.Press(" "))
	tabTo(st, "#door-password")
	st.must(st.Press(password))
	tabTo(st, "#door-again")
	st.must(st.Press(password))
	eval[bool](st, `(window.fetch = async (path, o) => (window.sent = path + ' ' + o.body, new Response('{"error":{"code":"bad_code"}}', { status: 401 })), true)`)
	st.must(st.Press(kb.Enter))
	st.must(st.Wait("the answer", `document.querySelector('.error .icon')`))
	sent := eval[string](st, `window.sent`)
	for _, part := range []string{"/v1/codes/redeem ", `"new_key":true`, password} {
		if !strings.Contains(sent, part) {
			t.Errorf("what was sent has no %s", part)
		}
	}
}
