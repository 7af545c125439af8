package browser

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser/fakeapi"
)

// A screen is a state of the page worth looking at.
type screen struct {
	name string
	show func(st *stage)
}

func whole(name string) screen {
	return screen{name, func(st *stage) {
		st.t.Helper()
		st.must(st.Go("#/" + name))
		st.must(st.Wait(name, `document.querySelector('.page.`+name+` .card, .page.`+name+` .row')`))
	}}
}

// screens walks through all screens and dialogs, after login, with fillWorld.
var screens = []screen{
	{"chats", func(st *stage) {
		st.must(st.Go("#/chats"))
		st.must(st.Wait("the list", `document.querySelectorAll('#chat-list a').length > 3`))
	}},
	{"chat", func(st *stage) {
		st.must(st.OpenChat("Charlie"))
		st.must(st.Wait("the messages", `document.querySelectorAll('#messages .message').length > 5`))
	}},
	{"options", func(st *stage) { st.must(st.Click(`[aria-controls="compose-options"]`)) }},
	{"details", func(st *stage) {
		st.must(st.Click(`[aria-controls="compose-options"]`))
		st.must(st.Click(".message.own:last-child .state-button"))
		st.must(st.Wait("the explanation", `document.querySelector('#why')`))
	}},
	{"recall", func(st *stage) { st.must(st.Click(`[data-focus="recall"]`)) }},
	{"failures", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Click("#failures-bar"))
	}},
	{"position", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Click(".compose-tools button:nth-child(2)"))
		st.must(st.Fill("#position-input", "32T LT 81852 00565"))
	}},
	{"help", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Go("#/chats"))
		st.must(st.Wait("no dialog", `!document.querySelector('dialog')`))
		st.must(st.Press("?"))
		st.must(st.Wait("the help", `document.querySelector('dialog .keys')`))
	}},
	{"search", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Fill("#search", "nobody"))
	}},
	whole("people"),
	{"key", func(st *stage) {
		st.must(st.Click(`.person [data-focus="key"]`))
		st.must(st.Wait("the fingerprint", `document.querySelector('dialog .fingerprint')`))
	}},
	{"changed", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.OpenChat("Tamsin Reyes"))
		st.must(st.Click(`.key-notice .button`))
		st.must(st.Wait("two fingerprints", `document.querySelectorAll('dialog .fingerprint').length === 2`))
	}},
	{"notice", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Wait("no dialog", `!document.querySelector('dialog')`))
	}},
	{"map", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Go("#/map"))
		st.must(st.Wait("the map", `document.querySelectorAll('#map .place-mark').length > 4 && document.querySelectorAll('#map-list .place-card').length > 3`))
	}},
	{"map-way", func(st *stage) {
		st.must(st.Click(`#map-list .place-card [data-focus="show"]`))
		st.must(st.Wait("the way", `document.querySelector('#map .way-line')`))
	}},
	{"map-share", func(st *stage) {
		st.must(st.Click("#share-live"))
		st.must(st.Click(`dialog input[name="share-source"][value="entered"]`))
		st.must(st.Fill("#map-position", "32T LT 81852 00565"))
	}},
	{"map-done", func(st *stage) {
		st.must(st.Press("\u001b"))
		st.must(st.Wait("no dialog", `!document.querySelector('dialog')`))
	}},
	whole("files"),
	{"mesh", func(st *stage) {
		whole("mesh").show(st)
		st.must(st.Wait("the picture and the contacts", `document.querySelector('.mesh-svg') && document.querySelector('.mesh .history')`))
	}},
	{"contacts", func(st *stage) {
		st.must(st.Click(".contact-list summary"))
		st.must(st.Wait("the contacts", `document.querySelectorAll('.contact-list[open] .contact-row').length === 7`))
		eval[bool](st, `(document.querySelector('.contact-list').scrollIntoView({ block: 'nearest' }), true)`)
	}},
	whole("status"), whole("settings"),
}

// emptyScreens are the same with nothing and nobody there.
var emptyScreens = []string{"chats", "people", "map", "files", "mesh", "status", "settings"}

