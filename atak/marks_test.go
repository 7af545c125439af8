package atak

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"outrider/atak/cot"
)

// marks sends a mark from alpha's page to bravo and returns the message that
// bravo got.
func (n *node) marks(to *node, lat float64, note string, holds time.Duration) Message {
	n.t.Helper()
	m := Message{Kind: Mark, Expires: time.Now().Add(holds), Position: Position{
		Lat: lat, Lon: 11.77, HAE: cot.Unknown, CE: 12, Course: -1, Speed: -1, How: "m-g", Note: note, Callsign: to.user.self.Name,
	}}
	id, err := n.user.send(to.user.self.ID, "", m, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mesh.mu.Lock()
	defer n.mesh.mu.Unlock()
	return to.user.find(MessageID("in" + strings.TrimPrefix(string(id), "out"))).Message
}

func isMark(e cot.Event) bool { return e.Type == "b-m-p-s-m" }

// removes tells whether an event takes a mark off the map.
func removes(m Message) func(cot.Event) bool {
	return func(e cot.Event) bool {
		return e.Type == "t-x-d-d" && e.Find("link").Attr("uid") == markUID(m.ID) && e.Find("__forcedelete") != nil
	}
}

// L03: a position that was sent once stands on the map as one marker, in
// protobuf and in XML, for a client that connects later too, until it is taken
// back.
func TestL03MarkOnTheMap(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	b := nodes[1].device("ANDROID-bb", "bravo")
	b.negotiate()
	m := nodes[0].marks(nodes[1], 48.77, "bridge <down>", time.Hour)
	e := b.wait("the mark", isMark)
	r := e.Find("remarks")
	if e.UID != markUID(m.ID) || e.Point.Lat != 48.77 || e.Point.Lon != 11.77 || e.Point.CE != 12 || e.How != "m-g" || e.Callsign() != "alpha" ||
		e.Find("contact").Attr("endpoint") != "" || r == nil || r.Text != "alpha: bridge <down>" || e.Find("link").Attr("uid") != uidOf(nodes[0].user.self.ID) ||
		e.Find("archive") != nil || !strings.HasPrefix(e.Find("usericon").Attr("iconsetpath"), "COT_MAPPING_SPOTMAP/b-m-p-s-m/") {
		t.Errorf("mark: %s", e.XML())
	}
	if !e.Time.Equal(m.Sent.UTC().Truncate(time.Millisecond)) || !e.Stale.Equal(m.Expires.UTC().Truncate(time.Millisecond)) {
		t.Errorf("sent %v, expires %v: %s", m.Sent, m.Expires, e.XML())
	}
	m.Unread = false
	nodes[1].srv.Update(nodes[1].user.self.ID, m) // read at the page
	b.quiet("the mark once more", isMark)
	late := nodes[1].device("ANDROID-b2", "bravo")
	if again := late.wait("the mark", isMark); again.UID != e.UID || !again.Time.Equal(e.Time) {
		t.Errorf("shown as another object: %s", again.XML())
	}

	gone := m
	gone.Gone, gone.Position = true, Position{}
	nodes[1].mesh.mu.Lock()
	nodes[1].user.find(m.ID).Message = gone
	nodes[1].mesh.mu.Unlock()
	nodes[1].srv.Update(nodes[1].user.self.ID, gone)
	b.wait("the removal", removes(m))
	late.wait("the removal", removes(m))
	nodes[1].srv.Update(nodes[1].user.self.ID, m) // what was under way meanwhile
	b.quiet("what was taken back", func(e cot.Event) bool { return isMark(e) || removes(m)(e) })
	later := nodes[1].device("ANDROID-b3", "bravo")
	later.wait("the removal", removes(m)) // it may have the mark from before
	later.quiet("what was taken back", isMark)
}

// L03: a mark goes when its time is over.
func TestL03MarkExpires(t *testing.T) {
	nodes := world(t, "alpha", "bravo")
	var ahead atomic.Int64
	nodes[1].stop()
	nodes[1].cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	nodes[1].start()
	b := nodes[1].device("ANDROID-bb", "bravo")
	short, long := nodes[0].marks(nodes[1], 1, "", time.Hour), nodes[0].marks(nodes[1], 2, "", 3*time.Hour)
	b.wait("one mark", isMark)
	b.wait("the other", isMark)
	ahead.Store(int64(2 * time.Hour))
	b.wait("the removal", removes(short))
	late := nodes[1].device("ANDROID-b2", "bravo")
	if e := late.wait("what is left", isMark); e.UID != markUID(long.ID) || e.Find("remarks").Text != "alpha" {
		t.Errorf("left: %s", e.XML())
	}
	late.quiet("what has expired", isMark)
	b.quiet("another removal", func(e cot.Event) bool { return e.Type == "t-x-d-d" })
}

// A desk forgets the oldest marks behind a limit.
func TestMarksAreBounded(t *testing.T) {
	m := newMemory[mark]()
	for i := range maxRemembered + 1 {
		m.add(MessageID(rune(i+1)), mark{})
	}
	if _, ok := m.get(MessageID(rune(1))); ok || len(m.order) != maxRemembered {
		t.Errorf("%d are remembered", len(m.order))
	}
	if out := m.drop(func(mark) bool { return true }); len(out) != maxRemembered || len(m.order)+len(m.by) != 0 {
		t.Errorf("%d dropped, left %d", len(out), len(m.by))
	}
}
