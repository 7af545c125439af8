package browser

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser/fakeapi"
)

// onMap is a stage that shows the map.
func onMap(t *testing.T, o PageOptions, world func(*fakeapi.Server)) *stage {
	t.Helper()
	st := in(t, o, world)
	st.must(st.Go("#/map"))
	st.must(st.Wait("the map", `document.querySelector('#map svg') && document.querySelector('.own-card')`))
	return st
}

// placed lets somebody's live position arrive.
func placed(s *fakeapi.Server, p fakeapi.Person, lat, lon float64, age, holds, goesOn time.Duration) *fakeapi.Message {
	return s.Receive(p, "", func(m *fakeapi.Message) {
		at := time.Now().Add(-age).UTC()
		stale, end := at.Add(holds), at.Add(goesOn)
		m.Type, m.Sent, m.Location = "location", at, &fakeapi.Location{Lat: lat, Lon: lon, Live: true, Time: &at, StaleAt: &stale, LiveUntil: &end}
	})
}

// TestL01MapShowsOthers: a live position with bearing, distance, age and MGRS
// from one's own, a newer one in its place, and what is out of date marked.
func TestL01MapShowsOthers(t *testing.T) {
	var charlie fakeapi.Person
	st := onMap(t, desk, func(s *fakeapi.Server) {
		s.SetFix(48, 11)
		charlie = s.AddUser("Charlie", true, 1)
		placed(s, charlie, 48.009, 11, 20*time.Second, 10*time.Minute, time.Hour) // 1 km north
		placed(s, s.AddUser("Dora", true, 1), 48, 11.027, time.Hour+time.Minute, 2*time.Minute, 30*time.Minute)
	})
	st.must(st.Wait("both", `document.querySelectorAll('#map-list .place-card').length === 2 && document.querySelectorAll('#map .place-mark').length === 3`))
	first := eval[string](st, plainText(`document.querySelector('#map-list .place-card')`))
	for _, want := range []string{"Charlie", "live", "1 km", "000°", "32U PU ", "until "} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in %q", want, first)
		}
	}
	if !regexp.MustCompile(`\b([2-5]\d s|[1-9] min) ago`).MatchString(first) { // the test takes its time
		t.Errorf("no age in %q", first)
	}
	second := eval[string](st, plainText(`document.querySelectorAll('#map-list .place-card')[1]`))
	if !strings.Contains(second, "ended") || !strings.Contains(second, "090°") || !strings.Contains(second, "1 h ago") {
		t.Errorf("one that has ended: %q", second)
	}
	if n := eval[int](st, `document.querySelectorAll('#map .place-mark.old').length`); n != 1 {
		t.Errorf("%d marks are faded, want 1", n)
	}
	m := st.s.Messages()[0]
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.Location.Lat = 48.018 })
	st.must(st.Wait("the newer place", plainText(`document.querySelector('#map-list .place-card')`)+`.includes('2 km')`))
}

// TestL01MapLines: the lines are where the grid says, at every zoom.
func TestL01MapLines(t *testing.T) {
	failures(open(t), `const { frame, gridLines, spacing } = `+module("map/grid.mjs")+`; const { fromMGRS, toMGRS } = `+module("lib/mgrs.mjs")+`; const wrong = [];
		for (const [lat, lon] of [[48.2, 16.37], [-33.86, 151.2], [0.001, 9], [60.4, 5.3], [86, 20], [-85, -60]]) for (const scale of [0.05, 1, 7, 60, 400]) {
			const f = frame({ lat, lon }, scale, 800, 600);
			const s = spacing(scale);
			const middle = f.place(lat, lon);
			if (Math.hypot(middle[0] - 400, middle[1] - 300) > 0.01) wrong.push('the middle is at ' + middle);
			const p = f.ground(500, 200), back = f.place(p.lat, p.lon);
			if (Math.hypot(back[0] - 500, back[1] - 200) > 0.1) wrong.push([lat, lon, scale, 'there and back', back].join(' '));
			const path = gridLines(f).flat(3).filter(Boolean).find((e) => e.getAttribute('class') === 'grid-line').getAttribute('d');
			const xs = [...path.matchAll(/M([\d.]+) 0V/g)].map((m) => Number(m[1])), ys = [...path.matchAll(/M0 ([\d.]+)H/g)].map((m) => Number(m[1]));
			if (s < 100000 && (xs.length < 1 || ys.length < 1)) wrong.push([lat, lon, scale, 'no lines'].join(' '));
			if (s >= 10 && s < 100000) for (const x of xs) for (const y of ys) { // crossings are corners of squares: a quarter inside, the reference ends in nothing but the square's digits
				const inside = f.ground(x + s / scale / 4, y - s / scale / 4);
				const ref = toMGRS(inside.lat, inside.lon, 5).split(' ');
				const quarter = (d) => { const v = Number(d) % s; return Math.abs(v - s / 4) < 2 + 2 * scale * 0.06; };
				if (!quarter(ref.at(-1)) || !quarter(ref.at(-2))) wrong.push([lat, lon, scale, 'a line that is none:', ref.join(' ')].join(' '));
			}
		}
		return wrong.slice(0, 10);`)
}