// keep writes what is shown to a folder, for people who want to look at it: the
// tests find what sticks out, not what is ugly. SHOTS names the folder.
func keep(st *stage, where string) {
	st.t.Helper()
	dir := os.Getenv("SHOTS")
	if dir == "" {
		return
	}
	name := strings.NewReplacer("/", "-", " ", "-", "#", "").Replace(st.t.Name() + "-" + where)
	st.must(st.SaveScreenshot(filepath.Join(dir, name+".png")))
}

// eachScreen calls look on the login and on every screen, on a phone and on a
// desk.
func eachScreen(t *testing.T, lang string, o PageOptions, look func(st *stage, where string)) {
	t.Helper()
	st := newStage(t, o)
	fillWorld(st.s)
	looked := look
	look = func(st *stage, where string) {
		st.t.Helper()
		looked(st, where)
		keep(st, where)
	}
	st.must(st.Open(st.s.URL() + "/?lang=" + lang))
	look(st, "login")
	st.must(st.Login(account, password))
	for _, s := range screens {
		s.show(st)
		look(st, s.name)
	}
	fresh := newStage(t, o)
	fresh.must(fresh.Open(fresh.s.URL() + "/?lang=" + lang))
	fresh.must(fresh.Login(account, password))
	for _, s := range emptyScreens {
		fresh.must(fresh.Go("#/" + s))
		fresh.must(fresh.Wait("an empty "+s, `(() => { const e = document.querySelector(location.hash === '#/chats' ? '.list-pane' : '.main'); return e.querySelector('.empty-state, .card'); })()`))
		look(fresh, "empty-"+s)
	}
}

var (
	phone = PageOptions{Width: 360, Height: 740, Mobile: true}
	desk  = PageOptions{Width: 1280, Height: 800}
)

func TestNoSidewaysScrolling(t *testing.T) {
	for name, o := range map[string]PageOptions{"phone": phone, "desk": desk, "tablet": {Width: 800, Height: 600}} {
		for _, lang := range []string{"en", "de"} {
			t.Run(name+"-"+lang, func(t *testing.T) {
				t.Parallel()
				eachScreen(t, lang, o, func(st *stage, where string) {
					sound(st, where)
					for _, cut := range eval[[]string](st, `[...document.querySelectorAll('button, .nav-word, h1, h2, legend, label, .state')].filter((e) => e.getClientRects().length && !e.closest('.vh, .row .state, [hidden]') && (e.scrollWidth > e.clientWidth + 2 || e.getBoundingClientRect().right > innerWidth + 1) && getComputedStyle(e).textOverflow !== 'ellipsis').map((e) => e.className + ': ' + e.textContent)`) {
						st.t.Errorf("%s: cut off: %s", where, cut)
					}
				})
			})
		}
	}
}

// Targets are at least 56 x 56 px. The state button of a message is reached
// through its whole bubble, a hidden radio button through its face.
func TestTouchTargets(t *testing.T) {
	t.Parallel()
	eachScreen(t, "de", phone, func(st *stage, where string) {
		for _, small := range eval[[]string](st, `(() => {
			const root = document.querySelector('dialog[open]') ?? document;
			return [...root.querySelectorAll('a, button, input, textarea, [role=button]')].filter((e) => e.getClientRects().length && !e.closest('.vh, .skip') && !e.matches('.vh')).map((e) => {
				const target = e.matches('.state-button') ? e.closest('.bubble') : e.matches('input[type=radio]') ? e.nextElementSibling : e.matches('input[type=checkbox]') ? e.closest('label') : e;
				const r = target.getBoundingClientRect();
				return r.width < 55.5 || r.height < 55.5 ? Math.round(r.width) + 'x' + Math.round(r.height) + ' ' + e.outerHTML.slice(0, 120) : '';
			}).filter(Boolean);
		})()`) {
			st.t.Errorf("%s: too small for a thumb: %s", where, small)
		}
	})
}

