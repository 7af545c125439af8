package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser/fakeapi"
	"outrider/node/web"
)

// corpus are strings that peers could send to make the page do or show what it
// should not. Whatever runs sets window.__owned, opens a dialog, or asks
// another origin.
var corpus = []string{
	`<script>window.__owned = 1</script>`,
	`</script><script>window.__owned = 2</script>`,
	`<img src=x onerror="window.__owned = 3">`,
	`"><img src=x onerror=alert(4)>`,
	`'><svg/onload=alert(5)>`,
	`<svg xmlns="http://www.w3.org/2000/svg"><script>window.__owned = 6</script></svg>`,
	`<svg><animate onbegin=alert(7) attributeName=x dur=1s>`,
	`<math><mtext></mtext><mglyph><style><img src=x onerror=alert(8)></style></math>`,
	`<iframe srcdoc="<script>parent.__owned = 9</script>"></iframe>`,
	`<iframe src="javascript:alert(10)">`,
	`javascript:window.__owned=11`,
	"java\tscript:alert(12)",
	`<a href="javascript:alert(13)">look</a>`,
	`data:text/html,<script>alert(14)</script>`,
	`<link rel=stylesheet href=https://elsewhere.example/x.css>`,
	`<style>@import 'https://elsewhere.example/x.css'; * { display: none }</style>`,
	`<img src="https://elsewhere.example/pixel.png">`,
	`<meta http-equiv=refresh content="0;url=https://elsewhere.example/">`,
	`<base href="https://elsewhere.example/">`,
	`<form action="https://elsewhere.example/"><input name=password></form>`,
	`<body onload=alert(15)>`, `<details open ontoggle=alert(16)>`, `<input autofocus onfocus=alert(17)>`,
	`<video><source onerror=alert(18)></video>`, `<object data="data:text/html,<script>alert(19)</script>">`,
	`{{constructor.constructor('window.__owned=20')()}}`, `${window.__owned = 21}`, `#{7*7}`, `<%= 7*7 %>`, `{{7*7}}`, `{name}`, `{n}`, `%s%n%x`,
	"`; window.__owned = 22; `", `'; window.__owned = 23; '`, `\u003cscript\u003ewindow.__owned=24\u003c/script\u003e`, `&lt;script&gt;alert(25)&lt;/script&gt;`,
	"photo\u202egnp.exe", "\u202d\u202eevil\u202c", "\u2067isolate never closed", "zero\u200bwidth\u200d\u2060\ufeff", "soft\u00adhyphen",
	"\x1b[31mred\x1b[0m\x07", "null\x00byte", "\u009b31m", "line\nbreak\r\nand\ttab", "\u2028\u2029",
	"\u0430dmin", "\u0410lice", "аррӏе", "Ａｌｉｃｅ", "Z̸̢̛͉a̶l̷g̵o̴" + strings.Repeat("\u0337", 300),
	strings.Repeat("W", 3000), strings.Repeat("long words ", 500), strings.Repeat("\U0001f468\u200d\U0001f469\u200d\U0001f467", 50),
	"__proto__", "constructor", "toString", "hasOwnProperty", "undefined", "null", "NaN", "true", "0", "-1", "[object Object]", "", " ", ".",
	"../../../etc/passwd", `..\..\windows`, "/dev/null", "CON", "file:///etc/passwd", "\\\\server\\share", "https://elsewhere.example/", "//elsewhere.example/",
	"'; DROP TABLE messages; --", "$(reboot)", "`reboot`", "| reboot", "العربية مع English وأرقام 123", "שלום <b>world</b>",
	"\U000e0041\U000e0042tags", "\ufff9anno\ufffatation\ufffb", "\ud7ff\uffff\U0010ffff", "﷽﷽﷽﷽", "🏳️\u200d🌈",
}

