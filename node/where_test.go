package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"outrider/mesh/identity"
)

// gpsdAt is a gpsd whose receiver stands at a latitude that can be changed.
func gpsdAt(t *testing.T) (addr string, lat *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	lat = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					if _, err := fmt.Fprintf(c, `{"class":"TPV","mode":2,"lat":%d,"lon":11,"eph":6}`+"\n", lat.Load()); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond) // a receiver reports by its own clock; nothing waits for this
				}
			}()
		}
	}()
	return l.Addr().String(), lat
}

type place struct {
	Location *struct {
		Lat       float64
		Live      bool
		MGRS      string
		StaleAt   string    `json:"stale_at"`
		LiveUntil time.Time `json:"live_until"`
	}
}

// places are the positions in the user's only conversation.
func (r *running) places() (out []place, err error) {
	var convs struct{ Conversations []struct{ ID string } }
	if err := r.do("GET", "/v1/conversations", nil, &convs); err != nil || len(convs.Conversations) == 0 {
		return nil, errors.Join(err, io.EOF)
	}
	var page struct{ Messages []place }
	err = r.do("GET", "/v1/conversations/"+convs.Conversations[0].ID+"/messages", nil, &page)
	return page.Messages, err
}

func (r *running) awaitPlace(lat float64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("the one position at %v", lat), func() error {
		list, err := r.places()
		if err != nil {
			return err
		}
		if len(list) != 1 || list[0].Location == nil || list[0].Location.Lat != lat || !list[0].Location.Live || list[0].Location.StaleAt == "" {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

// L01: a live share crosses to another node, a later position takes the place
// of the earlier one, a restart does not end it, and stopping does.
func TestL01LiveShare(t *testing.T) {
	gpsd, lat := gpsdAt(t)
	lat.Store(48)
	adminHome, alice, link := founded(t)
	ca, cb := onLoopback(t), onLoopback(t)
	ca.Position.Source = "gpsd://" + gpsd
	cb.Gossip.Seeds = []string{ca.Gossip.Listen}
	joined := newHome(t)
	if _, _, err := joined.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	a, b := up(t, adminHome, ca), up(t, joined, cb)
	a.login(alice, alicePassword)
	b.login(link.User, bobPassword)
	if err := b.do("POST", "/v1/locations", map[string]any{"to": alice.String(), "here": true}, new(any)); err == nil || !strings.Contains(err.Error(), "no_receiver") {
		t.Errorf("a node without receiver: %v", err)
	}
	live := map[string]any{"to": link.User.String(), "for_s": 600, "every_s": 10}
	if err := a.do("POST", "/v1/locations/live", live, new(any)); err != nil {
		t.Fatal(err)
	}
	b.awaitPlace(48)
	lat.Store(49)
	b.awaitPlace(49)
	if err := a.down(); err != nil {
		t.Fatal(err)
	}
	lat.Store(50)
	var n *Node
	a = upWith(t, adminHome, ca, func(made *Node) { n = made })
	a.login(alice, alicePassword)
	b.awaitPlace(50)
	s, ok := n.chat.Session(alice)
	if !ok {
		t.Fatal("alice is locked")
	}
	stale, err := s.LiveShares(t.Context())
	if err != nil || len(stale) != 1 {
		t.Fatal(stale, err)
	}
	a.stopLive(link.User)
	b.awaitEnd()
	n.where.mu.Lock()
	clear(n.where.sent) // the next one is due
	n.where.mu.Unlock()
	n.where.shareOne(t.Context(), s, stale[0]) // as if read before the stop
	if list, err := a.places(); err != nil || len(list) != 1 || list[0].Location.LiveUntil.After(time.Now()) {
		t.Errorf("sent after the end: %+v, %v", list, err)
	}
	if err := errors.Join(a.down(), b.down()); err != nil {
		t.Error(err)
	}
}

// awaitEnd waits until the one position is of a share that has ended.
func (r *running) awaitEnd() {
	r.t.Helper()
	eventually(r.t, "the end of the live share", func() error {
		list, err := r.places()
		if err == nil && (len(list) != 1 || list[0].Location == nil || list[0].Location.LiveUntil.After(time.Now())) {
			err = fmt.Errorf("%+v", list)
		}
		return err
	})
}

func (r *running) stopLive(with identity.UserID) {
	r.t.Helper()
	var out struct{ Stopped int }
	if err := r.do("DELETE", "/v1/locations/live?to="+with.String(), nil, &out); err != nil || out.Stopped != 1 {
		r.t.Errorf("stopped %d, %v", out.Stopped, err)
	}
	var left struct{ Shares []any }
	if err := r.do("GET", "/v1/locations/live", nil, &left); err != nil || len(left.Shares) != 0 {
		r.t.Errorf("left %v, %v", left, err)
	}
}
