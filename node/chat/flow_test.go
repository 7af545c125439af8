package chat

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

func TestWaitingForKeysSurvivesAndGoesByItself(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.hide(p.bob)
		m := p.da.text(p.bob, "whenever you can")
		got := p.da.wantState(m.ID, StateWaiting)
		if got.Reason.Code != "no_keys" || got.Reason.Hint == "" {
			t.Errorf("reason %+v", got.Reason)
		}
		if f, err := p.da.session().Failures(t.Context()); err != nil || len(f) != 1 || f[0].ID != m.ID {
			t.Errorf("failures %v, %v", f, err)
		}
		p.a.mu.Lock()
		p.a.crashed = true // kill -9
		p.a.mu.Unlock()
		p.a.restart()
		p.settle()
		p.da.wantState(m.ID, StateWaiting)
		p.a.show(p.bob)
		p.settle()
		p.da.wantState(m.ID, StateDelivered)
		p.db.wantTexts(p.alice, "whenever you can")
	})
}

func TestMessageToAnUnknownIDWaits(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		stranger := identity.UserID{0xee}
		id, err := p.da.session().Resolve(t.Context(), stranger.String())
		if err != nil || id != stranger {
			t.Fatalf("resolve: %v, %v", id, err)
		}
		m, err := p.da.session().Send(t.Context(), Draft{To: id, Text: "x"})
		if err != nil || m.State != StateWaiting || m.To.Name == "" {
			t.Errorf("%+v, %v", m, err)
		}
		if r := m.Reason; r.Code != "unknown_id" || !strings.Contains(r.Text, stranger.String()) || !strings.Contains(r.Hint, "compare it") {
			t.Errorf("nobody is known by that id, and the reason is %+v", r)
		}
		why, err := p.da.session().Why(t.Context(), m.ID)
		if err != nil || !strings.Contains(why.Todo.String(), "Compare the identifier") || !strings.Contains(fmt.Sprint(why.Facts), stranger.String()) {
			t.Errorf("why: %+v, %v", why, err)
		}
		if f, err := p.da.session().Failures(t.Context()); err != nil || len(f) != 1 || f[0].Reason.Code != "unknown_id" {
			t.Errorf("failures %+v, %v", f, err)
		}
		if _, err := p.da.session().Retry(t.Context(), m.ID); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "goes by itself") || strings.Contains(err.Error(), "\n") {
			t.Errorf("retry of what waits for keys: %v", err)
		}
		p.change(func() { p.invited = map[identity.UserID]string{stranger: "Frank"} })
		m, err = p.da.session().Message(t.Context(), m.ID)
		if err != nil || m.Reason.Code != "no_keys" || m.To.Name != "Frank" {
			t.Errorf("once a join link names them: %+v, %v", m, err)
		}
	})
}

func TestLockedUsersMailWaitsAtTheNode(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "zero")
		p.settle() // the epoch is known
		p.b.svc.Lock(p.bob.id)
		var ids []MessageID
		for i := range 5 {
			ids = append(ids, p.da.text(p.bob, fmt.Sprint(i)).ID)
		}
		p.settle()
		for _, id := range ids {
			if m := p.da.wantState(id, StateAtNode); m.Reason.Code != "not_opened" {
				t.Errorf("reason %+v", m.Reason)
			}
		}
		if h := p.b.svc.Hosted(); len(h) != 1 || h[0].Unlocked || h[0].Waiting != 5 || h[0].Name != "Bob" {
			t.Errorf("hosted %+v", h)
		}
		if p.b.count() != 5 {
			t.Errorf("%d bundles wait, want 5", p.b.count())
		}
		p.b.restart0(t) // the node restarts and Bob stays locked
		p.settle()
		if h := p.b.svc.Hosted(); h[0].Waiting != 5 {
			t.Errorf("after a restart %d bundles wait", h[0].Waiting)
		}
		p.db.unlock()
		p.settle()
		p.db.wantTexts(p.alice, "zero", "0", "1", "2", "3", "4")
		for _, id := range ids {
			p.da.wantState(id, StateDelivered)
		}
	})
}

// restart0 restarts without unlocking.
func (n *node) restart0(t *testing.T) {
	n.down()
	n.up()
	synctest.Wait()
}

func TestDeliveryIsLearntAfterALock(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "x")
		f, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f"}, strings.NewReader("content"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.a.svc.Lock(p.alice.id)
		p.settle()
		p.db.wantTexts(p.alice, "x", "")
		p.da.unlock()
		p.settle()
		p.da.wantState(m.ID, StateDelivered)
		p.da.wantState(f.ID, StateDelivered)
	})
}

