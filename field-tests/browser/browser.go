// Package browser drives a real headless Chromium against a node's page.
//
// A Browser is one Chromium process; each Page is a window of its own with its
// own cookies, as another person's browser would be. A Page records whatever
// no good page does: exceptions, errors on the console, violations of the
// content policy, dialogs, and requests to any other origin. Tests ask for that
// record with Problems.
//
// Helpers return errors and poll with a deadline, since a real process answers
// when it pleases.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/chromedp/chromedp"
)

// ErrMissing means that there is no Chromium on this machine.
var ErrMissing = errors.New("browser: Chromium is missing; install it with: apt-get install chromium")

// names are the programs that will do, best first.
var names = []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"}

// Find returns the path of Chromium, or ErrMissing.
func Find() (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrMissing
}

// Options alter how Chromium is started. The zero value is good.
type Options struct {
	// IgnoreCertificates accepts any TLS certificate; for tests of everything
	// but certificates.
	IgnoreCertificates bool
	// Flags are further command-line flags without the leading dashes.
	Flags map[string]any
}

// A Browser is a running Chromium with a fresh profile.
type Browser struct {
	ctx    context.Context
	cancel []context.CancelFunc
	dir    string
}

// startTimeout bounds the start; a loaded machine with two cores needs a while.
const startTimeout = 60 * time.Second

// Start starts a headless Chromium. Close ends it and removes its profile.
func Start(ctx context.Context, o Options) (*Browser, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "outrider-browser-")
	if err != nil {
		return nil, fmt.Errorf("browser: start: %w", err)
	}
	b := &Browser{dir: dir}
	alloc, stop := chromedp.NewExecAllocator(ctx, flags(path, dir, o)...)
	b.cancel = append(b.cancel, stop)
	b.ctx, stop = chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	b.cancel = append(b.cancel, stop)
	started := make(chan error, 1)
	go func() { started <- chromedp.Do(b.ctx) }()
	select {
	case err = <-started:
	case <-time.After(startTimeout):
		err = errors.New("no answer in time")
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("browser: start %s: %w", path, err)
	}
	return b, nil
}

func flags(path, dir string, o Options) []chromedp.ExecAllocatorOption {
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.Headless, chromedp.NoSandbox, chromedp.NoFirstRun}
	set := map[string]any{
		"disable-gpu": true, "disable-quic": true, "disable-background-networking": true, "disable-component-update": true,
		"disable-sync": true, "disable-extensions": true, "disable-default-apps": true, "disable-breakpad": true, "no-pings": true,
		"disable-dev-shm-usage": true, "force-color-profile": "srgb", "disable-domain-reliability": true, "metrics-recording-only": true,
		"disable-features": "Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,AutofillServerCommunication,CertificateTransparencyComponentUpdater",
		"password-store":   "basic", "use-mock-keychain": true, "mute-audio": true, "hide-scrollbars": true, "lang": "en-GB",
		"ignore-certificate-errors": o.IgnoreCertificates, "disable-background-timer-throttling": true, "disable-renderer-backgrounding": true,
	}
	for k, v := range o.Flags {
		set[k] = v
	}
	for k, v := range set {
		opts = append(opts, chromedp.Flag(k, v))
	}
	return opts
}

// Close ends Chromium and waits for it.
func (b *Browser) Close() {
	for i := len(b.cancel) - 1; i >= 0; i-- {
		b.cancel[i]()
	}
	os.RemoveAll(b.dir)
}