// TestL01MapZoomsAndMoves by buttons and by keys, and stays where it was put.
func TestL01MapZoomsAndMoves(t *testing.T) {
	st := onMap(t, phone, func(s *fakeapi.Server) {
		s.SetFix(48, 11)
		placed(s, s.AddUser("Charlie", true, 1), 48.05, 11.1, time.Second, time.Hour, time.Hour)
	})
	st.must(st.Wait("both", `document.querySelectorAll('#map .place-mark').length === 2`))
	const bar = `document.querySelector('#map .scale text').textContent + document.querySelector('#map .scale path').getAttribute('d')`
	look := func() string { return eval[string](st, bar+` + document.querySelector('#map .own').innerHTML`) }
	was := look()
	step := func(what string, do func() error) {
		t.Helper()
		st.must(do())
		st.must(st.Wait(what, bar+` + document.querySelector('#map .own').innerHTML !== `+asJSON(t, was)))
		was = look()
	}
	key := func(k string) func() error {
		return func() error {
			_, err := Eval[bool](st.Page, `(document.querySelector('#map').dispatchEvent(new KeyboardEvent('keydown', { key: '`+k+`', bubbles: true, cancelable: true })), true)`)
			return err
		}
	}
	start := was
	step("nearer", func() error { return st.Click("#map-nearer") })
	step("wider", func() error { return st.Click("#map-wider") })
	step("nearer by key", key("+"))
	step("left by key", key("ArrowLeft"))
	step("down by key", key("ArrowDown"))
	st.must(st.Go("#/chats"))
	st.must(st.Go("#/map"))
	st.must(st.Wait("the same view", `document.querySelector('#map .scale') && `+bar+` + document.querySelector('#map .own').innerHTML === `+asJSON(t, was)))
	step("everybody", key("0"))
	if was != start {
		t.Error("0 does not show what was shown first")
	}
	for range 40 {
		st.must(key("-")())
	}
	if d := eval[string](st, bar); strings.Contains(d, "NaN") || !strings.Contains(d, "km") {
		t.Errorf("the widest view: %s", d)
	}
}

// TestL01MapNeedsNothing: nobody shared, no receiver; typing one's own place
// brings distance and bearing.
func TestL01MapNeedsNothing(t *testing.T) {
	st := onMap(t, phone, func(*fakeapi.Server) {})
	st.must(st.Wait("what to expect", `document.querySelector('.page.map .empty-state')`))
	placed(st.s, st.s.AddUser("Charlie", true, 1), 48.009, 11, time.Second, time.Minute, time.Hour)
	st.must(st.Wait("Charlie", `document.querySelector('#map-list .place-card')`))
	if eval[bool](st, `document.querySelector('.place-way') !== null`) {
		t.Error("a distance from nowhere")
	}
	st.must(st.Click("#own-type"))
	st.must(st.Fill("#map-position", "not a place"))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("a refusal", `document.querySelector('dialog [role="alert"]').innerText.includes('neither degrees nor')`))
	st.must(st.Fill("#map-position", "48.0, 11.0"))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("the way", plainText(`document.querySelector('.place-way')`)+`.includes('1 km') && document.querySelector('#own-mgrs').innerText.startsWith('32U PU')`))
}

