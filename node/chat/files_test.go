package chat

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	r.Read(b)
	return b
}

func sendFile(t *testing.T, d *device, to *user, name string, content []byte) Message {
	t.Helper()
	m, err := d.session().SendFile(context.Background(), FileDraft{To: to.id, Name: name, MediaType: "image/png"}, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFileArrivesPieceByPiece(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		content := noise(1 << 20)
		m := sendFile(t, p.da, p.bob, "map.png", content)
		if m.File.Name != "map.png" || m.File.Size != 1<<20 || m.File.MediaType != "image/png" || !m.File.Complete || m.File.Have != m.File.Total {
			t.Errorf("sent %+v", m.File)
		}
		f := p.a.blobs[p.root(t, p.da, m.ID)]
		p.a.change(func() { f.limit = 10 })
		p.settle()
		got := p.db.with(p.alice)[0]
		if got.File.Complete || got.File.Have != 10*blob.LeafSize || got.Reason.Code != "file_underway" {
			t.Errorf("after ten leaves: %+v %+v", got.File, got.Reason)
		}
		if sent := p.da.wantState(m.ID, StateAtNode); sent.Delivered != 0 || sent.Reason.Code != "file_underway" {
			t.Errorf("the sender sees %d delivered, %+v", sent.Delivered, sent.Reason)
		}
		view, _, err := p.db.session().OpenFile(t.Context(), got.ID)
		if !errors.Is(err, ErrNotComplete) || view.Have != got.File.Have || view.Total != got.File.Total {
			t.Errorf("open: %+v, %v", view, err)
		}
		p.b.restart() // what has come is kept
		p.a.change(func() { f.limit = 40 })
		p.settle()
		if got := p.db.message(got.ID); got.File.Have != 40*blob.LeafSize {
			t.Errorf("after forty leaves: %+v", got.File)
		}
		p.a.change(func() { f.limit = 0 })
		p.settle()
		if b := readAll(t, p.db.session(), got.ID); !bytes.Equal(b, content) {
			t.Error("the file is another")
		}
		p.da.wantState(m.ID, StateDelivered)
		p.settle()
		if len(p.a.blobs) != 1 || len(p.b.blobs) != 1 {
			t.Errorf("%d and %d blobs; sender and reader keep one each", len(p.a.blobs), len(p.b.blobs))
		}
	})
}

func (p *pair) root(t *testing.T, d *device, id MessageID) blob.Root {
	t.Helper()
	r, err := d.session().get(id)
	if err != nil {
		t.Fatal(err)
	}
	return r.File.Root
}

func TestFileOutlivesThePurgeAndDiesWithItsMessage(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := sendFile(t, p.da, p.bob, "x", fileBytes)
		p.settle()
		p.settle()
		p.b.restart()
		p.settle()
		root := p.root(t, p.da, m.ID)
		if !p.b.svc.pinned(root) || !p.a.svc.pinned(root) {
			t.Error("the file is not kept over a restart")
		}
		id := p.db.with(p.alice)[0].ID
		if b := readAll(t, p.db.session(), id); !bytes.Equal(b, fileBytes) {
			t.Error("the file is another")
		}
		if _, err := p.da.session().Recall(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if p.a.svc.pinned(root) || p.b.svc.pinned(root) || len(p.a.blobs)+len(p.b.blobs) != 0 {
			t.Errorf("after the recall %d and %d blobs are left", len(p.a.blobs), len(p.b.blobs))
		}
		if _, _, err := p.db.session().OpenFile(t.Context(), id); !errors.Is(err, ErrGone) {
			t.Errorf("open: %v", err)
		}
	})
}

func TestFileExpires(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		if _, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "x", TTL: time.Hour}, bytes.NewReader(fileBytes)); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.rest(2 * time.Hour)
		if len(p.a.blobs)+len(p.b.blobs) != 0 || len(p.a.svc.pins)+len(p.b.svc.pins) != 0 {
			t.Error("leaves of an expired file are left")
		}
	})
}

// The leaves are those of the root, so relays carried them; but the author
// sealed something else than the manifest says.
func TestFileThatIsNotWhatWasAnnounced(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "hello")
		p.settle()
		s := p.da.session()
		body, root, err := s.writeFile(t.Context(), FileDraft{To: p.bob.id, Name: "x"}, bytes.NewReader(noise(100_000)))
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.Replace(body, body[len(body)-20:len(body)-10], make([]byte, 10), 1) // in the file's key
		m, err := s.post(t.Context(), address{to: p.bob.id}, act{}, func(r *record, t *tx) error {
			r.Type, r.File = TypeFile, &fileRecord{Body: body, Root: root, Done: true}
			s.pinOp(t, r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		p.settle()
		ms := p.db.with(p.alice)
		got := ms[len(ms)-1]
		if got.File == nil || got.File.Complete || got.Reason.Code != "file_bad" {
			t.Errorf("%+v %+v", got.File, got.Reason)
		}
		if _, _, err := p.db.session().OpenFile(t.Context(), got.ID); !errors.Is(err, ErrGone) {
			t.Errorf("open: %v", err)
		}
		if n := p.da.message(m.ID); n.Delivered != 0 {
			t.Error("a bad file is acknowledged")
		}
	})
}

