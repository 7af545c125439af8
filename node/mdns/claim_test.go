package mdns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// walk lets a claim act until it is quiet or for so long, and returns what it
// did and when it was.
func walk(c *claim, now time.Time, most time.Duration) (did []action, end time.Time) {
	last := now.Add(most)
	for !c.at.IsZero() && !c.at.After(last) {
		now = c.at
		if a := c.due(now); a != nothing {
			did = append(did, a)
		}
	}
	return did, now
}

func TestN04NameIsProbedAndAnnounced(t *testing.T) {
	start := time.Unix(1e9, 0)
	c := newClaim(name, start)
	if c.ours || c.due(start.Add(-time.Second)) != nothing {
		t.Fatal("a name is ours before anybody was asked")
	}
	did, end := walk(c, start, time.Minute)
	if !slices.Equal(did, []action{probe, probe, probe, announce, announce}) || !c.ours || c.name() != name {
		t.Errorf("did %v, has %q", did, c.name())
	}
	if took := end.Sub(start); took < 3*probePause+announcePause || took > 4*probePause+announcePause {
		t.Errorf("it took %v", took)
	}
}

func TestN04TakenNameIsLeft(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := newClaim(name, now)
	c.conflict(now) // not asked yet: whoever it is will say so again
	if c.name() != name {
		t.Fatal("a name is left before it was asked for")
	}
	_, now = walk(c, now, probePause)
	c.conflict(now)
	if want := "outrider-abcdef-2.local"; c.name() != want || c.ours {
		t.Fatalf("name %q, want %q", c.name(), want)
	}
	_, now = walk(c, now, time.Minute)
	if !c.ours {
		t.Fatal("the second name is not ours")
	}
	c.conflict(now) // another machine came with it: both ask again
	if c.ours || c.name() != "outrider-abcdef-2.local" {
		t.Fatalf("after a conflict about our own: %q, ours %v", c.name(), c.ours)
	}
	if did, _ := walk(c, now, time.Minute); len(did) != probes+announcements || !c.ours {
		t.Errorf("nobody defends it, and it is not ours again: %v", did)
	}
}

// Whoever says that every name is theirs gets silence, not a storm.
func TestN04HostileConflictsAreBounded(t *testing.T) {
	start := time.Unix(1e9, 0)
	now, sent, names := start, 0, map[string]bool{}
	c := newClaim(name, now)
	for now.Sub(start) < time.Hour {
		if c.at.IsZero() {
			c.conflict(now)
			continue
		}
		now = c.at
		if c.due(now) != nothing {
			sent++
			c.conflict(now)
			c.conflict(now)
		}
		names[c.name()] = true
	}
	if len(names) != namesMost+1 || !names[""] {
		t.Errorf("%d names", len(names))
	}
	if sent > 10*namesMost {
		t.Errorf("%d packets in an hour", sent)
	}
	c = newClaim(name, now)
	for range conflictsMost {
		c.note(now)
	}
	c.restart(now)
	if c.at.Sub(now) < conflictsPause {
		t.Error("it goes on as fast after many conflicts")
	}
	if len(c.lost) > conflictsMost {
		t.Errorf("%d conflicts are remembered", len(c.lost))
	}
}

func TestN04Ties(t *testing.T) {
	low, high := netip.MustParseAddr("192.168.7.1"), netip.MustParseAddr("192.168.7.2")
	a, b := recordsFor([]netip.Addr{low}), recordsFor([]netip.Addr{high})
	six := recordsFor([]netip.Addr{netip.MustParseAddr("fd00::1")})
	for _, x := range []struct {
		ours, theirs []record
		won, differ  bool
	}{
		{a, a, false, false}, {a, b, false, true}, {b, a, true, true}, {six, b, true, true},
		{append(slices.Clone(a), six...), a, true, true}, {a, append(slices.Clone(a), six...), false, true},
		{append(slices.Clone(six), a...), append(slices.Clone(a), six...), false, false},
	} {
		if won, differ := later(x.ours, x.theirs); won != x.won || differ != x.differ {
			t.Errorf("%v against %v: won %v, differ %v", x.ours, x.theirs, won, differ)
		}
	}
	now := time.Unix(1e9, 0)
	c := newClaim(name, now)
	_, now = walk(c, now, probePause)
	c.tie(true, now)
	if c.sent == 0 {
		t.Error("the winner of a tie gives way")
	}
	c.tie(false, now)
	if c.sent != 0 || c.at.Sub(now) != deferTime || c.name() != name {
		t.Error("the loser of a tie does not wait")
	}
	for range tiesMost - 1 {
		now = c.at
		c.due(now)
		c.tie(false, now)
	}
	if c.name() == name {
		t.Error("ties are lost for ever")
	}
}

func TestN04NumbersFitALabel(t *testing.T) {
	long := strings.Repeat("x", 63)
	if got := numbered(long, 20); len(got) != 63 || !strings.HasSuffix(got, "x-20") {
		t.Errorf("%q", got)
	}
}

func TestN04PacketsOfOurOwn(t *testing.T) {
	for what, packet := range map[string][]byte{"probe": probeFor(name, own), "announcement": announcement(name, own)} {
		rs, response := recordsOf(packet, strings.ToUpper(name))
		if response != (what == "announcement") || len(rs) != 2 || rs[0].addr != own[0] || rs[1].addr != own[1] || len(packet) > 512 {
			t.Errorf("%s: response %v, %v, %d bytes", what, response, rs, len(packet))
		}
		if rs, _ := recordsOf(packet, "another.local"); len(rs) != 0 {
			t.Errorf("%s says something of another name: %v", what, rs)
		}
	}
	if a, _ := answer(probeFor(name, own[:1]), name, own, false); a == nil {
		t.Error("a probe for our name is not answered")
	}
	if probeFor(name, nil) != nil || announcement(name, nil) != nil {
		t.Error("a name without an address is spoken of")
	}
	mine := func(a netip.Addr) bool { return a == own[0] }
	rs, _ := recordsOf(announcement(name, own), name)
	if got := foreign(append(rs, record{typ: dnsmessage.TypeTXT}), mine); len(got) != 2 || got[0].addr != own[1] {
		t.Errorf("foreign records: %v", got)
	}
}

// A goodbye (TTL 0) takes nothing.
func TestN04GoodbyesAreNoConflict(t *testing.T) {
	n := dnsmessage.MustNewName(name + ".")
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true})
	if err := b.StartAnswers(); err != nil {
		t.Fatal(err)
	}
	for _, ttl := range []uint32{0, 120} {
		if err := b.AResource(dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET | flushBit, TTL: ttl}, dnsmessage.AResource{A: own[0].As4()}); err != nil {
			t.Fatal(err)
		}
	}
	packet, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if rs, response := recordsOf(packet, name); !response || len(rs) != 1 {
		t.Errorf("%v", rs)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(probeFor(name, own))
	f.Add(announcement(name, own))
	f.Add([]byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, packet []byte) {
		rs, _ := recordsOf(packet, name)
		if len(rs) > len(packet) {
			t.Fatalf("%d records in %d bytes", len(rs), len(packet))
		}
	})
}