// TestL01MapHostile: names, notes and places as an enemy would send them.
func TestL01MapHostile(t *testing.T) {
	st := onMap(t, phone, func(s *fakeapi.Server) {
		s.SetFix(48, 11)
		for i, name := range []string{`<img src=x onerror=alert(1)>`, "\u202eevil", strings.Repeat("W", 500), "</text><script>alert(1)</script>"} {
			m := placed(s, s.AddUser(name, true, 1), 48+float64(i)/100, 11, time.Second, time.Minute, time.Hour)
			s.Update(m.ID, func(m *fakeapi.Message) { m.Location.Note = name })
		}
		for _, at := range [][2]float64{{1e300, 0}, {91, 0}, {0, 1e9}, {-90, 180}, {math.SmallestNonzeroFloat64, 0}} {
			placed(s, s.AddUser("far", true, 1), at[0], at[1], -time.Hour, time.Minute, 1e6*time.Hour)
		}
	})
	st.must(st.Wait("those that are places", `document.querySelectorAll('#map-list .place-card').length === 6`))
	st.must(st.Click(`#map-all`))
	sound(st, "map")
	for _, p := range eval[[]string](st, `[...document.querySelectorAll('#map script, #map image, #map foreignObject, .page.map img, .page.map script')].map((e) => e.outerHTML)`) {
		t.Errorf("an element of a peer's: %s", p)
	}
	if svg := eval[string](st, `document.querySelector('#map').innerHTML`); strings.Contains(svg, "NaN") || strings.Contains(svg, "Infinity") {
		t.Error("the picture has lines to nowhere")
	}
}

// TestL01ShareLiveFromPage: a live share with a typed position and with the
// receiver's, for a set time, and its end.
func TestL01ShareLiveFromPage(t *testing.T) {
	st := onMap(t, phone, func(s *fakeapi.Server) {
		s.SetFix(48, 11)
		s.AddUser("Charlie", true, 1)
		s.AddUser("Dora", true, 1)
	})
	st.must(st.Wait("the receiver", `document.querySelector('#own-mgrs')`)) // it is offered as soon as it is known
	st.must(st.Click("#share-live"))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("nobody chosen", `document.querySelector('dialog [role="alert"]').innerText.includes('Choose who')`))
	st.must(st.Click(`dialog input[name="share-to"]`))
	st.must(st.Click(`dialog input[name="share-span"][value="until"]`))
	st.must(st.Fill("#share-until", "25:00"))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("no such time", `document.querySelector('dialog [role="alert"]').innerText.includes('14:30')`))
	st.must(st.Click(`dialog input[name="share-span"][value="28800"]`))
	st.must(st.Click(`dialog input[name="share-source"][value="entered"]`))
	st.must(st.Fill("#map-position", "32T LT 81852 00565"))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("the share", `!document.querySelector('dialog') && document.querySelector('.share-row')?.innerText.includes('Charlie')`))
	if got := st.s.Shares(); len(got) != 1 || got[0].To.Name != "Charlie" || got[0].ForS != 28800 || got[0].Source != "entered" || math.Abs(got[0].Lat-46.94809) > 1e-4 {
		t.Errorf("%+v", got)
	}
	st.must(st.Click("#share-live"))
	st.must(st.Click(`dialog .choice-key:nth-child(2) input[name="share-to"]`))
	st.must(st.Click(`dialog input[name="share-span"][value="900"]`))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("two shares", `document.querySelectorAll('.share-row').length === 2`))
	if got := st.s.Shares(); len(got) != 2 || got[1].ForS != 900 || got[1].Source != "receiver" {
		t.Errorf("%+v", got)
	}
	st.must(st.Click(`.share-row button`))
	st.must(st.Wait("one share", `document.querySelectorAll('.share-row').length === 1`))
	st.must(st.Click(`.share-row button`))
	st.must(st.Wait("no share", `document.querySelector('.shares-card').innerText.includes('Nobody gets')`))
	if got := st.s.Shares(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	for words, want := range map[string]string{"14:30": "5400", "12:00": "82800", "1300": "86400", "7.5": "null", "24:00": "null", "": "null"} {
		if got := eval[string](st, called(`return String((`+module("map/share.mjs")+`).untilClock('`+words+`', new Date(2026, 1, 3, 13, 0)))`)); got != want {
			t.Errorf("until %q is %s s, want %s", words, got, want)
		}
	}
}

