package calls

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"outrider/field-tests/browser"
	"outrider/field-tests/scenario"
)

func TestC01SealedCallBetweenTwoBrowsers(t *testing.T) {
	alice, bob := pair(t, options{})
	before := shared.figures(t).Forwarded
	talking(alice, bob)
	heard(t, 100, alice, bob)
	var codes []string
	for _, p := range []*phone{alice, bob} {
		until(t, p.name+"'s loudspeaker", func() bool { r, _ := p.report(); return r.Energy > 1e-4 })
		r, _ := p.report()
		if r.Failed != 0 || r.Rebuilds != 0 || r.Connection != "connected" {
			t.Errorf("%s: %+v", p.name, r)
		}
		shown, err := browser.Eval[string](p.Page, `document.querySelector('#call-code').textContent.replace(' ', '')`)
		p.must(err)
		codes = append(codes, shown)
	}
	if codes[0] != codes[1] || len(codes[0]) != 6 {
		t.Errorf("the codes are %q", codes)
	}
	if f := shared.figures(t); f.Running != 1 || f.Participants != 2 || f.Forwarded < before+200 {
		t.Errorf("%+v", f)
	}
	muting(t, alice)
	hangUp(bob, alice)
	alice.must(alice.WaitText("The call is over."))
	for _, p := range []*phone{alice, bob} {
		p.must(p.Wait("the record", logged(`^Call, \\d+ (s|min)$`)))
	}
	shared.idle(t)
	// The node saw all of it. It hears nothing in it, with or without the
	// header that it can read too.
	payloads := shared.payloads(t)
	if len(payloads) < 200 {
		t.Fatalf("the tap saw %d packets", len(payloads))
	}
	for skip := range 5 {
		if d := decode(t, alice, payloads, skip); d.tone() {
			t.Errorf("without the first %d bytes the node hears the tone: %+v", skip, d)
		}
	}
}

// logged is the JavaScript for a record of a call in the open conversation.
func logged(pattern string) string {
	return `[...document.querySelectorAll('#messages .call-log')].some((e) => new RegExp('` + pattern + `').test(e.textContent.trim().replace(/[\u2066-\u2069]/g, '').replace(/\u00a0/g, ' ')))`
}

// muting checks that a muted microphone is closed and opens again.
func muting(t *testing.T, p *phone) {
	t.Helper()
	for _, speaks := range []bool{false, true} {
		p.must(p.Click("#call-mute"))
		until(t, "the microphone", func() bool { r, _ := p.report(); return r.Speaking == speaks })
	}
}

// decoded is what an Opus decoder makes of payloads: how many it took, and in
// how many of their 20 ms there is silence or the browser's test tone.
type decoded struct{ Frames, Silent, Loud int }

// tone tells whether that is the test tone: beeps, and nothing between them.
// Noise has no silence.
func (d decoded) tone() bool { return d.Frames > 50 && d.Silent > d.Frames/4 && d.Loud > 3 }

// decode gives payloads to a real Opus decoder, Chromium's own.
func decode(t *testing.T, p *phone, payloads [][]byte, skip int) (d decoded) {
	t.Helper()
	var frames []string
	for _, b := range payloads[:min(len(payloads), 400)] {
		frames = append(frames, base64.StdEncoding.EncodeToString(b[min(skip, len(b)):]))
	}
	list, err := json.Marshal(frames)
	p.must(err)
	text, err := browser.Eval[string](p.Page, `(async () => {
		const out = { frames: 0, silent: 0, loud: 0 };
		let decoder = null;
		const make = () => {
			decoder = new AudioDecoder({ error: () => { decoder = null; }, output: (a) => {
				const pcm = new Float32Array(a.numberOfFrames);
				a.copyTo(pcm, { planeIndex: 0, format: 'f32-planar' });
				a.close();
				const power = pcm.reduce((s, v) => s + v * v, 0) / pcm.length;
				out.frames++;
				if (power < 1e-6) out.silent++;
				if (power > 1e-3) out.loud++;
			} });
			decoder.configure({ codec: 'opus', sampleRate: 48000, numberOfChannels: 1 });
		};
		for (const [i, f] of `+string(list)+`.entries()) {
			if (!decoder) make();
			try {
				decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp: i * 20000, data: Uint8Array.from(atob(f), (c) => c.charCodeAt(0)) }));
				await decoder.flush();
			} catch { decoder = null; }
		}
		return JSON.stringify(out);
	})()`)
	p.must(err)
	p.must(json.Unmarshal([]byte(text), &d))
	return d
}

