package chat

// An ending is what becomes of a row whose time is over. The sweep does it
// once a minute and shreds the keys; whoever reads before sees no more than
// after it.
type ending uint8

const (
	endsLater       ending = iota
	endsBurned             // its content, as it was read long enough ago; a note stays
	endsUndelivered        // its content; a note stays, so that its sender learns of it
	endsWhole              // all of it
)

func (s *Session) ending(r *record) ending {
	now := s.elapsed()
	switch {
	case now < r.ends():
		return endsLater
	case r.BurnEnds > 0 && now >= r.BurnEnds && now < r.Ends:
		return endsBurned
	case r.Out && !r.Synced && !r.Gone && !r.anyGot():
		return endsUndelivered
	}
	return endsWhole
}

// shown is get for a user's eyes: a row whose time is over is not there.
func (s *Session) shown(id MessageID) (*record, error) {
	r, err := s.get(id)
	if err == nil && s.ending(r) == endsWhole {
		return nil, ErrNotFound
	}
	return r, err
}
