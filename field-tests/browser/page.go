package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience is how long waiting helpers wait before they give up. It is long:
// nodes seal keys for seconds, and other windows share the processors.
const Patience = 60 * time.Second

// pause between two looks at the page; a real browser has no event for
// "the words I wait for are there".
const pause = 25 * time.Millisecond

// A Request is one that the page made.
type Request struct {
	ID, Method, URL string
	Bytes           int64 // over the wire, headers and body, when it is known
}

// A Page is one window with its own cookies and storage.
type Page struct {
	ctx    context.Context
	cancel context.CancelFunc
	origin string

	mu       sync.Mutex
	problems []string
	requests []Request
	frames   [][]byte // screencast
}

// PageOptions describe a window.
type PageOptions struct {
	Width, Height int  // CSS pixels; default 1280 x 800
	Mobile        bool // touch, and a phone's viewport rules
	Light         bool // the system prefers a light scheme
	StillMotion   bool // the system prefers reduced motion
	Lang          string
	Script        string // runs in every document before anything of the page
}

// watcher runs before anything of the page in every document: it notes what
// the content policy refused. Scripts of the test itself are not under it.
const watcher = `window.__violations = [];
document.addEventListener('securitypolicyviolation', (e) => window.__violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber + ' ' + e.sample));`

// Page opens a window.
func (b *Browser) Page(o PageOptions) (*Page, error) {
	if o.Width == 0 {
		o.Width, o.Height = 1280, 800
	}
	p := &Page{}
	p.ctx, p.cancel = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.heard))
	scheme, motion := "dark", "no-preference"
	if o.Light {
		scheme = "light"
	}
	if o.StillMotion {
		motion = "reduce"
	}
	steps := []chromedp.Action[chromedp.Void]{
		do(network.Enable, network.EnableParams{}), do(log.Enable, cdp.Empty{}), do(page.Enable, page.EnableParams{}),
		do(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watcher}),
		do(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		do(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}}),
		do(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(o.Width), Height: int64(o.Height), DeviceScaleFactor: 1, Mobile: o.Mobile}),
	}
	if o.Script != "" {
		steps = append(steps, do(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: o.Script}))
	}
	if o.Lang != "" {
		steps = append(steps, do(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: "Mozilla/5.0 (X11; Linux) Chrome/156 test", AcceptLanguage: o.Lang}))
	}
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.cancel()
		return nil, fmt.Errorf("browser: open a window: %w", err)
	}
	return p, nil
}

// do makes an action of a protocol command whose answer does not matter.
func do[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, c, params)
		return chromedp.Void{}, err
	}
}

// heard records events. It runs on the reader's goroutine and must not wait.
func (p *Page) heard(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		p.problem("exception", e.ExceptionDetails.Text+" "+describe(e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "assert" {
			p.problem("console error", describeAll(e.Args))
		}
	case *log.EventEntryAdded:
		// A call that the node refuses or does not answer is logged as a network
		// error; the page deals with those. Everything else is not expected.
		if e.Entry.Level == "error" && e.Entry.Source != "network" {
			p.problem("log", string(e.Entry.Source)+": "+e.Entry.Text)
		}
	case *page.EventJavascriptDialogOpening:
		p.problem("dialog", e.Message)
		go chromedp.Do(p.ctx, do(page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{}))
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, Request{ID: string(e.RequestID), Method: e.Request.Method, URL: e.Request.URL})
		if p.origin != "" && !sameOrigin(p.origin, e.Request.URL) {
			p.problem("request to another origin", e.Request.URL)
		}
	case *network.EventLoadingFinished:
		for i := range p.requests {
			if p.requests[i].ID == string(e.RequestID) {
				p.requests[i].Bytes = int64(e.EncodedDataLength)
			}
		}
	case *page.EventScreencastFrame:
		p.frames = append(p.frames, slices.Clone(e.Data))
		id := e.SessionID
		go chromedp.Do(p.ctx, do(page.ScreencastFrameAck, page.ScreencastFrameAckParams{SessionID: id}))
	}
}

func (p *Page) problem(kind, what string) { p.problems = append(p.problems, kind+": "+what) }

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description + string(o.Value)
}

func describeAll(os []*runtime.RemoteObject) string {
	var parts []string
	for _, o := range os {
		parts = append(parts, describe(o))
	}
	return strings.Join(parts, " ")
}

// sameOrigin allows what never leaves the page: blob: of the origin, data: and
// about: documents.
func sameOrigin(origin, raw string) bool {
	if strings.HasPrefix(raw, "blob:"+origin+"/") || strings.HasPrefix(raw, "about:") || strings.HasPrefix(raw, "data:") {
		return true
	}
	u, err := url.Parse(raw)
	return err == nil && u.Scheme+"://"+u.Host == origin
}