// Every text on the screen against what is painted behind it: WCAG 2.2 AA,
// 1.4.3 (4.5:1, large text 3:1), and 1.4.11 for edges of fields and icons (3:1).
const contrasts = `(() => {
	const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m[3] ?? 1 }; };
	const lin = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
	const lum = (c) => 0.2126 * lin(c.r) + 0.7152 * lin(c.g) + 0.0722 * lin(c.b);
	const over = (top, under) => ({ r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a), b: top.b * top.a + under.b * (1 - top.a), a: 1 });
	const behind = (e) => {
		const layers = [];
		for (let x = e; x; x = x.parentElement) {
			layers.push(parse(getComputedStyle(x).backgroundColor));
			if (layers.at(-1).a === 1) break;
		}
		return layers.reverse().reduce((under, top) => over(top, under), { r: 0, g: 0, b: 0, a: 1 });
	};
	const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
	const root = document.querySelector('dialog[open]') ?? document.body;
	const wrong = [];
	let seen = 0;
	for (const e of root.querySelectorAll('*')) {
		if (!e.getClientRects().length || e.closest('.vh')) continue;
		const s = getComputedStyle(e);
		const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
		if (text || e.matches('input:not([type=radio]):not([type=checkbox]), textarea')) {
			const colour = parse(e instanceof SVGElement ? s.fill : s.color);
			const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && Number(s.fontWeight) >= 700);
			const r = ratio(over(colour, behind(e)), behind(e));
			seen++;
			if (r < (large ? 3 : 4.5) - 0.005) wrong.push(r.toFixed(2) + ' ' + e.tagName + '.' + (e.className.baseVal ?? e.className) + ' ' + e.textContent.trim().slice(0, 40));
		}
		if (e.matches('svg.icon')) {
			const r = ratio(parse(s.color), behind(e));
			if (r < 3) wrong.push(r.toFixed(2) + ' icon in ' + e.parentElement.className);
		}
		if (e.matches('input:not([type=radio]):not([type=checkbox]), textarea, .button:not(.quiet), .choice-face')) {
			const r = Math.max(ratio(parse(s.borderTopColor), behind(e.parentElement)), ratio(behind(e), behind(e.parentElement)));
			if (r < 3) wrong.push(r.toFixed(2) + ' edge of ' + e.tagName + '.' + e.className);
		}
	}
	if (seen < 3) wrong.push('only ' + seen + ' texts were looked at');
	return wrong;
})()`

func TestContrasts(t *testing.T) {
	for _, theme := range []string{"day", "night", "red"} {
		for name, o := range map[string]PageOptions{"phone": phone, "desk": desk} {
			t.Run(theme+"-"+name, func(t *testing.T) {
				t.Parallel()
				eachScreen(t, "en", o, func(st *stage, where string) {
					st.must(st.SetTheme(theme))
					for _, low := range eval[[]string](st, contrasts) {
						st.t.Errorf("%s: %s", where, low)
					}
				})
			})
		}
	}
}

// redOnly counts the pixels of a PNG that hold more than a trace of green or
// blue, and the red ones.
func redOnly(t *testing.T, data []byte) (foreign, red int) {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := img.At(x, y).RGBA()
			if g>>8 > 24 || bl>>8 > 24 {
				foreign++
			}
			if r>>8 > 100 {
				red++
			}
		}
	}
	return foreign, red
}

func TestRedLightShowsRedOnly(t *testing.T) {
	for name, o := range map[string]PageOptions{"phone": phone, "desk": desk} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachScreen(t, "en", o, func(st *stage, where string) {
				st.must(st.SetTheme("red"))
				data, err := st.Screenshot()
				st.must(err)
				foreign, red := redOnly(t, data)
				if foreign > 0 {
					t.Errorf("%s: %d pixels are not red", where, foreign)
				}
				if red < 500 {
					t.Errorf("%s: only %d pixels are red: nothing can be read", where, red)
				}
			})
		})
	}
}

