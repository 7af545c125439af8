package browser

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// quote makes a JavaScript string literal.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

// plainText is the JavaScript that reads an element's words as a person sees
// them: without the marks that isolate names from the sentence around them, a
// no-break space as a space.
func plainText(element string) string {
	return `((` + element + `)?.innerText ?? '').replace(/[\u2066-\u2069]/g, '').replace(/\u00a0/g, ' ')`
}

// Login logs in on the login screen and waits for the screens behind it. When
// the node refuses, the error carries the words the person sees.
func (p *Page) Login(name, password string) error {
	if err := p.Wait("the login", `document.querySelector('#login-submit:not([disabled])')`); err != nil {
		return err
	}
	if err := p.Fill("#login-name", name); err != nil {
		return err
	}
	if err := p.Fill("#login-password", password); err != nil {
		return err
	}
	if err := p.Press(kb.Enter); err != nil {
		return err
	}
	err := p.Wait("the outcome of the login", `document.querySelector('#app:not([hidden]) #shell') || document.querySelector('#login-error')?.textContent`)
	if err != nil {
		return err
	}
	refusal, err := Eval[string](p, `document.querySelector('#login-error')?.textContent ?? ''`)
	if err == nil && refusal != "" {
		err = errors.New("browser: login refused: " + refusal)
	}
	return err
}

// OpenChat opens the conversation with the person of that exact name, by the
// search, and waits until it is on the screen.
func (p *Page) OpenChat(name string) error {
	if err := p.Go("#/chats"); err != nil {
		return err
	}
	row := `[...document.querySelectorAll('#chat-list a')].find((a) => ` + plainText(`a.querySelector('.name, .row-name')`) + `.trim() === ` + quote(name) + `)`
	if err := p.Wait("the chats", `document.querySelector('#search')`); err != nil {
		return err
	}
	if err := p.Fill("#search", name); err != nil {
		return err
	}
	if err := p.wait("the chat with "+name, `((a) => a && (a.click(), true))(`+row+`)`, asUser); err != nil {
		return err
	}
	if err := p.Wait("the open chat", `document.querySelector('#compose') && `+plainText(`document.querySelector('#chat h1')`)+`.trim() === `+quote(name)); err != nil {
		return err
	}
	return p.Fill("#search", "")
}

// Go shows the screen of an address fragment, as "#/mesh".
func (p *Page) Go(fragment string) error {
	_, err := Eval[bool](p, `location.hash = `+quote(fragment)+`, true`)
	return err
}

// Send types text into the open conversation, sends it with Enter, and waits
// until the node has taken it and the message stands in the list.
func (p *Page) Send(text string) error {
	if err := p.Fill("#compose", text); err != nil {
		return err
	}
	if err := p.Focus("#compose"); err != nil {
		return err
	}
	if err := p.Press(kb.Enter); err != nil {
		return err
	}
	return p.Wait("the sent message", `document.querySelector('#compose').value === '' && `+bubble(text, true))
}

// bubble is the JavaScript for the last message with exactly that text; the
// page shows only the beginning of a very long one.
func bubble(text string, own bool) string {
	kind := ".message"
	if own {
		kind = ".message.own"
	}
	return `[...document.querySelectorAll('#messages ` + kind + `')].findLast((m) => [...m.querySelectorAll('.text, .file-name, .mgrs, .note')].some((t) => t.textContent === ` + quote(text) + ` || (t.textContent.length > 1000 && t.textContent.endsWith('…') && ` + quote(text) + `.startsWith(t.textContent.slice(0, -1)))))`
}

// Attach sends a file of this machine through the open conversation's picker.
func (p *Page) Attach(paths ...string) error {
	err := chromedp.Do(p.ctx, chromedp.SetUploadFiles(chromedp.CSS("#compose-files"), paths))
	if err != nil {
		return fmt.Errorf("browser: attach: %w", err)
	}
	return nil
}

// WaitText waits until the words are somewhere on the screen.
func (p *Page) WaitText(text string) error {
	return p.Wait("the words "+quote(text), plainText(`document.body`)+`.includes(`+quote(text)+`)`)
}

// WaitMessage waits until a message with exactly that text (or file name, or
// MGRS reference) stands in the open conversation.
func (p *Page) WaitMessage(text string) error {
	return p.Wait("the message "+quote(text), bubble(text, false))
}

// WaitState waits until the last message with that text is in a state, one of
// decisions.md 22's words ("delivered"), or shows exactly those words
// ("delivered 1/1").
func (p *Page) WaitState(text, state string) error {
	m := bubble(text, false)
	return p.Wait("the state "+state+" of "+quote(text), `(() => { const s = `+m+`?.querySelector('.state'); return s && (s.dataset.state === `+quote(state)+` || `+plainText(`s.querySelector('.word')`)+` === `+quote(state)+`); })()`)
}

// State returns the state of the last message with that text, as a word of
// decisions.md 22.
func (p *Page) State(text string) (string, error) {
	return Eval[string](p, bubble(text, false)+`?.querySelector('.state')?.dataset.state ?? ''`)
}

