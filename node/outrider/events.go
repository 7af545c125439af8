package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	// eventMax bounds one event, in bytes.
	eventMax = 1 << 20
	// Pauses before a broken event stream is opened again.
	reopenFirst, reopenMost = 200 * time.Millisecond, 10 * time.Second
)

// event is one server-sent event (WHATWG HTML, section 9.2).
type event struct {
	id, name string
	data     []byte
}

// errEventSize means that an event is longer than eventMax.
var errEventSize = errors.New("an event of more than 1 MiB")

// readEvents parses a stream until it ends; each returns false to stop, which
// is not an error.
func readEvents(r io.Reader, each func(event) (bool, error)) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, eventMax)
	var e event
	id, hasData := "", false
	for sc.Scan() {
		line := sc.Text()
		if line == "" {
			if hasData {
				e.id = id
				if e.name == "" {
					e.name = "message"
				}
				if more, err := each(e); err != nil || !more {
					return err
				}
			}
			e, hasData = event{}, false
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.name = value
		case "id":
			if !strings.ContainsRune(value, 0) {
				id = value
			}
		case "data":
			if hasData {
				e.data = append(e.data, '\n')
			}
			if e.data, hasData = append(e.data, value...), true; len(e.data) > eventMax {
				return errEventSize
			}
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return errEventSize
	}
	if sc.Err() != nil {
		return sc.Err()
	}
	return io.ErrUnexpectedEOF // a node's stream does not end by itself
}

// events follows the node's events until each says stop or ctx ends (both are
// no error), opening the stream again where it broke. It gives up when the
// node refuses, or does not answer at the first try.
func (c *client) events(ctx context.Context, each func(event) (bool, error)) error {
	last, pause, opened := "", reopenFirst, false
	for {
		stop := false
		var cause error
		err := c.stream(ctx, last, func(e event) (bool, error) {
			opened, pause = true, reopenFirst
			if e.id != "" {
				last = e.id
			}
			if !json.Valid(e.data) {
				cause = &failure{exit: exitFailed, code: "bad_answer", message: "an event is no JSON"}
				return false, cause
			}
			more, err := each(e)
			stop, cause = !more, err
			return more, err
		})
		var f *failure
		switch {
		case stop || cause != nil:
			return cause
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &f) && (!opened || f.exit == exitLogin || f.exit == exitRefused):
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause + rand.N(pause)):
			pause = min(pause*2, reopenMost)
		}
	}
}

func (c *client) stream(ctx context.Context, last string, each func(event) (bool, error)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://outrider/v1/events", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.transportError(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return apiError(resp)
	}
	return readEvents(resp.Body, each)
}
