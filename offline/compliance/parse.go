package compliance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Parse reads one line. Unknown fields are passed over, and the oddities of
// the published format (features.md 2.10) are put right: the result is as this
// package would write it. Errors wrap ErrMalformed.
func Parse(line []byte) (*Record, error) {
	switch {
	case len(line) > MaxRecord:
		return nil, fmt.Errorf("compliance: a line of %d bytes, at most %d: %w", len(line), MaxRecord, ErrMalformed)
	case !utf8.Valid(line):
		return nil, fmt.Errorf("compliance: not UTF-8: %w", ErrMalformed)
	}
	var w wireRecord
	d := json.NewDecoder(bytes.NewReader(line))
	if err := d.Decode(&w); err != nil {
		return nil, fmt.Errorf("compliance: %v: %w", err, ErrMalformed)
	}
	if d.More() || strings.TrimSpace(string(line[d.InputOffset():])) != "" {
		return nil, fmt.Errorf("compliance: more than one object in a line: %w", ErrMalformed)
	}
	r, err := w.record()
	if err != nil {
		return nil, fmt.Errorf("compliance: %w", err)
	}
	return r, nil
}

// A wireRecord takes what others write.
type wireRecord struct {
	Record
	Links   []wireLink   `json:"links"`
	Control *wireControl `json:"control"`
	Edit    *wireEdit    `json:"edit"`
}

// wireLink: the field table calls it a string, the example an object.
type wireLink struct{ url string }

func (l *wireLink) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &l.url)
	}
	var o Link
	err := json.Unmarshal(b, &o)
	l.url = o.URL
	return err
}

// wireControl: the prose says addeduser and deleteduser, the records
// addedusers; the saved item has quid or guid.
type wireControl struct {
	Control
	AddedUser   []string `json:"addeduser"`
	DeletedUser []string `json:"deleteduser"`
}

// wireEdit: shareexpiration is spelled in two ways.
type wireEdit struct {
	Edit
	ShareExpiration *string `json:"shareexpiration"`
	Misspelled      *string `json:"shareexpiriation"`
}

// record puts oddities right and checks what must hold.
func (w *wireRecord) record() (*Record, error) {
	r := w.Record
	if r.MessageID == "" {
		r.MessageID = r.ID
	}
	if r.ID == r.MessageID {
		r.ID = ""
	}
	for _, l := range w.Links {
		r.Links = append(r.Links, Link{URL: l.url})
	}
	if w.Control != nil {
		r.Control = w.Control.control()
	}
	if w.Edit != nil {
		e := w.Edit.Edit
		if e.ShareExpiration = w.Edit.Misspelled; e.ShareExpiration == nil {
			e.ShareExpiration = w.Edit.ShareExpiration
		}
		r.Edit = &e
	}
	return &r, r.check()
}

func (w *wireControl) control() *Control {
	c := w.Control
	c.AddedUsers = append(c.AddedUsers, w.AddedUser...)
	c.DeletedUsers = append(c.DeletedUsers, w.DeletedUser...)
	if s := c.FileVaultInfo; s != nil {
		if s.GUID == "" {
			s.GUID = s.QUID
		}
		s.QUID = ""
	}
	return &c
}

// check refuses what no version of the format has. Only a text with links may
// lack its id: its published example does.
func (r *Record) check() error {
	bad := func(what string) error { return fmt.Errorf("%s: %w", what, ErrMalformed) }
	switch {
	case r.MsgType <= 0:
		return bad("no msgtype")
	case r.MessageID == "" && len(r.Links) == 0:
		return bad("no message_id")
	case r.ID != "" && r.ID != r.MessageID:
		return bad("id and message_id differ")
	case r.MsgTS != "" && !validTS(r.MsgTS):
		return bad("msg_ts")
	}
	for _, t := range []string{r.Time, r.TTL, r.BOR} {
		if _, err := ParseMoment(t); t != "" && err != nil {
			return err
		}
	}
	for _, d := range []*Degrees{r.lat(), r.lon()} {
		if d != nil && (*d > 180 || *d < -180) {
			return bad("coordinate")
		}
	}
	return nil
}

func (r *Record) lat() *Degrees {
	switch {
	case r.Location != nil:
		return &r.Location.Latitude
	case r.Edit != nil:
		return r.Edit.Latitude
	}
	return nil
}

func (r *Record) lon() *Degrees {
	switch {
	case r.Location != nil:
		return &r.Location.Longitude
	case r.Edit != nil:
		return r.Edit.Longitude
	}
	return nil
}

// ParseMoment reads the form of time; the day may be padded with a zero.
func ParseMoment(s string) (time.Time, error) {
	for _, layout := range []string{layoutTime, "1/02/06 3:04 PM", "01/02/06 03:04 PM"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("compliance: a moment has the form %q: %w", layoutTime, ErrMalformed)
}

func validTS(s string) bool {
	_, err := parseTS(s)
	return err == nil
}

// parseTS reads seconds, a dot and a fraction.
func parseTS(s string) (time.Time, error) {
	whole, frac, ok := strings.Cut(s, ".")
	bad := fmt.Errorf("compliance: msg_ts: %w", ErrMalformed)
	if !ok || len(whole) == 0 || len(whole) > 12 || len(frac) < 1 || len(frac) > 9 {
		return time.Time{}, bad
	}
	sec, err := strconv.ParseUint(whole, 10, 63)
	if err != nil {
		return time.Time{}, bad
	}
	nano, err := strconv.ParseUint(frac+strings.Repeat("0", 9-len(frac)), 10, 63)
	if err != nil {
		return time.Time{}, bad
	}
	return time.Unix(int64(sec), int64(nano)).UTC(), nil
}
