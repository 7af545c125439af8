package chat

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// fakeArchive is whom one node's configuration names as readers.
type fakeArchive struct {
	mu      sync.Mutex
	readers []ArchiveReader
	news    chan struct{}
}

func (f *fakeArchive) Readers() []ArchiveReader {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.readers)
}

func (f *fakeArchive) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.news == nil {
		f.news = make(chan struct{})
	}
	return f.news
}

// designate makes the node hear of a configuration that names users, nobody
// without any.
func (n *node) designate(since time.Time, users ...*user) {
	n.archive.mu.Lock()
	defer n.archive.mu.Unlock()
	n.archive.readers = nil
	for _, u := range users {
		n.archive.readers = append(n.archive.readers, ArchiveReader{User: u.id, Since: since})
	}
	if n.archive.news != nil {
		close(n.archive.news)
		n.archive.news = nil
	}
}

// archived is a scene with a third node and keeper on it.
func archived(t *testing.T, do func(t *testing.T, p *pair, dk *device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.close()
		c := p.world.node("charlie")
		dk := p.world.device(p.world.user("Keeper"), c)
		c.up()
		dk.unlock()
		p.settle()
		do(t, p, dk)
	})
}

func (p *pair) nameEverywhere(u *user) time.Time {
	now := time.Now()
	for _, n := range p.nodes {
		n.designate(now, u)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	return now
}

func (d *device) queue(t *testing.T) []ArchiveEntry {
	t.Helper()
	es, err := d.session().ArchiveNext(t.Context(), MaxArchiveBatch)
	if err != nil {
		t.Fatal(err)
	}
	return es
}

func (d *device) refusals(t *testing.T) (codes []string) {
	t.Helper()
	rs, err := d.session().Refused(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		codes = append(codes, r.Code)
	}
	return codes
}

// TestK01ReaderGetsEverything: text, file and position of both, once; the
// reader counts nowhere, sends nothing, and is named before the next message.
func TestK01ReaderGetsEverything(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.da.text(p.bob, "before")
		p.settle()
		p.nameEverywhere(dk.user)
		if as, err := p.da.session().Archived(t.Context()); err != nil || len(as) != 1 || as[0].By.ID != dk.user.id || !as[0].Keys || as[0].Self {
			t.Fatalf("archived by %+v, %v", as, err)
		}
		people, err := p.da.session().People(t.Context())
		if err != nil || slices.ContainsFunc(people, func(o Person) bool { return o.Archive != (o.ID == dk.user.id) }) {
			t.Errorf("people: %+v, %v", people, err)
		}
		m := p.da.text(p.bob, "text")
		content := bytes.Repeat([]byte("f"), 40_000)
		f, err := p.db.session().SendFile(t.Context(), FileDraft{To: p.alice.id, Name: "plan.txt"}, bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.da.session().SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: Location{Lat: 1, Lon: 2}}); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if got := p.da.wantState(m.ID, StateDelivered); got.Delivered != 1 || got.Devices != 1 {
			t.Errorf("delivered %d of %d", got.Delivered, got.Devices)
		}
		p.db.wantState(f.ID, StateDelivered)
		es := dk.queue(t)
		var got []Type
		for _, e := range es {
			got = append(got, e.Type)
		}
		slices.Sort(got)
		if !slices.Equal(got, []Type{TypeFile, TypeLocation, TypeText}) {
			t.Fatalf("the archive got %v", got)
		}
		for _, e := range es {
			if e.Type != TypeFile {
				continue
			}
			_, r, err := dk.session().ArchiveFile(t.Context(), e.ID)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, content) || e.From.ID != p.bob.id || e.To.ID != p.alice.id {
				t.Errorf("file of %d bytes from %v, %v", len(b), e.From, err)
			}
		}
		if cs, err := dk.session().Conversations(t.Context()); err != nil || len(cs) != 0 {
			t.Errorf("the reader sees %v, %v", cs, err)
		}
		if _, err := dk.session().Send(t.Context(), Draft{To: p.bob.id, Text: "x"}); !errors.Is(err, ErrReceiveOnly) {
			t.Errorf("the reader sends: %v", err)
		}
		if _, err := p.da.session().Send(t.Context(), Draft{To: dk.user.id, Text: "x"}); !errors.Is(err, ErrInvalid) {
			t.Errorf("the reader is written to: %v", err)
		}
	})
}