func TestMessageBeforeItsEpoch(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "early")
		var wrap *heldBundle
		var wrapID bundle.ID
		p.a.mu.Lock()
		for id, h := range p.a.held {
			if h.b.Header.Kind == bundle.KindEpoch {
				wrap, wrapID = h, id
			}
		}
		delete(p.a.held, wrapID)
		p.a.mu.Unlock()
		p.settle()
		p.db.wantTexts(p.alice) // carried as for anybody
		if p.b.count() != 1 {
			t.Fatalf("Bob's node holds %d bundles", p.b.count())
		}
		p.a.mu.Lock()
		p.a.held[wrapID] = wrap
		p.a.mu.Unlock()
		p.settle()
		p.db.wantTexts(p.alice, "early")
	})
}

func TestUnknownSenderWaitsForCertificates(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.b.hide(p.alice)
		m := p.da.text(p.bob, "who am I")
		p.settle()
		p.db.wantTexts(p.alice)
		p.da.wantState(m.ID, StateAtNode)
		p.b.show(p.alice)
		p.settle()
		p.db.wantTexts(p.alice, "who am I")
		p.da.wantState(m.ID, StateDelivered)
	})
}

func TestFrozenSenderIsNotAccepted(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.world.change(func() { p.alice.frozen = true })
		p.da.text(p.bob, "x")
		p.settle()
		p.db.wantTexts(p.alice)
		p.world.change(func() { p.alice.frozen = false })
		p.b.rosterChanged()
		p.settle()
		p.db.wantTexts(p.alice, "x")
	})
}

func TestRevokedRecipient(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.world.change(func() { p.bob.revoked = true })
		p.a.rosterChanged()
		m := p.da.text(p.bob, "x")
		if got := p.da.wantState(m.ID, StateFailed); got.Reason.Code != "revoked" {
			t.Errorf("reason %+v", got.Reason)
		}
		if _, err := p.da.session().Recall(t.Context(), m.ID); err != nil {
			t.Errorf("recall: %v", err)
		}
		p.da.wantState(m.ID, StateRecalled)
	})
}

func TestSameBundleTwiceIsSeenOnce(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "once")
		p.a.mu.Lock()
		var copies []bundle.Bundle
		for _, h := range p.a.held {
			copies = append(copies, h.b)
		}
		p.a.mu.Unlock()
		p.settle()
		p.b.mu.Lock()
		for _, b := range copies { // a hostile relay that ignores the purge
			delete(p.b.purges, b.ID())
			p.b.accept(b, 0, true)
		}
		p.b.mu.Unlock()
		p.settle()
		p.b.restart()
		p.settle()
		p.db.wantTexts(p.alice, "once")
	})
}

func TestTwoUsersOnOneNode(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		dc := p.device(p.user("Carol"), p.a)
		dc.unlock()
		synctest.Wait()
		m := p.da.text(dc.user, "next door")
		p.rest(3 * time.Second)
		dc.wantTexts(p.alice, "next door")
		p.da.wantState(m.ID, StateDelivered)
		p.a.svc.Lock(dc.user.id)
		m = p.da.text(dc.user, "are you there")
		p.rest(3 * time.Second)
		p.da.wantState(m.ID, StateAtNode)
		if p.a.count() != 1 {
			t.Errorf("%d bundles wait for Carol", p.a.count())
		}
		dc.unlock()
		p.rest(3 * time.Second)
		dc.wantTexts(p.alice, "next door", "are you there")
		p.da.wantState(m.ID, StateDelivered)
		f, err := dc.session().SendFile(t.Context(), FileDraft{To: p.alice.id, Name: "n"}, bytes.NewReader(fileBytes))
		if err != nil {
			t.Fatal(err)
		}
		p.rest(3 * time.Second)
		dc.wantState(f.ID, StateDelivered)
		ms := p.da.with(dc.user)
		if got := readAll(t, p.da.session(), ms[len(ms)-1].ID); !bytes.Equal(got, fileBytes) {
			t.Error("the file is another")
		}
	})
}

func TestFullNodeRefuses(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "fits")
		p.a.change(func() { p.a.full = true })
		if _, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "does not"}); !errors.Is(err, ErrFull) {
			t.Errorf("send: %v", err)
		}
		if _, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f"}, strings.NewReader("x")); !errors.Is(err, ErrFull) {
			t.Errorf("file: %v", err)
		}
		p.da.wantTexts(p.bob, "fits")
		p.a.change(func() { p.a.full = false })
		p.da.text(p.bob, "fits again")
		p.settle()
		p.db.wantTexts(p.alice, "fits", "fits again")
	})
}

func TestFullDiskLosesNothingThatArrives(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "patience")
		p.b.change(func() { p.b.failing = fmt.Errorf("test: disk: %w", ErrFull) })
		p.settle()
		p.db.wantTexts(p.alice)
		p.da.wantState(m.ID, StateAtNode)
		p.b.change(func() { p.b.failing = nil })
		p.rest(2 * time.Minute)
		p.settle()
		p.db.wantTexts(p.alice, "patience")
		p.da.wantState(m.ID, StateDelivered)
	})
}