// integrity is the JavaScript that lists what may not be in the document,
// whatever peers have sent.
const integrity = `(() => {
	const wrong = [];
	const tags = new Set('HTML HEAD META TITLE SCRIPT LINK BODY DIV NOSCRIPT A HEADER MAIN NAV SECTION ARTICLE FOOTER FORM FIELDSET LEGEND LABEL INPUT TEXTAREA BUTTON H1 H2 H3 P UL OL LI DL DT DD SPAN BDI CODE KBD TIME PROGRESS IMG DIALOG BLOCKQUOTE FIGURE FIGCAPTION DETAILS SUMMARY svg path g circle rect line text'.split(' '));
	const attributes = new Set('class id type role hidden href src rel content name charset lang dir title value max min rows placeholder tabindex autocomplete autocapitalize autocorrect spellcheck maxlength enterkeyhint for checked disabled multiple open download alt datetime novalidate required readonly inert d x y x1 y1 x2 y2 cx cy r rx width height viewBox preserveAspectRatio focusable text-anchor opacity transform inputmode http-equiv'.split(' '));
	for (const e of document.querySelectorAll('*')) {
		if (!tags.has(e.tagName)) wrong.push('element ' + e.tagName);
		for (const a of e.attributes) {
			if (!attributes.has(a.name) && !a.name.startsWith('aria-') && !a.name.startsWith('data-')) wrong.push('attribute ' + a.name + ' of ' + e.tagName);
			if (['href', 'src'].includes(a.name) && !/^(#|\/(?!\/)|blob:)/.test(a.value)) wrong.push(a.name + '=' + a.value);
		}
		if (e.tagName === 'SCRIPT' && (e.parentElement !== document.head || e.textContent)) wrong.push('a script that is not ours');
		if (e.tagName === 'A' && e.href && new URL(e.href).origin !== location.origin) wrong.push('a link to ' + e.href);
	}
	const shown = document.documentElement.innerText;
	const hidden = shown.match(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e]/);
	if (hidden) wrong.push('a character that hides or reorders: U+' + hidden[0].charCodeAt(0).toString(16));
	const title = document.title.replace(/^\(\d+\) /, '');
	if (title !== 'Outrider') wrong.push('the title is ' + document.title);
	if (window.__owned !== undefined) wrong.push('a string of a peer was executed: ' + window.__owned);
	for (const s of document.querySelectorAll('*')) if (s.scrollWidth > s.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(s).overflowX) && s.clientWidth) wrong.push('sideways scrolling in ' + s.className);
	if (document.scrollingElement.scrollWidth > innerWidth) wrong.push('the page scrolls sideways: ' + document.scrollingElement.scrollWidth);
	return wrong;
})()`

// sound fails the test when the document holds what it may not.
func sound(st *stage, where string) {
	st.t.Helper()
	wrong := eval[[]string](st, integrity)
	slices.Sort(wrong)
	for _, w := range slices.Compact(wrong) {
		st.t.Errorf("%s: %s", where, w)
	}
}

// hostileWorld puts every string of the corpus everywhere a peer can put one.
func hostileWorld(s *fakeapi.Server) []fakeapi.Person {
	var people []fakeapi.Person
	for i, evil := range corpus {
		p := s.AddUser(evil, i%2 == 0, 1)
		people = append(people, p)
		s.Receive(p, evil, nil)
		s.Receive(p, "", func(m *fakeapi.Message) {
			m.Type, m.File = "file", &fakeapi.File{Name: evil, Size: 10, MediaType: evil, Have: 5, Total: 10}
		})
		s.Receive(p, "", func(m *fakeapi.Message) {
			m.Type, m.File = "file", &fakeapi.File{Name: evil, Size: 10, MediaType: "image/png", Have: 10, Total: 10, Complete: true}
		})
		s.Receive(p, "", func(m *fakeapi.Message) {
			m.Type, m.Location = "location", &fakeapi.Location{Lat: 46.9, Lon: 7.4, Note: evil}
		})
		m := s.Sent(p, evil, func(m *fakeapi.Message) {
			m.State, m.Reason, m.Hint = "failed", evil, evil
		})
		s.SetWhy(m.ID, fakeapi.Why{
			Summary: evil, Facts: []string{evil, evil}, Next: evil, Todo: evil,
			SummarySaid: &fakeapi.Sentence{Code: evil, Args: map[string]any{evil: evil}},
			FactsSaid: []fakeapi.Sentence{
				{Code: "keys_known", Args: map[string]any{"name": evil, "n": 2}}, {Code: "taken_by", Args: map[string]any{"nodes": []string{evil, evil}}},
			},
			NextSaid: &fakeapi.Sentence{Code: "sent", Args: map[string]any{"age_s": evil, "precedence": evil}},
		})
		s.SetUser(p.ID, func(u *fakeapi.User) {
			u.Fingerprint, u.KeyChanged, u.Frozen, u.Verified = evil, i%3 == 0, i%5 == 0, i%2 == 0
		})
	}
	heard := time.Now().UTC()
	var links []fakeapi.Link
	for i, evil := range corpus {
		links = append(links, fakeapi.Link{Node: fmt.Sprintf("node%d%s", i, evil), Name: evil, Addr: evil, Class: evil, Up: i%3 == 0, Blocked: i%3 == 1, Since: &heard, LastHeard: &heard})
	}
	s.SetLinks(links...)
	var contacts []fakeapi.Contact
	for i, evil := range corpus {
		contacts = append(contacts, fakeapi.Contact{Node: fmt.Sprintf("node%d%s", i, evil), Name: evil, Class: evil, Start: heard.Add(-time.Hour), TxBytes: -1, Times: 1})
	}
	s.SetContacts(contacts...)
	return people
}