// TestK05QueueIsWrittenOnce: what is done is shredded and stays known; what is
// not is there after a crash.
func TestK05QueueIsWrittenOnce(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.nameEverywhere(dk.user)
		m := p.da.text(p.bob, "one")
		p.da.text(p.bob, "two")
		p.settle()
		es := dk.queue(t)
		if len(es) != 2 || es[0].Text != "one" || es[1].Text != "two" || es[0].Ref == es[1].Ref {
			t.Fatalf("%+v", es)
		}
		head := ArchiveHead{N: 1, Hash: [32]byte{7}}
		if err := dk.session().ArchiveDone(t.Context(), []MessageID{es[0].ID, {9}}, head); err != nil {
			t.Fatal(err)
		}
		dk.node.restart()
		p.settle()
		st, err := dk.session().ArchiveState(t.Context())
		if err != nil || !st.Reader || st.Waiting != 1 || st.Head.N != 1 || st.Head.Hash != head.Hash {
			t.Fatalf("%+v, %v", st, err)
		}
		if es = dk.queue(t); len(es) != 1 || es[0].Text != "two" {
			t.Fatalf("%+v", es)
		}
		if _, err := p.da.session().Recall(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if es = dk.queue(t); len(es) != 2 || es[0].Text != "two" || es[1].Type != TypeRecall || es[1].About == nil {
			t.Fatalf("after a recall %+v", es)
		}
	})
}

// TestK09LiveSharesAreJoined: the first position opens a share, later ones
// belong to it; after its end another begins.
func TestK09LiveSharesAreJoined(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.nameEverywhere(dk.user)
		live := func(until time.Duration) {
			loc := Location{Lat: 1, Live: true, Fix: &Fix{At: time.Now(), Until: time.Now().Add(until)}}
			if _, err := p.da.session().SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: loc}); err != nil {
				t.Fatal(err)
			}
			p.settle()
		}
		live(10 * time.Minute)
		live(9 * time.Minute)
		time.Sleep(20 * time.Minute)
		live(10 * time.Minute)
		es := dk.queue(t)
		if len(es) != 3 || es[0].About != nil || es[1].About == nil || *es[1].About != es[0].Ref || es[2].About != nil {
			t.Errorf("%+v", es)
		}
	})
}

// TestK01OmittedReaderIsRefused: a sender who leaves the reader out, as a
// patched client would, is not let in, and that is shown. Once it hears of the
// archive nothing is sent by itself; trying again brings it, archived.
func TestK01OmittedReaderIsRefused(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		since := time.Now()
		p.b.designate(since, dk.user)
		time.Sleep(time.Second)
		m := p.da.text(p.bob, "nobody else shall read this")
		p.settle()
		p.db.wantTexts(p.alice)
		if got := p.db.refusals(t); !slices.Equal(got, []string{RefusedUnarchived}) {
			t.Errorf("bob is told of %v", got)
		}
		if st := p.da.message(m.ID); st.Delivered != 0 || st.State == StateDelivered {
			t.Errorf("alice is told %s", st.State)
		}
		p.a.designate(since, dk.user)
		p.settle()
		if got := p.da.wantState(m.ID, StateFailed); got.Reason.Code != failUnarchived || got.Reason.Hint == "" {
			t.Errorf("%+v", got.Reason)
		}
		if es := dk.queue(t); len(es) != 0 {
			t.Fatalf("the archive has %+v", es)
		}
		if _, err := p.da.session().Retry(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.db.wantTexts(p.alice, "nobody else shall read this")
		if got := p.db.refusals(t); len(got) != 0 {
			t.Errorf("sent again, and bob is still told of %v", got)
		}
		if es := dk.queue(t); len(es) != 1 {
			t.Errorf("the archive has %+v", es)
		}
	})
}

// TestK01OldEpochIsNoWayAround: an epoch from before the designation serves
// what was said before, and nothing after.
func TestK01OldEpochIsNoWayAround(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.da.text(p.bob, "zero")
		p.settle()
		early := p.da.text(p.bob, "before") // sealed, on its way
		time.Sleep(2 * time.Second)
		p.b.designate(time.Now(), dk.user)
		time.Sleep(2 * time.Second)
		late := p.da.text(p.bob, "after") // in the same epoch
		p.settle()
		p.db.wantTexts(p.alice, "zero", "before")
		p.da.wantState(early.ID, StateDelivered)
		if st := p.da.message(late.ID); st.State == StateDelivered {
			t.Error("it was acknowledged")
		}
	})
}

// TestK01SecretReaderIsRefused: nobody can add a reader whom the configuration
// does not name; when it comes to be known, what was kept opens.
func TestK01SecretReaderIsRefused(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		since := time.Now()
		p.a.designate(since, dk.user)
		time.Sleep(time.Second)
		p.da.text(p.bob, "hello")
		p.settle()
		p.db.wantTexts(p.alice)
		if got := p.db.refusals(t); !slices.Equal(got, []string{RefusedReader}) {
			t.Errorf("bob is told of %v", got)
		}
		p.b.designate(since, dk.user)
		p.settle()
		p.db.wantTexts(p.alice, "hello")
	})
}