// A picture and an emoji bring colours of their own; red light takes them out.
func TestRedLightHoldsForPicturesAndEmoji(t *testing.T) {
	st, c := withCharlie(t, phone)
	st.must(st.SetTheme("red"))
	var white bytes.Buffer
	if err := png.Encode(&white, whiteImage(200)); err != nil {
		t.Fatal(err)
	}
	st.s.Receive(c, "👍🏽 🟢🔵⬜", nil)
	m := st.s.Receive(c, "", func(m *fakeapi.Message) {
		n := int64(white.Len())
		m.Type, m.File = "file", &fakeapi.File{Name: "snow.png", Size: n, MediaType: "image/png", Have: n, Total: n, Complete: true}
	})
	st.s.SetContent(m.ID, white.Bytes())
	st.must(st.ClickText("Preview"))
	st.must(st.Wait("the picture", `document.querySelector('.message img')?.naturalWidth === 200`))
	data, err := st.Screenshot()
	st.must(err)
	foreign, red := redOnly(t, data)
	if foreign > 0 || red < 10_000 {
		t.Errorf("%d pixels are not red, %d are", foreign, red)
	}
}

// No frame of another theme is painted while the page loads, however slowly
// its style sheets come.
func TestNoWhiteFrameOnLoad(t *testing.T) {
	st := in(t, PageOptions{}, func(s *fakeapi.Server) { fillWorld(s) })
	st.must(st.SetTheme("red"))
	st.must(st.OpenChat("Charlie"))
	st.must(st.Wait("the messages", `document.querySelectorAll('#messages .message').length > 5`))
	st.s.SlowStyles(600 * time.Millisecond)
	frames, err := st.Record(func() error {
		if _, err := Eval[bool](st.Page, `document.body.dataset.old = '1', location.reload(), true`); err != nil {
			return err
		}
		if err := st.Wait("the page after a reload", `document.body && !document.body.dataset.old && document.querySelector('#app:not([hidden]) #messages .message')`); err != nil {
			return err
		}
		before := len(st.Frames())
		if err := st.Fill("#search", "nobody"); err != nil { // is painted after all of the load
			return err
		}
		until(t, "a frame of a later change", func() bool { return len(st.Frames()) > before })
		return nil
	})
	st.must(err)
	if len(frames) < 2 {
		t.Fatalf("only %d frames were recorded", len(frames))
	}
	for i, frame := range frames {
		if foreign, _ := redOnly(t, frame); foreign > 0 {
			t.Errorf("frame %d of %d has %d pixels that are not red", i, len(frames), foreign)
		}
	}
}

// The positive control of the above: a change of theme is seen in the frames.
func TestRecordingSeesAFrameOfAnotherTheme(t *testing.T) {
	st := in(t, PageOptions{Light: true}, nil)
	st.must(st.SetTheme("red"))
	frames, err := st.Record(func() error {
		if err := st.SetTheme("day"); err != nil {
			return err
		}
		if _, err := st.Screenshot(); err != nil { // makes the window paint
			return err
		}
		looked := 0
		until(t, "a frame of the other theme", func() bool {
			fresh := st.Frames()[looked:]
			looked += len(fresh)
			return slices.ContainsFunc(fresh, func(f []byte) bool {
				foreign, _ := redOnly(t, f)
				return foreign > 10_000
			})
		})
		return nil
	})
	st.must(err)
	if len(frames) == 0 {
		t.Error("what was seen is not kept")
	}
}

func TestThemeFollowsDeviceUntilChosen(t *testing.T) {
	for name, o := range map[string]PageOptions{"night": {}, "day": {Light: true}} {
		st := newStage(t, o)
		st.must(st.Open(st.s.URL()))
		if got := eval[string](st, `document.documentElement.dataset.theme`); got != name {
			t.Errorf("theme %s on a device that prefers %s", got, name)
		}
		if n := eval[int](st, `localStorage.length`); n != 0 {
			t.Errorf("%d things are stored though nothing was chosen", n)
		}
	}
	st := in(t, PageOptions{}, nil)
	st.must(st.Go("#/settings"))
	st.must(st.ClickText("Red light"))
	st.must(st.Wait("red light", `document.documentElement.dataset.theme === 'red'`))
	st.must(st.Open(st.s.URL()))
	if got := eval[string](st, `document.documentElement.dataset.theme`); got != "red" {
		t.Errorf("theme %s after a reload", got)
	}
	st.must(st.Go("#/settings"))
	st.must(st.ClickText("As the device"))
	st.must(st.Wait("the device's theme", `document.documentElement.dataset.theme === 'night' && localStorage.length === 0`))
}