func TestUploadThatBreaksOffSendsNothing(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		before := p.a.steps
		broken := io.MultiReader(bytes.NewReader(noise(3<<20)), failing{})
		if _, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "x"}, broken); !errors.Is(err, errCut) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.da.session().SendFile(ctx, FileDraft{To: p.bob.id, Name: "x"}, bytes.NewReader(nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if p.a.steps != before || len(p.a.blobs) != 0 || len(p.da.with(p.bob)) != 0 {
			t.Error("something of the file is left")
		}
	})
}

type failing struct{}

var errCut = errors.New("test: connection lost")

func (failing) Read([]byte) (int, error) { return 0, errCut }

func TestReaderThatStopsEarly(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := sendFile(t, p.da, p.bob, "x", noise(1<<20))
		_, r, err := p.da.session().OpenFile(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		r.Close() // the leak check would find what went on reading
		synctest.Wait()
		if _, _, err := p.da.session().OpenFile(t.Context(), p.da.text(p.bob, "no file").ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// encodings are the forms in which plaintext is looked for (decisions.md 29;
// zstd needs the real store and is looked for in field-tests).
func encodings(s string) map[string][]byte {
	var wide []byte
	for _, u := range utf16.Encode([]rune(s)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	return map[string][]byte{
		"raw": []byte(s), "hex": []byte(hex.EncodeToString([]byte(s))), "HEX": []byte(strings.ToUpper(hex.EncodeToString([]byte(s)))),
		"base64": []byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "="))[:len(s)/3*4], "UTF-16": wide,
	}
}

// dump is everything that the fakes hold for chat, but the vault.
func (n *node) dump() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b bytes.Buffer
	for k, v := range n.store.kv {
		b.WriteString(k)
		b.Write(v)
	}
	for k, r := range n.store.rows {
		b.WriteString(k)
		b.Write(r.Conv[:])
		b.Write(r.Data)
	}
	for _, h := range n.held {
		b.Write(h.b.Append(nil))
	}
	for _, f := range n.blobs {
		for _, l := range f.leaves {
			b.Write(l)
		}
	}
	return b.Bytes()
}

func TestNothingReadableIsStored(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		c := p.world.node("charlie").up() // a third node, so that bundles lie about
		secret := map[string]string{
			"text": "attack at dawn from the north", "file name": "operation-overlord.pdf", "file": "the very content of the file, long enough to find",
			"note": "ammunition dump behind the mill", "recipient": "Bob Bobsson of Bobville", "user id": string(p.bob.id[:]),
		}
		p.world.change(func() { p.bob.name = secret["recipient"] })
		for _, hidden := range []bool{false, true} {
			if hidden {
				p.a.hide(p.bob) // messages that wait unsealed
			}
			p.da.text(p.bob, secret["text"])
			sendFile(t, p.da, p.bob, secret["file name"], []byte(secret["file"]))
			if _, err := p.da.session().SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: Location{Lat: 51.5, Note: secret["note"]}}); err != nil {
				t.Fatal(err)
			}
			meet(p.a, c)
			synctest.Wait()
		}
		p.settle()
		for _, m := range p.db.with(p.alice) {
			if _, err := p.db.session().Read(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
		}
		p.settle()
		for what, s := range secret {
			for form, b := range encodings(s) {
				for _, n := range p.nodes {
					// A node's own users are no secret of that node.
					if bytes.Contains(n.dump(), b) && !(what == "user id" && n == p.b) {
						t.Errorf("%s finds the %s in %s", n.name, what, form)
					}
				}
			}
		}
		// The same search finds what is not sealed.
		p.a.store.kv["test"] = []byte("x" + secret["text"] + hex.EncodeToString([]byte(secret["note"])))
		if d := p.a.dump(); !bytes.Contains(d, encodings(secret["text"])["raw"]) || !bytes.Contains(d, encodings(secret["note"])["hex"]) {
			t.Error("the search finds nothing at all")
		}
	})
}

