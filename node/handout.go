package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"outrider/node/api"
)

// A handout is the plain-HTTP door that gives the page's CA to devices. It is
// shut but for the time an operator asked for.
type handout struct {
	serve  http.HandlerFunc
	log    *slog.Logger
	guests *api.Guests   // who comes, however often it is opened
	wake   chan struct{} // 1 deep: opened, shut, or open for longer

	mu        sync.Mutex
	listeners []net.Listener // open; nil when shut
	fresh     []net.Listener // not served yet
	end       time.Time
}

// openAt listens, or goes on listening, until a moment.
func (h *handout) openAt(at []netip.AddrPort, until time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.rouse()
	if h.listeners != nil {
		h.end = until
		return nil
	}
	var all []net.Listener
	for _, a := range at {
		l, err := net.Listen("tcp", a.String())
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return errBusyPort(a, err)
		}
		all = append(all, l)
	}
	h.listeners, h.fresh, h.end = all, all, until
	h.log.Info("the page's CA is handed out in plain HTTP", "until", until.Format(time.RFC3339))
	return nil
}

func (h *handout) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// shut closes the door now.
func (h *handout) shut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		return
	}
	for _, l := range h.listeners {
		l.Close()
	}
	h.listeners, h.fresh, h.end = nil, nil, time.Time{}
	h.rouse()
}

func (h *handout) open() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listeners != nil
}

func (h *handout) until() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.end
}

// port is where it listens; 0 when it does not.
func (h *handout) port() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) == 0 {
		return 0
	}
	return h.listeners[0].Addr().(*net.TCPAddr).Port
}

// run serves whenever the door is open, until ctx ends.
func (h *handout) run(ctx context.Context) {
	defer h.shut()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var stop context.CancelFunc
	var served sync.WaitGroup
	defer served.Wait()
	for {
		fresh, left := h.next()
		switch {
		case left <= 0:
			if stop != nil {
				stop()
				served.Wait()
				stop = nil
			}
			h.shut()
		case fresh != nil:
			if stop != nil { // shut and opened again between two looks
				stop()
				served.Wait()
			}
			stop = h.start(ctx, fresh, &served)
		}
		timer.Reset(max(left, 0))
		if left <= 0 {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			if stop != nil {
				stop()
			}
			return
		case <-h.wake:
		case <-timer.C:
		}
	}
}

// next takes listeners that are not served yet, and tells how long is left.
func (h *handout) next() ([]net.Listener, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh := h.fresh
	h.fresh = nil
	if h.listeners == nil {
		return nil, 0
	}
	return fresh, time.Until(h.end)
}

// start serves listeners until the returned function is called. Limits are
// those of the page.
func (h *handout) start(ctx context.Context, all []net.Listener, served *sync.WaitGroup) context.CancelFunc {
	ctx, stop := context.WithCancel(ctx)
	l := api.Listeners{Log: h.log, Guests: h.guests}
	for _, ln := range all {
		l.Pages = append(l.Pages, api.Page{Listener: ln})
	}
	served.Go(func() {
		if err := l.Serve(ctx, h.serve); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			h.log.Warn("the hand-out of the CA ended early", "err", err)
		}
	})
	return stop
}