// Close closes the window.
func (p *Page) Close() { p.cancel() }

// Open loads an address and waits until the page shows its login or its
// screens. From then on requests to any other origin are problems.
func (p *Page) Open(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("browser: open: %w", err)
	}
	p.mu.Lock()
	p.origin = u.Scheme + "://" + u.Host
	p.mu.Unlock()
	if _, err := p.navigate(address); err != nil {
		return fmt.Errorf("browser: open %s: %w", address, err)
	}
	return p.Wait("the page", `document.querySelector('#login-submit, #shell') !== null`)
}

// navigate loads an address and returns when its document, if there is a new
// one, has taken the place of the old: what is asked next, the new one answers.
func (p *Page) navigate(address string) (refused string, err error) {
	load := func(ctx context.Context, t *chromedp.Target) (page.NavigateResult, error) {
		return cdp.Call(ctx, t, page.Navigate, page.NavigateParams{URL: address})
	}
	r, err := chromedp.Run(p.ctx, load)
	if err != nil || r.ErrorText != "" || r.LoaderID == "" {
		return r.ErrorText, err
	}
	there := func(ctx context.Context, t *chromedp.Target) (bool, error) {
		tree, err := cdp.Call(ctx, t, page.GetFrameTree, cdp.Empty{})
		return err == nil && tree.FrameTree.Frame.LoaderID == r.LoaderID, err
	}
	for end := time.Now().Add(Patience); ; {
		ok, err := chromedp.Run(p.ctx, there)
		if ok {
			return "", nil
		}
		if time.Now().After(end) || p.ctx.Err() != nil {
			return "", errors.Join(errors.New("the document did not come"), err)
		}
		<-time.After(pause) // polling with a deadline: a real process
	}
}

// Problems returns everything the page did that no good page does.
func (p *Page) Problems() []string {
	violations, err := Eval[[]string](p, `window.__violations ?? []`)
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.problems)
	for _, v := range violations {
		out = append(out, "content policy: "+v)
	}
	if err != nil {
		out = append(out, "browser: "+err.Error())
	}
	return out
}

// Requests returns the requests so far.
func (p *Page) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Eval evaluates JavaScript in the page; a promise is awaited.
func Eval[T any](p *Page, expression string) (T, error) { return evaluate[T](p, expression) }

func evaluate[T any](p *Page, expression string, how ...chromedp.EvaluateOption) (T, error) {
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, append(how, chromedp.EvalAwaitPromise)...))
	if err != nil {
		return v, fmt.Errorf("browser: evaluate: %w", err)
	}
	return v, nil
}

// Wait waits until a JavaScript condition holds. what names it in the error,
// together with the words on the screen.
func (p *Page) Wait(what, condition string) error { return p.wait(what, condition) }

func (p *Page) wait(what, condition string, how ...chromedp.EvaluateOption) error {
	end := time.Now().Add(Patience)
	for {
		ok, err := evaluate[bool](p, `(async () => Boolean(await (`+condition+`)))()`, how...)
		if ok && err == nil {
			return nil
		}
		if errors.Is(err, context.Canceled) {
			return err
		}
		if time.Now().After(end) {
			shown, _ := Eval[string](p, `document.body?.innerText.slice(0, 2000) ?? ''`)
			return fmt.Errorf("browser: %s did not come in %v (%v); the page shows:\n%s", what, Patience, err, shown)
		}
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Screenshot returns what the window shows, as PNG.
func (p *Page) Screenshot() ([]byte, error) {
	data, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return nil, fmt.Errorf("browser: screenshot: %w", err)
	}
	return data, nil
}

// SaveScreenshot writes what the window shows to a PNG file.
func (p *Page) SaveScreenshot(path string) error {
	data, err := p.Screenshot()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// Frames returns the frames that Record has collected so far.
func (p *Page) Frames() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.frames)
}

// Record collects every frame that the window shows while run runs, as PNGs.
func (p *Page) Record(run func() error) ([][]byte, error) {
	p.mu.Lock()
	p.frames = nil
	p.mu.Unlock()
	err := chromedp.Do(p.ctx, do(page.StartScreencast, page.StartScreencastParams{Format: page.StartScreencastFormatPng, EveryNthFrame: 1}))
	if err != nil {
		return nil, fmt.Errorf("browser: record: %w", err)
	}
	err = run()
	err = errors.Join(err, chromedp.Do(p.ctx, do(page.StopScreencast, cdp.Empty{})))
	return p.Frames(), err
}
