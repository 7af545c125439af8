package node

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Whoever calls while one handler follows another is answered by the one or
// the other.
func TestTurnstileChanges(t *testing.T) {
	gate := newTurnstile()
	server := httptest.NewServer(gate)
	defer server.Close()

	const callers, turns = 8, 50
	var answered atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Post(server.URL, "text/plain", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" {
					t.Errorf("answered %q, %v", body, err)
				}
				resp.Body.Close()
				answered.Add(1)
			}
		})
	}
	turn := func(until func() bool) {
		ctx, end := context.WithCancel(t.Context())
		serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "served")
			if until() {
				end()
			}
		})
		gate.serve(ctx, serve)
	}
	for range turns {
		last := answered.Load() + callers
		turn(func() bool { return answered.Load() >= last })
	}
	close(stop)
	ended := make(chan struct{})
	go func() { defer close(ended); wg.Wait() }()
	ctx, end := context.WithCancel(t.Context())
	go func() { <-ended; end() }()
	gate.serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") }))
}

// A turn ends when its requests have; one that lasts hears of the end. Who
// waits between turns and goes away is forgotten.
func TestTurnstileEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := newTurnstile()
		ctx, end := context.WithCancel(t.Context())
		served := make(chan struct{})
		stream := make(chan error, 1)
		go func() {
			defer close(served)
			gate.serve(ctx, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				stream <- r.Context().Err()
			}))
		}()
		go gate.ServeHTTP(nil, httptest.NewRequest("GET", "/", nil))
		synctest.Wait()
		end()
		<-served
		if err := <-stream; err != context.Canceled {
			t.Errorf("a stream ended with %v", err)
		}
		gone, leave := context.WithCancel(t.Context())
		go leave()
		gate.ServeHTTP(nil, httptest.NewRequest("GET", "/", nil).WithContext(gone))
	})
}
