package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"outrider/field-tests/scenario"
)

// reopen opens B's gate to A and returns the moment of their contact, as B
// tells it.
func (p *Pair) reopen(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready, up := make(chan struct{}), make(chan time.Time, 1)
	end := make(chan error, 1)
	go func() {
		end <- p.B.API.Events(ctx, func(e scenario.Event) {
			if e.Name == "hello" {
				close(ready)
			}
			if e.Name == "link" && isUp(e.Data, p.AID) {
				select {
				case up <- time.Now():
				default:
				}
			}
		})
	}()
	select {
	case <-ready:
	case err := <-end:
		return time.Time{}, errors.Join(fmt.Errorf("bench: events of %s ended", p.B.Name), err)
	}
	if err := p.B.API.SetLink(ctx, p.AID, true); err != nil {
		return time.Time{}, err
	}
	select {
	case t := <-up:
		return t, nil
	case err := <-end:
		return time.Time{}, errors.Join(fmt.Errorf("bench: events of %s ended", p.B.Name), err)
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("bench: no contact after the gate was opened: %w", ctx.Err())
	}
}

func isUp(data json.RawMessage, node string) bool {
	var l scenario.Link
	return json.Unmarshal(data, &l) == nil && l.Node == node && l.Up
}
