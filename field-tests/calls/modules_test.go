package calls

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/browser"
)

// newServer serves on a port of loopback until the test ends.
func newServer(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return "http://" + l.Addr().String()
}

func readAll(r *http.Response) (string, error) {
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	return string(b), err
}

func setBody(r *http.Response, body string) {
	r.Body = io.NopCloser(strings.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// window is the login page in alice's browser: enough to import modules.
func window(t *testing.T) *phone {
	t.Helper()
	if errWorld != nil {
		t.Fatal(errWorld)
	}
	p, err := shared.browsers[0].Page(browser.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	ph := &phone{t, "the window", p}
	ph.must(p.Open(shared.box.PageURL()))
	return ph
}

// wrong evaluates an async function body that returns a list of what is wrong.
func (p *phone) wrong(body string) {
	p.t.Helper()
	list, err := browser.Eval[[]string](p.Page, `(async () => { const wrong = []; const hex = (b) => Array.from(b, (v) => v.toString(16).padStart(2, '0')).join('');
		const bytes = (s) => Uint8Array.from(s.match(/../g) ?? [], (v) => parseInt(v, 16)); `+body+` return wrong; })()`)
	p.must(err)
	for _, w := range list {
		p.t.Error(w)
	}
}

func vectors(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil || !json.Valid(raw) {
		t.Fatalf("%s: %v", path, err)
	}
	return string(raw)
}

// The page's SFrame against the RFC's vectors, which media/sframe passes too.
func TestC01SFrameOfThePageAgainstTheRFC(t *testing.T) {
	window(t).wrong(`const { header, parseHeader, Sealer, Opener } = ` + call("sframe.mjs") + `;
		const v = ` + vectors(t, "../../media/sframe/testdata/rfc9605.json") + `;
		for (const { kid, ctr, encoded } of v.header) {
			if (hex(header(BigInt(kid), BigInt(ctr))) !== encoded) wrong.push(encoded + ' is written ' + hex(header(BigInt(kid), BigInt(ctr))));
			const h = parseHeader(bytes(encoded + 'ffff'));
			if (String(h.kid) !== kid || String(h.ctr) !== ctr || h.length !== encoded.length / 2) wrong.push(encoded + ' is read as ' + h.kid + '/' + h.ctr);
		}
		for (const bad of ['', '0807', '8007', '090001', '9000ff', '0f00000000000000ff', '08', '80', 'ff00']) {
			try { parseHeader(bytes(bad)); wrong.push(bad + ' is read as a header'); } catch (e) { if (e.code !== 'malformed') wrong.push(bad + ': ' + e); }
		}
		const s = v.sframe;
		const base = await crypto.subtle.importKey('raw', bytes(s.base_key), 'HKDF', false, ['deriveBits', 'deriveKey']);
		const sealer = await Sealer.from(base, BigInt(s.kid));
		if (hex(sealer.salt) !== s.sframe_salt) wrong.push('salt ' + hex(sealer.salt));
		sealer.next = BigInt(s.ctr);
		const sealed = await sealer.seal(bytes(s.pt), bytes(s.metadata));
		if (hex(sealed) !== s.ct) wrong.push('sealed ' + hex(sealed));
		const opener = new Opener();
		await opener.add(BigInt(s.kid), base);
		if (hex(await opener.open(bytes(s.ct), bytes(s.metadata))) !== s.pt) wrong.push('it does not open');`)
}

// The page's window of counters against a model, and what it refuses.
func TestC01SFrameOfThePageRefuses(t *testing.T) {
	window(t).wrong(`const { Sealer, Opener } = ` + call("sframe.mjs") + `;
		const key = (n) => crypto.subtle.importKey('raw', new Uint8Array(32).fill(n), 'HKDF', false, ['deriveBits', 'deriveKey']);
		const sealer = await Sealer.from(await key(7), 1n); const opener = new Opener(); await opener.add(1n, await key(7));
		const at = async (ctr) => { sealer.next = BigInt(ctr); return sealer.seal(Uint8Array.of(1, 2, 3)); };
		const code = async (frame) => { try { await opener.open(frame); return ''; } catch (e) { return e.code; } };
		for (const [ctr, want] of [[1000, ''], [1000, 'replay'], [873, ''], [873, 'replay'], [872, 'replay'], [1001, ''], [999, ''], [1000, 'replay'], [1300, ''], [1001, 'replay'], [1299, ''], [1300 + 65537, 'jump'], [1300 + 65536, '']]) {
			const got = await code(await at(ctr));
			if (got !== want) wrong.push('counter ' + ctr + ': ' + got + ', want ' + want);
		}
		const good = await at(70000);
		for (let i = 0; i < good.length; i++) { const bad = good.slice(); bad[i] ^= 1; if (await code(bad) === '') wrong.push('byte ' + i + ' altered: it opens'); }
		for (let n = 0; n < good.length; n++) if (await code(good.slice(0, n)) === '') wrong.push('cut at ' + n + ': it opens');
		if (await code(good) !== '') wrong.push('the frame itself does not open');
		const other = new Opener(); await other.add(1n, await key(8));
		try { await other.open(await at(70001)); wrong.push('another key opens it'); } catch (e) { if (e.code !== 'forged') wrong.push('another key: ' + e.code); }
		sealer.next = 1n << 32n;
		try { await sealer.seal(new Uint8Array(1)); wrong.push('a spent key seals'); } catch { /* as it should be */ }`)
}

// The page's agreement against media/agree, both ends.
func TestC01KeysOfThePageAgainstTheVectors(t *testing.T) {
	window(t).wrong(`const k = ` + call("keys.mjs") + `; const { Sealer } = ` + call("sframe.mjs") + `;
		const url = (b) => k.toText(b);
		const priv = (d, pub) => crypto.subtle.importKey('jwk', { kty: 'EC', crv: 'P-256', d: url(bytes(d)), x: url(bytes(pub).slice(1, 33)), y: url(bytes(pub).slice(33)) }, { name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveKey']);
		for (const v of ` + vectors(t, "../../media/agree/testdata/vectors.json") + `) {
			const call = bytes(v.call); const a = bytes(v.caller_key); const b = bytes(v.callee_key);
			if (hex(await k.commit(call, a)) !== v.commit) wrong.push('commit ' + hex(await k.commit(call, a)));
			for (const [d, own, peer] of [[v.caller_private, a, b], [v.callee_private, b, a]]) {
				const got = await k.agree({ privateKey: await priv(d, hex(own)) }, call, a, b, peer);
				if (got.code !== v.code) wrong.push('code ' + got.code + ', want ' + v.code);
				for (const i of [0, 1]) {
					const want = await Sealer.from(await crypto.subtle.importKey('raw', bytes(v.base[i]), 'HKDF', false, ['deriveBits', 'deriveKey']), BigInt(i));
					const have = await Sealer.from(got.bases[i], BigInt(i));
					if (hex(await want.seal(Uint8Array.of(9))) !== hex(await have.seal(Uint8Array.of(9)))) wrong.push('base key ' + i);
				}
			}
			if (k.callText(call).length !== 26 || hex(k.callBytes(k.callText(call))) !== v.call) wrong.push('name ' + k.callText(call));
		}
		const { pair } = await k.makeKey();
		if (pair.privateKey.extractable) wrong.push('the private key can be read out');
		for (const bad of [new Uint8Array(0), new Uint8Array(65), new Uint8Array(64).fill(4)]) {
			try { await k.agree(pair, new Uint8Array(16), bad, bad, bad); wrong.push('a key that is none was taken'); } catch { /* as it should be */ }
		}`)
}

// The worker lives under a policy of its own.
func TestC01WorkerHasAPolicy(t *testing.T) {
	p := window(t)
	policy, err := browser.Eval[string](p.Page, `fetch(new URL('call/worker.mjs', document.querySelector('script[type="module"]').src)).then((r) => r.headers.get('Content-Security-Policy') ?? '')`)
	p.must(err)
	if !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
	early, err := browser.Eval[bool](p.Page, `performance.getEntriesByType('resource').some((e) => e.name.includes('/call/') && !e.name.endsWith('worker.mjs'))`)
	p.must(err)
	if early {
		t.Error("the modules of calls are loaded before the first call")
	}
}