// Equal messages leave different bytes, and rows of near lengths equal ones.
func TestRowsTellLittle(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		a, b := p.da.text(p.bob, "yes"), p.da.text(p.bob, "no!")
		ra, rb := p.a.store.rows[rowKeyOf(p.alice.id, a.ID)], p.a.store.rows[rowKeyOf(p.alice.id, b.ID)]
		if len(ra.Data) != len(rb.Data) || bytes.Equal(ra.Data, rb.Data) {
			t.Errorf("rows of %d and %d bytes", len(ra.Data), len(rb.Data))
		}
		ra.Msg, ra.Order = rb.Msg, rb.Order // an attacker swaps rows on the disk
		p.a.store.rows[rowKeyOf(p.alice.id, b.ID)] = ra
		if _, err := p.da.session().Message(t.Context(), b.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("a swapped row is read: %v", err)
		}
	})
}

func TestWhyAndBanner(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		why := func(id MessageID) string {
			t.Helper()
			w, err := s.Why(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%s %s %s %s", w.Summary, w.Facts, w.Next, w.Todo)
		}
		want := func(id MessageID, parts ...string) {
			t.Helper()
			got := why(id)
			for _, part := range parts {
				if !strings.Contains(got, part) {
					t.Errorf("why says %q, not %q", got, part)
				}
			}
		}
		p.a.hide(p.bob)
		m := p.da.text(p.bob, "x")
		want(m.ID, "cannot be sealed yet", "just now", "No usable keys", "It is sealed and goes as soon as", "expires in 30 days")
		p.a.show(p.bob)
		synctest.Wait()
		want(m.ID, "waits for a neighbour", "No other node is in contact.", "Keys of Bob are known for 1 device", "Move closer")
		p.a.mu.Lock()
		p.a.neighbours = 2
		p.a.tell(ContactsChanged{})
		p.a.mu.Unlock()
		synctest.Wait()
		want(m.ID, "2 nodes are in contact.", "next node that comes into contact")
		c := p.world.node("charlie")
		meet(p.a, c)
		synctest.Wait()
		want(m.ID, "Another node has taken a copy", "taken by charlie")
		p.settle()
		p.settle()
		want(m.ID, "The recipient has it.", "acknowledged")
		id := p.db.with(p.alice)[0].ID
		w, err := p.db.session().Why(t.Context(), id)
		if err != nil || !strings.Contains(w.Summary.String(), "here") || !strings.Contains(fmt.Sprint(w.Facts), "link") {
			t.Errorf("the reader's why: %+v, %v", w, err)
		}
		if b := p.a.svc.Banner(); b.State != BannerContact || b.Contacts != 2 {
			t.Errorf("banner %+v", b)
		}
		if b := p.b.svc.Banner(); b.State != BannerAlone {
			t.Errorf("banner %+v", b)
		}
		var banners int
		p.a.mu.Lock()
		for _, u := range p.a.updates {
			if u.Kind == UpdateBanner && u.Banner.Contacts == 2 {
				banners++
			}
		}
		p.a.mu.Unlock()
		if banners != 1 {
			t.Errorf("the banner was told %d times", banners)
		}
	})
}

func TestEveryStateHasWords(t *testing.T) {
	for _, st := range []State{StateWaiting, StateQueued, StateCarried, StateAtCore, StateAtNode, StateDelivered, StateRead, StateExpired, StateRecalled, StateFailed} {
		if sayEN[stateCode("state_", st)].other == "" {
			t.Errorf("no words for %s", st)
		}
	}
}

func TestUpdatesFollowTheMessage(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "x")
		p.settle()
		var states []State
		p.a.mu.Lock()
		for _, u := range p.a.updates {
			if u.Message != nil && u.Message.ID == m.ID {
				states = append(states, u.Message.State)
			}
		}
		p.a.mu.Unlock()
		if fmt.Sprint(states) != "[queued at-node delivered]" {
			t.Errorf("screens saw %v", states)
		}
	})
}

func TestAtCore(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "x")
		r, err := p.da.session().get(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		p.a.svc.Handle(Carried{ID: r.Sealed.ID, AtCore: true})
		synctest.Wait()
		p.da.wantState(m.ID, StateAtCore)
		if r, err := p.da.session().get(m.ID); err != nil || len(r.Carriers) != 0 {
			t.Errorf("the core is noted as a node: %v, %v", r.Carriers, err)
		}
		p.a.svc.Handle(Carried{ID: r.Sealed.ID}) // states do not go back
		p.a.svc.Handle(Carried{ID: bundle.ID{9}})
		p.a.svc.Handle(Expired{ID: r.Sealed.ID})
		synctest.Wait()
		p.da.wantState(m.ID, StateAtCore)
	})
}