// TestL01ShareThisDevice: the browser's own position, told to the node while the
// share goes on; refused, it is said in words.
func TestL01ShareThisDevice(t *testing.T) {
	st := onMap(t, phone, func(s *fakeapi.Server) { s.AddUser("Charlie", true, 1) })
	st.must(st.SetPosition(&[3]float64{48.25, 11.5, 9}))
	st.must(st.Click("#share-live"))
	st.must(st.Click(`dialog input[name="share-to"]`))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("the share", `document.querySelector('.share-row')?.innerText.includes('this device')`))
	if told := st.s.Told(); len(told) == 0 || told[0] != (fakeapi.Place{Lat: 48.25, Lon: 11.5, AccuracyM: 9}) {
		t.Errorf("the node was told %+v", told)
	}
	if got := st.s.Shares(); len(got) != 1 || got[0].Source != "device" || got[0].ForS != 3600 {
		t.Errorf("%+v", got)
	}
	st.must(st.Click("#share-live"))
	st.must(st.SetPosition(nil))
	st.must(st.Click(`dialog input[name="share-to"]`))
	st.must(st.Click(`dialog button[type="submit"]`))
	st.must(st.Wait("the refusal", `document.querySelector('dialog [role="alert"]').innerText.includes('not allowed')`))
	st.must(st.Wait("one's own place", `document.querySelector('.own-card').innerText.includes('48.25000° N, 11.50000° E')`))
}

// TestL01MapIsFetchedWhenOpened: its modules are no part of the first load, and
// a node that does not answer them is asked again.
func TestL01MapIsFetchedWhenOpened(t *testing.T) {
	st := in(t, desk, func(*fakeapi.Server) {})
	asked := func() (n int) {
		for _, r := range st.Requests() {
			if strings.Contains(r.URL, "/map/") {
				n++
			}
		}
		return n
	}
	if n := asked(); n != 0 {
		t.Errorf("%d requests for the map before it was opened", n)
	}
	st.s.Stop()
	st.must(st.Go("#/map"))
	st.must(st.Wait("why there is none", `document.querySelector('.page.map [role="alert"]')?.innerText.includes('did not load')`))
	st.s.Start()
	st.must(st.Click(`.page.map .button`))
	st.must(st.Wait("the map", `document.querySelector('#map svg')`))
	if asked() < 4 {
		t.Error("the map came from nowhere")
	}
}

// Who opens the dialog of a live share before the node has told who there is
// reads that, not that there is nobody, and can choose as soon as it has.
func TestL01ShareDialogWaitsForPeople(t *testing.T) {
	t.Parallel()
	st := newStage(t, phone)
	st.s.AddUser("Charlie", true, 1)
	release := st.s.HoldAnswers("GET /v1/users")
	t.Cleanup(release) // the fake node ends with its answers
	st.must(st.Open(st.s.URL()))
	st.must(st.Login(account, password))
	st.must(st.Go("#/map"))
	st.must(st.Click("#share-live"))
	st.must(st.Wait("that people are awaited", plainText(`document.querySelector('dialog .notice')`)+` === 'Loading…'`))
	st.must(st.Click(`dialog input[name="share-span"][value="900"]`))
	release()
	st.must(st.Click(`dialog input[name="share-to"]`))
	st.must(st.Wait("what was chosen before", `document.querySelector('dialog input[name="share-span"][value="900"]').checked`))
	chosen := `document.querySelector('dialog input[name="share-to"]:checked')?.parentElement.textContent`
	st.s.AddUser("Delta", true, 1)
	st.must(st.Wait("another one", `document.querySelectorAll('dialog input[name="share-to"]').length === 2 && document.activeElement.name === 'share-to'`))
	if got := eval[string](st, chosen); got != "Charlie" {
		t.Errorf("with somebody new the choice is %q", got)
	}
	for _, name := range []string{"Echo", "Foxtrot", "Golf", "Hotel", "India", "Juliett", "Kilo"} {
		st.s.AddUser(name, true, 1)
	}
	st.must(st.Wait("the search", `document.querySelector('dialog input[type="search"]:not([hidden])')`))
	st.must(st.Fill(`dialog input[type="search"]`, "kil"))
	st.must(st.Wait("who was searched", `[...document.querySelectorAll('dialog input[name="share-to"]')].map((e) => e.parentElement.textContent).join() === 'Kilo'`))
}
