package chat

import (
	"context"
	"math"
	"slices"
	"time"
)

const (
	placesScan = 1000           // newest messages of a conversation that are looked through for positions
	placesPage = 100            // of them at a time
	placesAge  = 24 * time.Hour // for how long a position is a place
	maxPlaces  = 200            // in one answer
)

// Places returns the positions of others that can be shown on a map, the newest
// first: those of the last day, of live ones the newest.
func (s *Session) Places(ctx context.Context) ([]Message, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	since := s.svc.cfg.Clock.Now().Add(-placesAge)
	var out []Message
	for id, c := range s.convs {
		if c.Peer == s.user {
			continue // the archive's queue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows, err := s.positions(id, since)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if m := s.view(r); m.Location != nil && s.withheld(r) == "" {
				out = append(out, m)
			}
		}
	}
	slices.SortFunc(out, func(a, b Message) int { return b.Sent.Compare(a.Sent) })
	return out[:min(len(out), maxPlaces)], nil
}

// positions are those in a conversation that another has sent since a time. Of
// live ones only the newest of each device is kept in the first place.
func (s *Session) positions(conv ConversationID, since time.Time) (out []*record, err error) {
	before := uint64(math.MaxUint64)
	for seen := 0; seen < placesScan; {
		rows, err := s.page(conv, before, placesPage)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if before = r.Order; r.Type == TypeLocation && !r.Out && r.SentMS > since.UnixMilli() {
				out = append(out, r)
			}
		}
		if seen += len(rows); len(rows) < placesPage || rows[len(rows)-1].SentMS < since.UnixMilli() {
			break
		}
	}
	return out, nil
}
