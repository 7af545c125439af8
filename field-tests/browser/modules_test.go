package browser

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// open is a stage with the login screen: enough to import modules.
func open(t *testing.T) *stage {
	t.Helper()
	st := newStage(t, PageOptions{})
	st.must(st.Open(st.s.URL()))
	return st
}

// failures evaluates an async function body that returns a list of what is
// wrong.
func failures(st *stage, body string) {
	st.t.Helper()
	for _, f := range eval[[]string](st, called(body)) {
		st.t.Error(f)
	}
}

// asJSON makes a JavaScript literal of a value.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMGRSAgainstGeographicLib(t *testing.T) {
	data, err := os.ReadFile("testdata/mgrs.txt")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			vectors = append(vectors, line)
		}
	}
	if len(vectors) < 300 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	failures(open(t), `const { toMGRS, fromMGRS } = `+module("lib/mgrs.mjs")+`; const wrong = [];
		const near = (at, text, metres) => {
			const [lat, lon] = text.split(' ').map(Number);
			if (!at) return false;
			const dLon = Math.abs(((at.lon - lon + 540) % 360) - 180) * Math.cos(lat * Math.PI / 180);
			return Math.hypot(at.lat - lat, dLon) * 111320 < metres;
		};
		for (const line of `+asJSON(t, vectors)+`) {
			const [point, fine, fineCentre, coarse, coarseCentre] = line.split('|');
			const [lat, lon] = point.split(' ').map(Number);
			const got = toMGRS(lat, lon);
			if (got.replaceAll(' ', '') !== fine) wrong.push(point + ': got ' + got + ', want ' + fine);
			const got3 = toMGRS(lat, lon, 3);
			if (got3.replaceAll(' ', '') !== coarse) wrong.push(point + ' at 100 m: got ' + got3 + ', want ' + coarse);
			const back = fromMGRS(fine);
			if (!near(back, fineCentre, 0.01) || back.size !== 1) wrong.push(fine + ': read as ' + JSON.stringify(back) + ', want ' + fineCentre);
			const back3 = fromMGRS(got3.toLowerCase());
			if (!near(back3, coarseCentre, 0.01) || back3.size !== 100) wrong.push(got3 + ': read as ' + JSON.stringify(back3) + ', want ' + coarseCentre);
		}
		return wrong.slice(0, 20);`)
}

func TestMGRSRefusesWhatIsNoPosition(t *testing.T) {
	failures(open(t), `const { toMGRS, fromMGRS } = `+module("lib/mgrs.mjs")+`; const wrong = [];
		for (const [lat, lon] of [[NaN, 0], [0, NaN], [90.001, 0], [-91, 0], [0, Infinity], [0, 361], ['1', 2], [undefined, 1]]) if (toMGRS(lat, lon) !== '') wrong.push('toMGRS(' + lat + ', ' + lon + ') = ' + toMGRS(lat, lon));
		for (const s of ['', '32T', '32TLT1', '32TLT123', '61TLT1212', '00TLT1212', '32ILT1212', '32OLT1212', '32TAA1212', '32TLZ1212', '32TIT1212', '32TLO1212', '32TLT123456123456', 'YII1212', 'AAA1212', 'ZZZ1212', '32NLT', '<script>', '32TLT12.5', '\u0663\u0662TLT1212', 'A'.repeat(100000)]) {
			const at = fromMGRS(s);
			if (at !== null) wrong.push('fromMGRS(' + s.slice(0, 30) + ') = ' + JSON.stringify(at));
		}
		return wrong;`)
}

func TestPositionsAsPeopleTypeThem(t *testing.T) {
	failures(open(t), `const { parsePosition, formatLatLon } = `+module("lib/position.mjs")+`; const wrong = [];
		const good = { '46.94809, 7.44744': [46.94809, 7.44744], '46.94809 7.44744': [46.94809, 7.44744], '46,94809 7,44744': [46.94809, 7.44744], '46,94809; 7,44744': [46.94809, 7.44744],
			' -33.8568,151.2153 ': [-33.8568, 151.2153], '\u221233.8568 / 151.2153': [-33.8568, 151.2153], 'N46.9 E7.4': [46.9, 7.4], '46.9N 7.4E': [46.9, 7.4], '46.9° S, 7.4° W': [-46.9, -7.4],
			'46.94809° N, 7.44744° E': [46.94809, 7.44744], '48,1 N 11,5 O': [48.1, 11.5], '+1 +2': [1, 2], '90 180': [90, 180], '-90, -180': [-90, -180], '0 0': [0, 0],
			'46°56\'53.1"N 7°26\'50.8"E': [46.948083, 7.447444], '46° 56\u2032 53\u2033 S, 7° 26\u2032 50\u2033 W': [-46.948056, -7.447222], '46°56.5\'N 7°26.5\'E': [46.941667, 7.441667],
			'32T LT 81852 00565': [46.94809, 7.44744], '32tlt8185200565': [46.94809, 7.44744], '32T\u00a0LT\u00a081852\u00a000565': [46.94809, 7.44744] };
		for (const [s, [lat, lon]] of Object.entries(good)) {
			const at = parsePosition(s);
			if (!at || Math.abs(at.lat - lat) > 2e-5 || Math.abs(at.lon - lon) > 2e-5) wrong.push(s + ' read as ' + JSON.stringify(at));
		}
		for (const s of ['', '46', '46.9', '91 0', '0 181', '-90.0001 0', '46 -', 'N46 S7', 'N46.9N E7', '-46 S 7 E', '1e2 3', '46.9, 7.4, 3', '46°60\'00"N 7°00\'00"E', '46°00\'60"N 7°00\'00"E', '46°56\'53"E 7°26\'50"N', '<b>1</b> 2', 'NaN NaN', '1,2,3,4', '46,9', '46,94809,7,44744', '9'.repeat(200) + ' 1']) {
			if (parsePosition(s) !== null) wrong.push(s.slice(0, 30) + ' was taken: ' + JSON.stringify(parsePosition(s)));
		}
		if (formatLatLon(-1.5, -0.000004) !== '1.50000° S, 0.00000° W') wrong.push(formatLatLon(-1.5, -0.000004));
		return wrong;`)
}