func TestFailingDiskAtTheSender(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.change(func() { p.a.failing = errors.New("test: disk is gone") })
		if _, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "x"}); err == nil {
			t.Error("acknowledged without a disk")
		}
		p.a.change(func() { p.a.failing = nil })
		p.da.text(p.bob, "y")
		p.settle()
		p.db.wantTexts(p.alice, "y")
	})
}

func TestBrokenVaultLocksTheUser(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "one")
		p.settle()
		v := p.b.vaults[p.bob.id]
		v.mu.Lock()
		v.broken = errors.New("test: I/O error")
		v.mu.Unlock()
		m := p.da.text(p.bob, "two")
		p.settle()
		if _, ok := p.b.svc.Session(p.bob.id); ok {
			t.Error("the session goes on without a vault")
		}
		v.mu.Lock()
		v.broken = nil
		v.mu.Unlock()
		p.db.unlock()
		p.settle()
		p.db.wantTexts(p.alice, "one", "two")
		p.da.wantState(m.ID, StateDelivered)
	})
}

func TestRetry(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		p.a.hide(p.bob)
		m := p.da.text(p.bob, "x")
		p.a.change(func() { p.a.full = true })
		p.a.show(p.bob)
		synctest.Wait()
		if got := p.da.wantState(m.ID, StateFailed); got.Reason.Code != "store_full" {
			t.Errorf("reason %+v", got.Reason)
		}
		if _, err := s.Retry(t.Context(), m.ID); !errors.Is(err, ErrFull) {
			t.Errorf("retry while full: %v", err)
		}
		p.a.change(func() { p.a.full = false })
		got, err := s.Retry(t.Context(), m.ID)
		if err != nil || got.State != StateQueued {
			t.Errorf("%s, %v", got.State, err)
		}
		r1, _ := s.get(m.ID)
		if _, err := s.Retry(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		if r2, _ := s.get(m.ID); r1.Sealed.ID != r2.Sealed.ID {
			t.Error("retry made another bundle")
		}
		p.settle()
		p.db.wantTexts(p.alice, "x")
		if _, err := s.Retry(t.Context(), m.ID); !errors.Is(err, ErrState) {
			t.Errorf("retry of a delivered message: %v", err)
		}
	})
}

func TestLiveLocations(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		share := func(lat float64, live bool) {
			t.Helper()
			if _, err := s.SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: Location{Lat: lat, Lon: -7.5, AccuracyM: 12, Note: "here", Live: live}}); err != nil {
				t.Fatal(err)
			}
		}
		share(1, false)
		share(2, true)
		p.settle()
		share(3, true)
		share(4, true)
		p.settle()
		share(5, true)
		p.settle()
		for _, d := range []*device{p.da, p.db} {
			var lats []float64
			for _, m := range d.with(map[*device]*user{p.da: p.bob, p.db: p.alice}[d]) {
				if m.Location.Lon != -7.5 || m.Location.AccuracyM != 12 || m.Location.Note != "here" {
					t.Errorf("%+v", m.Location)
				}
				lats = append(lats, m.Location.Lat)
			}
			if !slices.Equal(lats, []float64{1, 5}) {
				t.Errorf("%s sees %v, want the static one and the newest", d.user.name, lats)
			}
		}
		if c, _ := p.db.session().Conversations(t.Context()); c[0].Unread != 2 {
			t.Errorf("%d unread", c[0].Unread)
		}
	})
}

func TestManyArriveAtOnceInOrder(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "0")
		p.settle()
		var want []string
		for i := range maxBatch {
			want = append(want, fmt.Sprint(i))
			if i > 0 {
				p.da.text(p.bob, want[i])
			}
		}
		p.settle()
		p.db.wantTexts(p.alice, want...)
	})
}