func TestGermanPage(t *testing.T) {
	st := newStage(t, PageOptions{Lang: "de-DE"})
	fillWorld(st.s)
	st.must(st.Open(st.s.URL()))
	st.must(st.WaitText("Ihr Passwort öffnet Ihre Schlüssel"))
	if err := st.Login(account, "falsch"); err == nil || !strings.Contains(err.Error(), "Name oder Passwort ist falsch") {
		t.Errorf("error %v", err)
	}
	st.must(st.Login(account, password))
	st.must(st.WaitText("2 Nachrichten hängen fest"))
	st.must(st.WaitText("In Kontakt mit 2 Knoten"))
	st.must(st.OpenChat("Charlie"))
	st.must(st.WaitText("unterwegs"))
	st.must(st.Go("#/mesh"))
	st.must(st.Wait("seit wann", upFor47(`seit `, ` verbunden`)))
	st.must(st.WaitText("6,1 MB"))
	st.must(st.Go("#/settings"))
	st.must(st.ClickText("English"))
	st.must(st.WaitText("Appearance"))
	st.must(st.WaitText("2 messages are stuck"))
	if got := eval[string](st, `document.documentElement.lang + location.search`); got != "en?lang=en" {
		t.Errorf("language %s", got)
	}
	if n := eval[int](st, `document.querySelectorAll('#shell').length`); n != 1 {
		t.Errorf("%d frames after the change of language", n)
	}
}

func TestReducedMotion(t *testing.T) {
	for still, want := range map[bool]bool{true: false, false: true} {
		st := newStage(t, PageOptions{StillMotion: still})
		fillWorld(st.s)
		st.must(st.Open(st.s.URL()))
		st.must(st.Login(account, password))
		st.must(st.Wait("states", `document.querySelector('.state .icon')`))
		moves := eval[bool](st, `[...document.querySelectorAll('*')].some((e) => { const s = getComputedStyle(e); return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0; })`)
		if moves != want {
			t.Errorf("reduced motion %v: something moves: %v", still, moves)
		}
	}
}

// The first load of the page, all of it: at most 100 kB over the wire.
func TestFirstLoadBytes(t *testing.T) {
	const limit = 100_000
	st := newStage(t, PageOptions{})
	st.must(st.Open(st.s.URL()))
	st.must(st.Wait("all modules", `document.readyState === 'complete' && document.querySelector('#login-submit')`))
	var total int64
	var kinds []string
	until(t, "the sizes", func() bool {
		total, kinds = 0, nil
		for _, r := range st.Requests() {
			if strings.Contains(r.URL, "/v1/") {
				continue
			}
			if r.Bytes == 0 {
				return false
			}
			total += r.Bytes
			kinds = append(kinds, fmt.Sprintf("%s %d", r.URL[strings.LastIndex(r.URL, "/"):], r.Bytes))
		}
		return total > 0
	})
	t.Logf("first load: %d bytes in %d requests", total, len(kinds))
	if total > limit {
		t.Errorf("first load takes %d bytes, more than %d: %v", total, limit, kinds)
	}
	before := len(st.Requests())
	st.must(st.Login(account, password))
	for _, name := range []string{"people", "files", "mesh", "status", "settings"} {
		st.must(st.Go("#/" + name))
	}
	for _, r := range st.Requests()[before:] {
		icon := strings.HasSuffix(r.URL, "/icon.svg") // for the tab; the browser takes it when it has time
		if !strings.Contains(r.URL, "/v1/") && !strings.HasPrefix(r.URL, "blob:") && !icon {
			t.Errorf("the screens fetch %s later", r.URL)
		}
	}
}
