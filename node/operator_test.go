package node

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
)

func TestContactsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContacts(nil, time.Now, slog.New(slog.DiscardHandler))
		a, b := madeUpNode(1), madeUpNode(2)
		began := time.Now()
		tx, rx := uint64(100), uint64(10)
		c.opened(b, "192.0.2.2:7411", "lan", func() (uint64, uint64) { return 7, 8 })
		c.opened(a, "192.0.2.1:7411", "wifi", func() (uint64, uint64) { return tx, rx })
		time.Sleep(time.Minute)
		tx, rx = 200, 20
		l := c.list()
		if len(l) != 2 || l[0].Peer != a || l[1].Peer != b {
			t.Fatalf("links: %+v", l)
		}
		if !l[0].Up || l[0].TxBytes != 200 || l[0].RxBytes != 20 || l[0].Class != "wifi" || l[0].Addr != "192.0.2.1:7411" || !l[0].Since.Equal(began) {
			t.Errorf("an open link: %+v", l[0])
		}
		c.closed(a)
		tx, rx = 999, 999 // of a link that is no more
		ended := time.Now()
		time.Sleep(time.Minute)
		if l := c.list()[0]; l.Up || l.TxBytes != 200 || l.RxBytes != 20 || !l.Since.Equal(ended) || !l.LastHeard.Equal(ended) {
			t.Errorf("a link that ended: %+v", l)
		}
		c.opened(a, "192.0.2.1:7411", "lan", func() (uint64, uint64) { return 1, 2 })
		if l := c.list()[0]; !l.Up || l.TxBytes != 201 || l.RxBytes != 22 || l.Class != "lan" {
			t.Errorf("the second link: %+v", l)
		}
		c.closed(a)
		c.closed(a) // once more counts nothing
		if l := c.list()[0]; l.TxBytes != 201 || l.RxBytes != 22 {
			t.Errorf("both together: %+v", l)
		}
	})
}

func TestTracesAreBounded(t *testing.T) {
	p := newPost(nil, func() {})
	id := func(i int) (id bundle.ID) {
		id[0], id[1], id[2] = byte(i>>16), byte(i>>8), byte(i)
		return id
	}
	for i := range maxTraced + 1 {
		p.carried(mesh.Carried{ID: id(i), Peer: madeUpNode(i)})
	}
	if len(p.traces) != maxTraced || len(p.order) != maxTraced {
		t.Errorf("%d traces in %d places, at most %d", len(p.traces), len(p.order), maxTraced)
	}
	if p.traces[id(0)] != nil || p.traces[id(1)] == nil || p.traces[id(maxTraced)] == nil {
		t.Error("not the oldest one was forgotten")
	}
	for i := range maxCarriers + 1 {
		for range 2 { // told again after every link
			p.carried(mesh.Carried{ID: id(7), Peer: madeUpNode(i), AtReader: i == maxCarriers})
		}
	}
	tr := p.traces[id(7)]
	if len(tr.carriers) != maxCarriers || !tr.atReader {
		t.Errorf("%d carriers, at a reader %v", len(tr.carriers), tr.atReader)
	}
	seen := map[any]bool{}
	for _, c := range tr.carriers {
		if seen[c] {
			t.Errorf("%v stands twice", c.Short())
		}
		seen[c] = true
	}
}