// altered is the node's page with one of its scripts changed on the way to the
// browser, as a node could that wants to listen.
func altered(t *testing.T, script string, changes ...string) string {
	t.Helper()
	if errWorld != nil {
		t.Fatal(errWorld)
	}
	target, err := url.Parse(shared.box.PageURL())
	if err != nil {
		t.Fatal(err)
	}
	var changed atomic.Int64
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header.Set("Accept-Encoding", "identity")
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.URL.Path, script) {
				return nil
			}
			body, err := readAll(r)
			if err != nil {
				return err
			}
			for i := 0; i+1 < len(changes); i += 2 {
				if next := strings.Replace(body, changes[i], changes[i+1], 1); next != body {
					body = next
					changed.Add(1)
				}
			}
			setBody(r, body)
			return nil
		},
	}
	srv := newServer(t, proxy)
	t.Cleanup(func() {
		if changed.Load() < int64(len(changes)/2) {
			t.Errorf("%s was not changed: it does not hold %q", script, changes)
		}
	})
	return srv + "/"
}

// The positive control: with sealing replaced by nothing, the same tap and the
// same decoder hear the tone.
func TestC01TheTapHearsWhatIsNotSealed(t *testing.T) {
	plain := altered(t, "call/worker.mjs",
		"frame.data = (await sealer.seal(new Uint8Array(frame.data))).buffer;", "", "frame.data = (await opener.open(new Uint8Array(frame.data))).buffer;", "")
	alice, bob := pair(t, options{url: plain})
	talking(alice, bob)
	heard(t, 100, alice, bob)
	hangUp(alice, bob)
	if d := decode(t, alice, shared.payloads(t), 0); !d.tone() {
		t.Errorf("the decoder does not hear what is there: %+v", d)
	}
}

// Bob's worker gets alice's base key wrong: nothing opens, nothing is played,
// and the call ends by itself.
func TestC01WrongKeyIsSilent(t *testing.T) {
	wrong := `const post = Worker.prototype.postMessage;
		Worker.prototype.postMessage = function (m) { return post.call(this, m.keys ? { ...m, keys: { ...m.keys, other: m.keys.own } } : m); };`
	alice, bob := pair(t, options{script: [2]string{"", wrong}})
	talking(alice, bob)
	failed := 0
	until(t, "the end", func() bool {
		r, ok := bob.report()
		if ok && r.plays() {
			t.Fatalf("bob hears: %+v", r)
		}
		failed = max(failed, r.Failed)
		return !ok
	})
	if failed == 0 {
		t.Error("no frame was tried")
	}
	bob.must(bob.WaitText("not sealed with the right key"))
	until(t, "alice's end", func() bool { _, ok := alice.report(); return !ok })
}

// Chromium leaves a transform out without a word when it is set too late. As
// if that had happened: what arrives is not played, not for 500 ms.
func TestC01TransformThatIsNotEngagedIsSilent(t *testing.T) {
	never := `Object.defineProperty(RTCRtpReceiver.prototype, 'transform', { get: () => null, set() {} });`
	alice, bob := pair(t, options{script: [2]string{"", never}})
	talking(alice, bob)
	until(t, "a connection made anew", func() bool {
		r, ok := bob.report()
		if r.plays() {
			t.Fatalf("bob's loudspeaker is on: %+v", r)
		}
		return r.Rebuilds > 0 || !ok
	})
	over(alice, bob)
}

// And on the sending side the microphone stays closed.
func TestC01MicrophoneStaysClosedWithoutATransform(t *testing.T) {
	never := `Object.defineProperty(RTCRtpSender.prototype, 'transform', { get: () => null, set() {} });`
	alice, bob := pair(t, options{script: [2]string{never, ""}})
	talking(alice, bob)
	until(t, "bob's connection made anew", func() bool {
		r, _ := alice.report()
		if r.Speaking || r.Sealed != 0 {
			t.Fatalf("alice's microphone is open: %+v", r)
		}
		b, there := bob.report()
		if b.plays() {
			t.Fatalf("bob hears: %+v", b)
		}
		return b.Rebuilds > 0 || !there
	})
	over(alice, bob)
	var hers [][]byte
	for _, b := range shared.payloads(t) {
		if len(b) > 0 && b[0]>>4 != 1 { // the header of what bob, the callee, seals
			hers = append(hers, b)
		}
	}
	if d := decode(t, alice, hers, 0); d.Loud > 0 {
		t.Errorf("the node heard alice: %+v", d)
	}
}

func TestC05TCPOnly(t *testing.T) {
	tcp := `const send = window.fetch;
		window.fetch = (url, o) => send(url, String(url).endsWith('/media') ? { ...o, body: JSON.stringify({ ...JSON.parse(o.body), transport: 'tcp' }) } : o);`
	alice, bob := pair(t, options{script: [2]string{tcp, tcp}})
	talking(alice, bob)
	heard(t, 20, alice, bob)
	hangUp(alice, bob)
	shared.idle(t)
}