func TestEventParser(t *testing.T) {
	failures(open(t), `const { parser } = `+module("lib/events.mjs")+`; const wrong = [];
		const streams = {
			'id: 1\nevent: a\ndata: x\n\n': [['a', 'x', '1']],
			'data: one\ndata: two\n\n': [['message', 'one\ntwo', '']],
			'data:x\r\n\r\ndata:y\r\rdata: z\n\n': [['message', 'x', ''], ['message', 'y', ''], ['message', 'z', '']],
			': beat\n\nid: 5\ndata\n\nevent: b\n\ndata: q\n\n': [['message', '', '5'], ['message', 'q', '5']],
			'retry: 10\nunknown: 1\ndata:  two spaces\n\n': [['message', ' two spaces', '']],
			'id: bad\0id\ndata: x\n\n': [['message', 'x', '']],
			'data: cut off': [], '': [],
		};
		for (const [text, want] of Object.entries(streams)) {
			for (let step = 1; step <= Math.max(1, text.length); step++) { // in pieces of every length: nothing depends on how it arrives
				const got = [];
				const feed = parser((e) => got.push([e.type, e.data, e.id]));
				for (let i = 0; i < text.length; i += step) feed(text.slice(i, i + step));
				if (JSON.stringify(got) !== JSON.stringify(want)) { wrong.push(JSON.stringify(text) + ' in pieces of ' + step + ': ' + JSON.stringify(got)); break; }
			}
		}
		const feed = parser(() => {});
		try { for (let i = 0; i < 40; i++) feed('x'.repeat(1 << 15)); wrong.push('a line without end was taken'); } catch { /* as it should be */ }
		const feed2 = parser(() => {});
		try { for (let i = 0; i < 40; i++) feed2('data: ' + 'x'.repeat(1 << 15) + '\n'); wrong.push('an event without end was taken'); } catch { /* as it should be */ }
		return wrong;`)
}

func TestTextOfPeers(t *testing.T) {
	failures(open(t), `const { plain, label, fileName, mixedAlphabets, sameness } = `+module("lib/text.mjs")+`; const wrong = [];
		const is = (what, got, want) => { if (got !== want) wrong.push(what + ': got ' + JSON.stringify(got) + ', want ' + JSON.stringify(want)); };
		is('override in a name', label('photo\u202egnp.exe'), 'photo\u2039U+202E\u203agnp.exe');
		is('override in a text', plain('a\u202eb'), 'a\u2039U+202E\u203ab');
		is('zero width', label('ad\u200bmin\ufeff'), 'ad\u2039U+200B\u203amin\u2039U+FEFF\u203a');
		is('ansi', label('\u001b[31mred'), '\u241b[31mred');
		is('null', plain('a\0b'), 'a\u2400b');
		is('line breaks of a text', plain('a\r\nb\rc\n\td'), 'a\nb\nc\n\td');
		is('line breaks of a name', label('a\nb\tc'), 'a b c');
		is('c1', plain('\u009b31m'), '\u2039U+009B\u203a31m');
		is('lone surrogate', plain('\ud800x\udc00'), '\ufffdx\ufffd');
		is('family emoji', label('\u{1f468}\u200d\u{1f469}\u200d\u{1f467}'), '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}');
		is('joiner in latin', label('a\u200db'), 'a\u2039U+200D\u203ab');
		is('persian', label('\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645'), '\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645');
		is('tag characters', label('x\u{e0041}'), 'x\u2039U+E0041\u203a');
		is('length', [...label('\u{1f600}'.repeat(1000), 10)].length, 10);
		is('nothing', label(undefined) + plain(null), '');
		is('piled marks', plain('a' + '\u0337'.repeat(50) + 'b') + label('a' + '\u0337'.repeat(9)), 'a' + '\u0337'.repeat(8) + '\u2039\u2026\u203ab' + 'a' + '\u0337'.repeat(8) + '\u2039\u2026\u203a');
		is('path', fileName('../../etc/passwd'), '_.._etc_passwd');
		is('empty file name', fileName('\u202e...'), 'file');
		is('windows path', fileName('C:\\a\\b.txt'), 'C__a_b.txt');
		is('mixed', mixedAlphabets('\u0430dmin'), true); // Cyrillic a
		is('two words', mixedAlphabets('Anna \u0410\u043d\u043d\u0430'), false);
		is('plain name', mixedAlphabets('Jos\u00e9 M\u00fcller'), false);
		is('sameness', sameness(' \uff21lice\u200b'), 'alice');
		return wrong;`)
}