// TestK09EntrySaysWhatVouchedForTheClock of the reader's node when it came.
func TestK09EntrySaysWhatVouchedForTheClock(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.nameEverywhere(dk.user)
		p.da.text(p.bob, "by a time that an admin signed")
		p.settle()
		dk.node.mu.Lock()
		dk.node.untrusted = true
		dk.node.mu.Unlock()
		p.da.text(p.bob, "by nothing")
		p.settle()
		es := dk.queue(t)
		if len(es) != 2 || es[0].Clock != ClockPeer || es[1].Clock != ClockUnsynced {
			t.Errorf("%+v", es)
		}
	})
}

// TestK09CallIsArchived with what its records need: who called whom, when, for
// how long, and when it was told.
func TestK09CallIsArchived(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.nameEverywhere(dk.user)
		c := Call{ID: [16]byte{1}, Status: envelope.CallCompleted, Began: time.Now().Add(-80 * time.Second), Duration: 74 * time.Second}
		if _, err := p.da.session().SendCallRecord(t.Context(), p.bob.id, c); err != nil {
			t.Fatal(err)
		}
		p.settle()
		es := dk.queue(t)
		if len(es) != 1 || es[0].Type != TypeCall || es[0].Call == nil {
			t.Fatalf("%+v", es)
		}
		e := es[0]
		if e.From.ID != p.alice.id || e.To.ID != p.bob.id || e.Call.ID != c.ID || e.Call.Status != c.Status || e.Call.Duration != c.Duration ||
			e.Sent.Sub(e.Call.Began) != 80*time.Second {
			t.Errorf("%+v of %+v", *e.Call, e)
		}
	})
}

// TestK01NothingGoesWithoutTheReadersKeys: it waits, says so, and goes.
func TestK01NothingGoesWithoutTheReadersKeys(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.a.hide(dk.user)
		p.nameEverywhere(dk.user)
		m := p.da.text(p.bob, "x")
		if got := p.da.wantState(m.ID, StateWaiting); got.Reason.Code != "no_archive_keys" || got.Reason.Hint == "" {
			t.Errorf("%+v", got.Reason)
		}
		p.settle()
		p.db.wantTexts(p.alice)
		p.a.show(dk.user)
		p.settle()
		p.da.wantState(m.ID, StateDelivered)
		if es := dk.queue(t); len(es) != 1 {
			t.Errorf("%+v", es)
		}
	})
}

// TestK01WithoutDesignationNothingIsReadable by that user, and what is sent
// carries no mark.
func TestK01WithoutDesignationNothingIsReadable(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		p.da.text(p.bob, "x")
		p.a.mu.Lock()
		for _, h := range p.a.held {
			if h.b.Header.Flags&bundle.FlagArchive != 0 {
				t.Error("marked for an archive")
			}
		}
		p.a.mu.Unlock()
		p.settle()
		if es := dk.queue(t); len(es) != 0 {
			t.Errorf("%+v", es)
		}
	})
}

// TestK01Permit judges rosters that only a patched client makes.
func TestK01Permit(t *testing.T) {
	archived(t, func(t *testing.T, p *pair, dk *device) {
		since := p.nameEverywhere(dk.user)
		s := p.db.session()
		s.mu.Lock()
		defer s.mu.Unlock()
		now, earlier := uint64(time.Now().UnixMilli()), uint64(since.Add(-time.Hour).UnixMilli())
		reader := envelope.Member{User: dk.user.id, Device: dk.id, Flags: envelope.MemberCompliance}
		members := func(more ...envelope.Member) []envelope.Member {
			return append([]envelope.Member{{User: p.alice.id, Device: p.da.id}, {User: p.bob.id, Device: p.db.id}}, more...)
		}
		plain, made, other := reader, reader, reader
		plain.Flags, made.Device, other.User = 0, identity.DeviceID{1}, p.alice.id
		for _, c := range []struct {
			name    string
			members []envelope.Member
			sent    uint64
			want    error
		}{
			{"with the reader", members(reader), now, nil},
			{"without", members(), now, errUnarchived},
			{"begun before", members(), earlier, nil},
			{"the reader unmarked", members(plain), now, errReaderSends},
			{"a made-up device", members(made), now, errUnarchived},
			{"marked as another's", members(other), now, errUnarchived},
			{"a second reader", members(reader, envelope.Member{User: identity.UserID{9}, Device: identity.DeviceID{9}, Flags: envelope.MemberCompliance}), now, errUnknownReader},
			{"a time beyond all", members(), 1<<64 - 1, errUnarchived},
		} {
			if err := s.permit(c.members, c.sent); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		s.archive.Readers[0].At = s.elapsed() - int64(s.svc.cfg.MaxDelay/time.Second) - 1
		if err := s.permit(members(), earlier); !errors.Is(err, errUnarchived) {
			t.Errorf("backdated, when no honest mail can be on its way: %v", err)
		}
		s.archive.Past = append(s.archive.Past, identity.UserID{9})
		if err := s.permit(members(reader, envelope.Member{User: identity.UserID{9}, Device: identity.DeviceID{9}, Flags: envelope.MemberCompliance}), now); err != nil {
			t.Errorf("one who was a reader: %v", err)
		}
	})
}