// What is written keeps to the store's limits, and nothing is left out or
// changes places.
func TestCommitsAreCut(t *testing.T) {
	put := func(n int) Op { return PutKV{Bucket: bucketChat, Key: fmt.Sprint(n), Value: make([]byte, n)} }
	for what, c := range map[string]struct {
		sizes []int
		want  []int
	}{
		"nothing":         {nil, nil},
		"one":             {[]int{64 << 10}, []int{1}},
		"one far too big": {[]int{1, 300 << 10, 1}, []int{1, 1, 1}},
		"two that fit":    {[]int{60 << 10, 60 << 10}, []int{2}},
		"and one more":    {[]int{60 << 10, 60 << 10, 60 << 10}, []int{2, 1}},
		"many":            {make([]int, commitOps+1), []int{commitOps, 1}},
	} {
		var ops, back []Op
		var got []int
		for _, n := range c.sizes {
			ops = append(ops, put(n))
		}
		for part := range commits(ops) {
			got, back = append(got, len(part)), append(back, part...)
		}
		if !slices.Equal(got, c.want) || !reflect.DeepEqual(back, ops) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestLimitsOfSending(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		for name, d := range map[string]Draft{
			"empty":         {To: p.bob.id},
			"too long":      {To: p.bob.id, Text: strings.Repeat("x", MaxText+1)},
			"not UTF-8":     {To: p.bob.id, Text: "\xff"},
			"to oneself":    {To: p.alice.id, Text: "x"},
			"to nobody":     {Text: "x"},
			"short TTL":     {To: p.bob.id, Text: "x", TTL: MinTTL - 1},
			"negative TTL":  {To: p.bob.id, Text: "x", TTL: -time.Hour},
			"precedence":    {To: p.bob.id, Text: "x", Precedence: bundle.Flash + 1},
			"negative burn": {To: p.bob.id, Text: "x", Burn: -1},
			"huge burn":     {To: p.bob.id, Text: "x", Burn: envelopeMax + 1},
		} {
			if _, err := s.Send(t.Context(), d); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		m, err := s.Send(t.Context(), Draft{To: p.bob.id, Text: strings.Repeat("ж", MaxText/2), TTL: 365 * 24 * time.Hour, Precedence: bundle.Flash})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(m.Expires); left > 30*24*time.Hour {
			t.Errorf("lives %v, longer than the network permits", left)
		}
		for name, d := range map[string]FileDraft{
			"no name":    {To: p.bob.id},
			"long name":  {To: p.bob.id, Name: strings.Repeat("x", MaxFileName+1)},
			"bad name":   {To: p.bob.id, Name: "\xff"},
			"media type": {To: p.bob.id, Name: "x", MediaType: strings.Repeat("x", MaxMediaType+1)},
			"to oneself": {To: p.alice.id, Name: "x"},
		} {
			if _, err := s.SendFile(t.Context(), d, strings.NewReader("x")); !errors.Is(err, ErrInvalid) {
				t.Errorf("file, %s: %v", name, err)
			}
		}
		for name, l := range map[string]Location{
			"north": {Lat: 90.1}, "west": {Lon: -180.1}, "note": {Note: strings.Repeat("x", MaxNote+1)},
		} {
			if _, err := s.SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: l}); !errors.Is(err, ErrInvalid) {
				t.Errorf("location, %s: %v", name, err)
			}
		}
		if _, err := s.SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: Location{Lat: -90, Lon: 180, Note: strings.Repeat("x", MaxNote)}}); err != nil {
			t.Error(err)
		}
		if _, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: strings.Repeat("x", MaxFileName)}, strings.NewReader("")); err != nil {
			t.Errorf("an empty file with a long name: %v", err)
		}
		p.settle()
		if got := p.db.with(p.alice); len(got) != 3 || len(got[0].Text) != MaxText || got[0].Precedence != bundle.Flash || !got[2].File.Complete {
			t.Errorf("%d messages arrived", len(got))
		}
		s.mu.Lock()
		for len(s.outgoing) < MaxOutstanding {
			s.outgoing[newID()] = true
		}
		s.mu.Unlock()
		if _, err := s.Send(t.Context(), Draft{To: p.bob.id, Text: "one past"}); !errors.Is(err, ErrTooMany) {
			t.Errorf("one past the limit: %v", err)
		}
	})
}

func TestLockedSessionDoesNothing(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		m := p.da.text(p.bob, "x")
		p.a.svc.Lock(p.alice.id)
		calls := map[string]func() error{
			"send": func() error { _, err := s.Send(t.Context(), Draft{To: p.bob.id, Text: "x"}); return err },
			"file": func() error {
				_, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "x"}, strings.NewReader(""))
				return err
			},
			"location":      func() error { _, err := s.SendLocation(t.Context(), LocationDraft{To: p.bob.id}); return err },
			"message":       func() error { _, err := s.Message(t.Context(), m.ID); return err },
			"messages":      func() error { _, err := s.Messages(t.Context(), m.Conversation, MessageID{}, 1); return err },
			"conversations": func() error { _, err := s.Conversations(t.Context()); return err },
			"people":        func() error { _, err := s.People(t.Context()); return err },
			"why":           func() error { _, err := s.Why(t.Context(), m.ID); return err },
			"failures":      func() error { _, err := s.Failures(t.Context()); return err },
			"recall":        func() error { _, err := s.Recall(t.Context(), m.ID); return err },
			"open":          func() error { _, _, err := s.OpenFile(t.Context(), m.ID); return err },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrLocked) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s.master != ([32]byte{}) || s.names != ([32]byte{}) || s.ring != nil {
			t.Error("keys are still in memory")
		}
	})
}