// click is the JavaScript that clicks an element, if a pointer could: it is
// there, not disabled, and nothing else lies over its middle. Looking and
// clicking are one task, so the page cannot draw the element anew in between.
const click = `((e) => {
	if (!e || e.matches(':disabled')) return false;
	e.scrollIntoViewIfNeeded();
	const r = e.getClientRects()[0];
	const hit = r && document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
	if (!hit || !(e.contains(hit) || hit.closest('label')?.control === e)) return false;
	e.focus({ preventScroll: true });
	e.click();
	return true;
})`

// Click clicks the first element that the selector finds, once a pointer could.
func (p *Page) Click(selector string) error {
	return p.wait(selector+" to click on", click+`(document.querySelector(`+quote(selector)+`))`, asUser)
}

// asUser makes an evaluation count as an act of the user, as sound needs.
func asUser(e *runtime.EvaluateParams) { yes := true; e.UserGesture = &yes }

// ClickText clicks the first button, link or choice with exactly those words.
func (p *Page) ClickText(words string) error {
	find := `[...document.querySelectorAll('dialog[open] button, button, a, .choice-key')].find((b) => b.getClientRects().length && !b.disabled && (` + plainText(`b`) + `.trim() === ` + quote(words) + ` || b.getAttribute('aria-label') === ` + quote(words) + `))`
	return p.wait("the button "+quote(words), `((b) => b && ((b.querySelector('input') ?? b).click(), true))(`+find+`)`, asUser)
}

// Focus puts the keyboard on the first element that the selector finds.
func (p *Page) Focus(selector string) error {
	ok, err := Eval[bool](p, `(() => { const e = document.querySelector(`+quote(selector)+`); e?.focus(); return document.activeElement === e && e !== null; })()`)
	if err == nil && !ok {
		err = fmt.Errorf("browser: %s cannot take the keyboard", selector)
	}
	return err
}

// Fill replaces the content of a field, as pasting into it does.
func (p *Page) Fill(selector, value string) error {
	ok, err := Eval[bool](p, `(() => { const e = document.querySelector(`+quote(selector)+`); if (!e) return false; e.value = `+quote(value)+`; e.dispatchEvent(new Event('input', { bubbles: true })); return true; })()`)
	if err == nil && !ok {
		err = fmt.Errorf("browser: there is no field %s", selector)
	}
	return err
}

// Press presses the keys one after the other; kb has the names of those that
// are not characters. As with a real keyboard, a key whose keydown the page
// takes for itself types nothing (chromedp.KeyEvent types it all the same).
// However long it takes to hand them over, the keys bear one time.
func (p *Page) Press(keys string, modifiers ...chromedp.Modifier) error {
	var held int64
	for _, m := range modifiers {
		held |= int64(m)
	}
	now := input.TimeSinceEpoch(float64(time.Now().UnixMilli()) / 1000)
	for _, r := range keys {
		var text string
		var events []*input.DispatchKeyEventParams
		for _, e := range kb.Encode(r) {
			if e.Type == kb.KeyChar {
				text = e.Text
				continue
			}
			e.Modifiers |= held
			events = append(events, e)
		}
		for _, e := range events {
			e.Timestamp = now
			if e.Type != kb.KeyUp && text != "" {
				e.Type, e.Text = kb.KeyDown, text
			}
			if err := chromedp.Do(p.ctx, do(input.DispatchKeyEvent, *e)); err != nil {
				return fmt.Errorf("browser: press: %w", err)
			}
		}
	}
	return nil
}

// SetTheme chooses day, night, red or auto, as the settings screen does.
func (p *Page) SetTheme(theme string) error {
	_, err := Eval[bool](p, `dispatchEvent(new CustomEvent('outrider:theme', { detail: `+quote(theme)+` }))`)
	return err
}

// SetPosition lets the page read this position (latitude, longitude, accuracy
// in metres); nil denies it.
func (p *Page) SetPosition(at *[3]float64) error {
	params := emulation.SetGeolocationOverrideParams{}
	setting := browser.PermissionSettingDenied
	if at != nil {
		setting = browser.PermissionSettingGranted
		params = emulation.SetGeolocationOverrideParams{Latitude: &at[0], Longitude: &at[1], Accuracy: &at[2]}
	}
	c := chromedp.FromContext(p.ctx)
	_, err := cdp.Call(p.ctx, c.Browser, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "geolocation"}, Setting: setting, Origin: p.origin, BrowserContextID: c.BrowserContextID,
	})
	if err != nil {
		return fmt.Errorf("browser: set position: %w", err)
	}
	return chromedp.Do(p.ctx, do(emulation.SetGeolocationOverride, params))
}

// Resize changes the window.
func (p *Page) Resize(width, height int, mobile bool) error {
	return chromedp.Do(p.ctx, do(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(width), Height: int64(height), DeviceScaleFactor: 1, Mobile: mobile}))
}