func TestC08DeclinedAndCancelled(t *testing.T) {
	alice, bob := pair(t, options{})
	ring(alice, bob)
	bob.must(bob.Click("#call-decline"))
	alice.must(alice.WaitText("bob declined."))
	bob.must(bob.Wait("the record", logged(`^Call, declined$`)))
	bob.must(bob.Wait("quiet", `!document.querySelector('#call-accept')`))
	ring(alice, bob)
	alice.must(alice.Click("#call-end"))
	bob.must(bob.Wait("quiet", `!document.querySelector('#call-accept')`))
	bob.must(bob.Wait("the record", logged(`^Missed call$`)))
	alice.must(alice.Wait("the record", logged(`^Call, cancelled$`)))
	shared.idle(t)
}

// Whoever cannot seal, or has no microphone for want of a protected page, is
// told what to do; nothing rings.
func TestC01BrowserThatCannotSealIsTold(t *testing.T) {
	alice, bob := pair(t, options{script: [2]string{`delete window.RTCRtpScriptTransform;`, `Object.defineProperty(window, 'isSecureContext', { value: false });`}})
	alice.must(alice.Click("#call-start"))
	alice.must(alice.WaitText("This browser is too old to seal calls."))
	bob.must(bob.Click("#call-start"))
	bob.must(bob.WaitText("Install the page’s CA certificate"))
	if f := shared.figures(t); f.Running != 0 {
		t.Errorf("%+v", f)
	}
}

// Carol has a session on the same node and knows the call's name.
func TestC01StrangerCannotJoin(t *testing.T) {
	alice, bob := pair(t, options{})
	talking(alice, bob)
	heard(t, 10, alice, bob)
	id, err := browser.Eval[string](alice.Page, `fetch('/v1/calls').then((r) => r.json()).then((a) => a.calls[0].id)`)
	alice.must(err)
	carol := scenario.NewClient(shared.box.Socket())
	if _, err := carol.Login(t.Context(), "carol", scenario.UserPassword); err != nil {
		t.Fatal(err)
	}
	offer, err := os.ReadFile("testdata/offer.sdp")
	if err != nil {
		t.Fatal(err)
	}
	key := base64.RawURLEncoding.EncodeToString(make([]byte, 65))
	for name, c := range map[string]struct {
		path, want string
		body       any
	}{
		"media":         {"/media", "not_found", map[string]string{"sdp": string(offer)}},
		"answer":        {"/answer", "not_found", map[string]string{"key": key}},
		"key":           {"/key", "not_found", map[string]string{"key": key}},
		"end":           {"/end", "not_found", map[string]string{}},
		"1 MB of offer": {"/media", "too_large", map[string]string{"sdp": "v=0\r\n" + strings.Repeat("x", 1<<20)}},
		"garbage":       {"/media", "bad_request", map[string]string{"sdp": "garbage"}},
	} {
		err := carol.Do(t.Context(), "POST", "/v1/calls/"+id+c.path, c.body, nil)
		refused, ok := errors.AsType[*scenario.APIError](err)
		if !ok || refused.Code != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	before, _ := alice.report()
	until(t, "more frames", func() bool { r, ok := alice.report(); return ok && r.Opened > before.Opened+20 })
	if f := shared.figures(t); f.Participants != 2 {
		t.Errorf("%+v", f)
	}
	hangUp(alice, bob)
}

// The page as it is in a call, at the width of a phone, in German.
func TestC01BarFitsAPhone(t *testing.T) {
	alice, bob := pair(t, options{})
	alice.must(alice.Resize(360, 740, true))
	alice.must(alice.Go("#/settings"))
	alice.must(alice.ClickText("Deutsch"))
	alice.must(alice.Go("#/chats"))
	alice.must(alice.OpenChat("bob"))
	talking(alice, bob)
	heard(t, 5, alice, bob)
	alice.must(alice.Wait("German words", `document.querySelector('#call').innerText.includes('Im Gespräch mit')`))
	wide, err := browser.Eval[bool](alice.Page, `document.documentElement.scrollWidth > 360 || [...document.querySelectorAll('#call button')].some((b) => b.getBoundingClientRect().right > 360 || b.getBoundingClientRect().height < 56)`)
	alice.must(err)
	if wide {
		t.Error("the bar does not fit")
	}
	alice.must(alice.Focus("#call-end")) // with the keyboard alone
	alice.must(alice.Press("\r"))
	until(t, "the end", func() bool { _, a := alice.report(); _, b := bob.report(); return !a && !b })
	if dir := os.Getenv("SCREENSHOTS"); dir != "" {
		alice.must(alice.SaveScreenshot(dir + "/call.png"))
	}
}