func TestHostileStringsExecuteNothing(t *testing.T) {
	for name, o := range map[string]PageOptions{"phone": {Width: 360, Height: 740, Mobile: true}, "desk": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var people []fakeapi.Person
			st := in(t, o, func(s *fakeapi.Server) { people = hostileWorld(s) })
			st.must(st.Wait("the list", fmt.Sprintf(`document.querySelectorAll('#chat-list a').length === %d`, len(corpus))))
			sound(st, "chats")
			for i, p := range people {
				st.must(st.Go("#/chats/u/" + p.ID))
				st.must(st.Wait("the messages", `document.querySelector('#chat')?.dataset.peer === `+quote(p.ID)+` && document.querySelectorAll('#messages .message').length === 5`))
				where := fmt.Sprintf("chat %d %.20q", i, corpus[i])
				sound(st, where)
				if i%8 != 0 {
					continue
				}
				st.must(st.Click(".message.own .state-button"))
				st.must(st.Wait("the explanation", `document.querySelector('dialog #why')`))
				sound(st, where+" details")
				st.must(st.Press("\u001b"))
				st.must(st.Wait("no dialog", `!document.querySelector('dialog')`))
			}
			for _, screen := range []string{"people", "files", "mesh", "status", "settings"} {
				st.must(st.Go("#/" + screen))
				st.must(st.Wait(screen, `document.querySelector('.page.`+screen+` .card, .page.`+screen+` .row')`))
				sound(st, screen)
				if screen == "mesh" {
					st.must(st.Click(".contact-list summary"))
					st.must(st.Wait("the contacts", `document.querySelectorAll('.contact-list[open] .contact-row').length > 20`))
					sound(st, "contacts")
				}
			}
			st.must(st.Go("#/people"))
			for i := 0; i < len(corpus); i += 8 {
				st.must(st.Click(fmt.Sprintf(`.person:nth-child(%d) [data-focus="key"]`, i+1)))
				st.must(st.Wait("the key", `document.querySelector('dialog .fingerprint')`))
				sound(st, fmt.Sprintf("key %d", i))
				st.must(st.Press("\u001b"))
				st.must(st.Wait("no dialog", `!document.querySelector('dialog')`))
			}
			st.must(st.Click("#failures-bar"))
			for range corpus {
				sound(st, "failures")
				st.must(st.ClickText("Next"))
			}
		})
	}
}

// The strings are shown as the text they are: the test above looks at
// something, and nothing is silently dropped.
func TestHostileStringsAreShownAsText(t *testing.T) {
	st := in(t, PageOptions{}, nil)
	var from fakeapi.Person
	for i, evil := range corpus {
		if i%30 == 0 {
			from = st.s.AddUser(fmt.Sprintf("Sender %d", i), true, 1)
		}
		st.s.Receive(from, evil, nil)
	}
	for i, evil := range corpus {
		if i%30 == 0 {
			st.must(st.OpenChat(fmt.Sprintf("Sender %d", i)))
		}
		if strings.ContainsAny(evil, "\x00\x07\x1b\u009b\u202a\u202b\u202c\u202d\u202e\r") || strings.TrimSpace(evil) == "" || len(evil) > 1000 || strings.Contains(evil, "\u0337\u0337") {
			continue // shown by the number of their characters, or folded; modules_test.go
		}
		st.must(st.WaitMessage(evil))
	}
}

// A message may be typed, sent and searched for, whatever it says; a name may
// be anything in the sentences around it.
func TestHostileStringsTypedHere(t *testing.T) {
	st, _ := withCharlie(t, PageOptions{})
	for _, evil := range []string{corpus[0], corpus[2], corpus[10], corpus[37], "{{7*7}}", "العربية"} {
		st.must(st.Fill("#compose", evil))
		st.must(st.Focus("#compose"))
		st.must(st.Press("\r"))
		until(t, "the message", func() bool { ms := st.s.Messages(); return len(ms) > 0 && *ms[len(ms)-1].Text == evil })
		st.must(st.Fill("#search", evil))
		sound(st, evil)
		st.must(st.Fill("#search", ""))
	}
}