func TestGermanIsComplete(t *testing.T) {
	failures(open(t), `const en = (`+module("lang/en.mjs")+`).default, de = (`+module("lang/de.mjs")+`).default; const wrong = [];
		const forms = (m) => (typeof m === 'string' ? [m] : Object.values(m));
		const names = (m) => [...new Set(forms(m).join(' ').match(/\{\w+\}/g) ?? [])].sort().join();
		for (const k of Object.keys(en)) {
			if (!(k in de)) { wrong.push('German lacks ' + k); continue; }
			if (names(en[k]) !== names(de[k])) wrong.push(k + ' takes ' + names(en[k]) + ' in English and ' + names(de[k]) + ' in German');
			if (forms(de[k]).some((f) => typeof f !== 'string' || f.trim() === '')) wrong.push(k + ' is empty in German');
			if (typeof en[k] !== typeof de[k]) wrong.push(k + ' has plural forms in one language only');
			if (typeof de[k] === 'object' && !('other' in de[k] && 'one' in de[k])) wrong.push(k + ' lacks a plural form');
		}
		for (const k of Object.keys(de)) if (!(k in en)) wrong.push('English lacks ' + k);
		const same = Object.keys(en).filter((k) => forms(en[k]).join() === forms(de[k]).join() && /[a-z]{4}/.test(forms(en[k]).join()));
		const meant = ['app.name', 'message.from', 'nav.chats', 'nav.status', 'login.user', 'chats.title', 'position.title', 'status.title', 'status.name', 'status.version', 'mesh.class.lan'];
		for (const k of same) if (!meant.includes(k)) wrong.push(k + ' is not translated: ' + forms(de[k]).join());
		if (Object.keys(en).length < 200) wrong.push('only ' + Object.keys(en).length + ' words');
		return wrong;`)
}

func TestDOMBuilderRefusesMarkupAndForeignAddresses(t *testing.T) {
	failures(open(t), `const { h, svg } = `+module("lib/dom.mjs")+`; const wrong = [];
		const refused = [() => h('a', { href: 'javascript:alert(1)' }), () => h('a', { href: 'https://elsewhere.example/' }), () => h('a', { href: '//elsewhere.example/' }), () => h('img', { src: 'data:image/svg+xml,<svg/>' }),
			() => h('p', { onclick: 'alert(1)' }), () => h('p', { style: 'color:red' }), () => h('iframe', { srcdoc: '<p>' }), () => svg('a', { HREF: 'java\tscript:alert(1)' }), () => h('form', { action: 'http://x/' })];
		refused.forEach((f, i) => { try { f(); wrong.push('case ' + i + ' was built'); } catch { /* refused */ } });
		const p = h('p', '<img src=x onerror=alert(1)>', ['<b>', null, false, 0]);
		if (p.childElementCount !== 0 || p.textContent !== '<img src=x onerror=alert(1)><b>0') wrong.push('text became markup: ' + p.textContent);
		return wrong;`)
}

// A list that is drawn again keeps the elements of what did not change, and
// the focus.
func TestReconcileAgainstReplacing(t *testing.T) {
	failures(open(t), `const { h, reconcile } = `+module("lib/dom.mjs")+`; const wrong = [];
		let seed = 12345; const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
		const list = h('ul'); document.body.append(list);
		const made = new Map();
		for (let round = 0; round < 300; round++) {
			const keys = [...Array(12).keys()].filter(() => random(3)).sort(() => random(3) - 1);
			const items = keys.map((k) => ({ k, v: random(2) }));
			const before = new Map([...list.children].map((e) => [e.dataset.key + '/' + e.signature, e]));
			const focused = list.children[random(Math.max(1, list.children.length))]?.querySelector('button');
			focused?.focus();
			const heldKey = focused?.closest('li').dataset.key;
			reconcile(list, items, (i) => i.k, (i) => String(i.v), (i) => h('li', h('button', { 'data-focus': 'b' }, i.k + ':' + i.v)));
			const got = [...list.children].map((e) => e.textContent).join();
			const want = items.map((i) => i.k + ':' + i.v).join();
			if (got !== want) { wrong.push('round ' + round + ': got ' + got + ', want ' + want); break; }
			for (const e of list.children) { const old = before.get(e.dataset.key + '/' + e.signature); if (old && old !== e) { wrong.push('round ' + round + ': an unchanged element was made again'); break; } }
			if (heldKey !== undefined && keys.includes(Number(heldKey)) && document.activeElement.closest('li')?.dataset.key !== heldKey) wrong.push('round ' + round + ': the focus was lost');
		}
		list.remove();
		return wrong.slice(0, 5);`)
}
