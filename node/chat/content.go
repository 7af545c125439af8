package chat

import (
	"bytes"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"outrider/mesh/envelope"
)

// typeComplete tells an author with several reader devices which files are
// complete at one of them. Its body is that of a receipt.
const typeComplete envelope.Type = 9

// fillContent reads the body of a message into its record.
func (s *Session) fillContent(r *record, in envelope.Inner) error {
	switch in.Type {
	case envelope.TypeText:
		t, err := envelope.ParseText(in.Body)
		if err != nil {
			return err
		}
		if len(t.Text) > MaxText || !utf8.ValidString(t.Text) {
			return fmt.Errorf("chat: text: %w", envelope.ErrMalformed)
		}
		r.Type, r.Text = TypeText, t.Text
	case envelope.TypeFile:
		f, err := envelope.ParseFile(in.Body)
		if err != nil {
			return err
		}
		r.Type, r.File = TypeFile, &fileRecord{Body: in.Body, Root: f.Seal.Blob.Root}
	case envelope.TypeLocation:
		if _, err := envelope.ParseLocation(in.Body); err != nil {
			return err
		}
		r.Type, r.Loc = TypeLocation, in.Body
	case envelope.TypeCallRecord:
		return r.fillCall(in.Body)
	}
	return nil
}

// innerOf makes what is inside the seal of an outgoing message. Time of
// sending and TTL stay those of the first sealing.
func (s *Session) innerOf(r *record) (envelope.Inner, error) {
	in := envelope.Inner{
		Sent: uint64(r.SentMS), TTL: time.Duration(r.TTL) * time.Second, Burn: time.Duration(r.Burn) * time.Second,
	}
	var err error
	switch r.Type {
	case TypeText:
		in.Type = envelope.TypeText
		in.Body, err = envelope.Text{Text: r.Text}.Encode()
	case TypeFile:
		in.Type, in.Body = envelope.TypeFile, r.File.Body
	case TypeLocation:
		in.Type, in.Body = envelope.TypeLocation, r.Loc
	case TypeCall:
		in.Type, in.Body = envelope.TypeCallRecord, r.Call
	default:
		err = errShape
	}
	return in, err
}

// same tells whether two records of one sender and time have one content.
func (r *record) same(o *record) bool {
	return r.Type == o.Type && r.Text == o.Text && bytes.Equal(r.Loc, o.Loc) && bytes.Equal(r.Call, o.Call) && (r.File == nil) == (o.File == nil) &&
		(r.File == nil || r.File.Root == o.File.Root)
}

// live tells whether the message is a live position.
func (r *record) live() bool {
	if r.Type != TypeLocation || r.Loc == nil {
		return false
	}
	l, err := envelope.ParseLocation(r.Loc)
	return err == nil && l.Kind == envelope.LocationLive
}

func encodeLocation(l Location, now time.Time) ([]byte, error) {
	if !(math.Abs(l.Lat) <= 90 && math.Abs(l.Lon) <= 180) {
		return nil, fmt.Errorf("chat: position is not on Earth: %w", ErrInvalid)
	}
	if len(l.Note) > MaxNote || !utf8.ValidString(l.Note) {
		return nil, fmt.Errorf("chat: a note has at most %d bytes of UTF-8: %w", MaxNote, ErrInvalid)
	}
	w := envelope.Location{
		Kind: envelope.LocationStatic, Latitude: int32(math.Round(l.Lat * 1e7)), Longitude: int32(math.Round(l.Lon * 1e7)),
		Altitude: envelope.AltitudeUnknown, Accuracy: envelope.AccuracyUnknown, Time: uint64(max(0, now.UnixMilli())),
		Course: envelope.CourseUnknown, Speed: envelope.SpeedUnknown, Note: l.Note,
	}
	if l.Live {
		w.Kind = envelope.LocationLive
	}
	if l.AccuracyM > 0 {
		w.Accuracy = uint32(min(uint64(l.AccuracyM)*100, envelope.AccuracyUnknown-1))
	}
	if l.Fix != nil {
		if err := l.Fix.put(&w); err != nil {
			return nil, err
		}
	}
	b, err := w.Encode()
	if err != nil {
		return nil, fmt.Errorf("chat: position: %v: %w", err, ErrInvalid)
	}
	return b, nil
}

func locationView(body []byte) *Location {
	w, err := envelope.ParseLocation(body)
	if err != nil {
		return nil
	}
	l := &Location{
		Lat: float64(w.Latitude) / 1e7, Lon: float64(w.Longitude) / 1e7, Live: w.Kind == envelope.LocationLive,
	}
	l.Fix, l.Note = fixOf(w)
	if w.Accuracy != envelope.AccuracyUnknown {
		l.AccuracyM = uint32((uint64(w.Accuracy) + 99) / 100)
	}
	return l
}

func liveKey(from, conv []byte) [][]byte { return [][]byte{from, conv} }

// replaceLive makes room for a live position: the sender's earlier one goes.
// newer is true when a later one is here already, or comes in the same batch.
func (s *Session) replaceLive(o *opening, r *record) (newer bool, err error) {
	for _, other := range o.visible {
		if other.live() && other.From == r.From && other.Peer == r.Peer && other.SentMS > r.SentMS {
			return true, nil
		}
	}
	conv := s.convOf(r.Peer)
	old, err := s.findOrNil(nameLive, liveKey(r.From[:], conv[:])...)
	switch {
	case err != nil:
		return false, err
	case old != nil && old.SentMS > r.SentMS:
		return true, nil
	case old != nil:
		s.erase(o.t, old)
	}
	o.t.add(s.nameOp(r.Msg, nameLive, liveKey(r.From[:], conv[:])...))
	return false, nil
}