// What the node itself says is not trusted either.
func TestHostileNodeExecutesNothing(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{corpus[0], corpus[2], corpus[10], corpus[37], "__proto__", strings.Repeat("W", 3000)} {
		st := newStage(t, PageOptions{Width: 360, Height: 740, Mobile: true})
		st.s.Rename(evil, password)
		st.s.SetName(evil)
		st.s.SetVersion(evil)
		c := st.s.AddUser("Charlie", true, 1)
		st.s.Receive(c, "odd", func(m *fakeapi.Message) {
			m.State, m.Precedence, m.Type, m.ID, m.ReasonCode = evil, evil, evil, evil, evil
		})
		st.s.Receive(c, "ends", func(m *fakeapi.Message) { m.State, m.Precedence = evil, evil })
		st.must(st.Open(st.s.URL()))
		sound(st, "login")
		st.s.Fail("POST /v1/session", 500, evil, evil, evil)
		if err := st.Login(evil, password); err == nil {
			t.Error("no refusal")
		}
		sound(st, "refused login")
		st.s.Fail("POST /v1/session", 0, "", "", "")
		st.must(st.Login(evil, password))
		st.must(st.OpenChat("Charlie"))
		st.must(st.WaitMessage("ends"))
		sound(st, "chat")
		st.s.Fail("POST /v1/messages", 400, evil, evil, evil)
		st.must(st.Fill("#compose", "hello"))
		st.must(st.Focus("#compose"))
		st.must(st.Press("\r"))
		st.must(st.Wait("the error", `document.querySelector('#compose-error').textContent`))
		sound(st, "refused message")
		for _, screen := range []string{"people", "files", "mesh", "status", "settings"} {
			st.must(st.Go("#/" + screen))
			sound(st, screen)
		}
	}
}

// Addresses that others hand out do no more than show a screen.
func TestHostileAddresses(t *testing.T) {
	t.Parallel()
	st := in(t, PageOptions{}, func(s *fakeapi.Server) { s.AddUser("Charlie", true, 1) })
	for _, evil := range corpus {
		for _, form := range []string{"#", "#/", "#/chats/c/", "#/chats/u/"} {
			st.must(st.Go(form + evil))
			sound(st, form+evil)
		}
	}
	st.must(st.Open(st.s.URL() + `/?lang=<script>alert(1)</script>`))
	sound(st, "language")
}

// The record of problems must notice what these tests look for.
func TestRecordNoticesWhatItIsFor(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"inline handler":   {`document.body.insertAdjacentHTML('beforeend', '<img src="/nothing.png" onerror="window.__owned = 1">')`, "content policy: script-src"},
		"inline style":     {`document.body.insertAdjacentHTML('beforeend', '<p style="color: red">x</p>')`, "content policy: style-src"},
		"inline script":    {`document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.__owned = 1' }))`, "content policy: script-src"},
		"other origin":     {`fetch('http://127.0.0.2:9/x').catch(() => {})`, "http://127.0.0.2:9/x"},
		"dialog":           {`setTimeout(() => alert('hello'), 0)`, "dialog: hello"},
		"exception":        {`setTimeout(() => { throw new Error('broken') }, 0)`, "broken"},
		"rejected promise": {`void Promise.reject(new Error('left alone'))`, "left alone"},
		"console error":    {`console.error('something', 1)`, "console error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if errChromium != nil {
				t.Fatal(errChromium)
			}
			s := fakeapi.New(web.Handler(), account, password)
			defer s.Close()
			p, err := chromium.Page(PageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := p.Open(s.URL()); err != nil {
				t.Fatal(err)
			}
			if found := p.Problems(); len(found) != 0 {
				t.Fatalf("problems of a good page: %v", found)
			}
			if _, err := Eval[bool](p, `(() => { `+c.script+`; return true; })()`); err != nil {
				t.Fatal(err)
			}
			until(t, "the record of "+name, func() bool {
				return slices.ContainsFunc(p.Problems(), func(s string) bool { return strings.Contains(s, c.want) })
			})
			if owned, err := Eval[bool](p, `window.__owned !== undefined`); err != nil || owned {
				t.Errorf("the content policy let it run (%v)", err)
			}
		})
	}
	st := open(t)
	for _, script := range []string{
		`document.body.append(document.createElement('marquee'))`, `document.body.setAttribute('ping', '1')`, `window.__owned = 1`,
		`document.body.append('\u202e')`, `document.body.append(Object.assign(document.createElement('a'), { href: 'https://elsewhere.example/' }))`,
	} {
		before := len(eval[[]string](st, integrity))
		eval[bool](st, `(() => { `+script+`; return true; })()`)
		if after := eval[[]string](st, integrity); len(after) <= before {
			t.Errorf("%s was not noticed: %v", script, after)
		}
	}
	eval[bool](st, `delete window.__owned && (window.__violations = []) && true`)
}
