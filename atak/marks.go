package atak

import (
	"time"

	"outrider/atak/cot"
)

// A mark is what the desk remembers of a place on the map: until when it stands,
// or that it was taken back.
type mark struct {
	until time.Time
	gone  bool
}

// mark shows a place somebody has sent, or takes it off the map. A client that
// comes meanwhile gets either: what was taken back is never shown after.
func (d *desk) mark(m Message, to ...*client) {
	d.markMu.Lock()
	defer d.markMu.Unlock()
	old, known := d.marks.get(m.ID)
	switch {
	case known && old.gone:
		m.Gone = true
	case !m.Gone && !m.Expires.After(d.srv.cfg.Now()):
		return // whoever has it sees it stale
	}
	d.marks.change(m.ID, func(mark, bool) (mark, bool) { return mark{m.Expires, m.Gone}, true })
	e := d.srv.unmark(m.ID)
	if !m.Gone {
		e = d.srv.mark(m)
	}
	for _, c := range to {
		c.send(e)
	}
}

// marked handles what the node tells about a mark: new ones and those taken back
// go to all clients, all else changes nothing on a map.
func (d *desk) marked(m Message) {
	d.markMu.Lock()
	old, known := d.marks.get(m.ID)
	d.markMu.Unlock()
	if !known || m.Gone && !old.gone {
		d.mark(m, d.all()...)
	}
}

// unmarkExpired takes marks off the maps whose time is over.
func (d *desk) unmarkExpired() {
	now := d.srv.cfg.Now()
	d.markMu.Lock()
	defer d.markMu.Unlock()
	for _, id := range d.marks.drop(func(o mark) bool { return !o.gone && !o.until.After(now) }) {
		for _, c := range d.all() {
			c.send(d.srv.unmark(id))
		}
	}
}

// markUID names a mark on the map. It is the message's own, so that one that is
// shown again is the same object. It is nobody's uid.
func markUID(id MessageID) string { return "OUTRIDER.mark." + string(id) }

// spotColour is the colour of our markers, as a signed ARGB number: cyan, like
// the people's tracks.
const spotColour = "-16711681"

// mark is a place as a spot marker of ATAK, without <archive/>: a device that was
// lost does not keep it, and gets it again while it stands. Its label is the sender's own name: what
// they wrote is a remark, which passes for nobody's name.
func (s *Server) mark(m Message) cot.Event {
	at := m.Position
	remarks := cot.E("remarks")
	if remarks.Text = m.Peer.Name; at.Note != "" {
		remarks.Text += ": " + at.Note
	}
	e := s.event(markUID(m.ID), "b-m-p-s-m", "h-e", 0, cot.E("contact", "callsign", m.Peer.Name),
		cot.E("link", "uid", uidOf(m.Peer.ID), "type", "a-f-G-U-C", "relation", "p-p", "parent_callsign", m.Peer.Name),
		cot.E("usericon", "iconsetpath", "COT_MAPPING_SPOTMAP/b-m-p-s-m/"+spotColour), cot.E("color", "argb", spotColour), remarks)
	if at.How != "" {
		e.How = at.How
	}
	if sent := m.Sent.UTC().Truncate(time.Millisecond); sent.Before(e.Time) { // a clock ahead of ours makes nothing newer than now
		e.Time, e.Start = sent, sent
	}
	e.Stale = m.Expires.UTC().Truncate(time.Millisecond)
	e.Point = cot.Point{Lat: at.Lat, Lon: at.Lon, HAE: at.HAE, CE: at.CE, LE: cot.Unknown}
	return e
}

// unmarkTime is for how long the removal of a marker is news.
const unmarkTime = 20 * time.Second

// unmark removes a marker.
func (s *Server) unmark(id MessageID) cot.Event {
	return s.event(newUID(), "t-x-d-d", "m-g", unmarkTime,
		cot.E("link", "uid", markUID(id), "type", "b-m-p-s-m", "relation", "p-p"), cot.E("__forcedelete"))
}
