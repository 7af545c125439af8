package chat

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/bundle"
)

// An act is repeated when its answer was lost: the message exists once, the
// answer is the same, also after a crash in between.
func TestRepeatedActsMakeOneMessage(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		acts := map[string]func() (Message, error){
			"text": func() (Message, error) {
				return p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "one", Once: "act-1"})
			},
			"location": func() (Message, error) {
				return p.da.session().SendLocation(t.Context(), LocationDraft{To: p.bob.id, Once: "act-2", Location: Location{Lat: 1, Lon: 2, Live: true}})
			},
			"file": func() (Message, error) {
				return p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f", Once: "act-3"}, bytes.NewReader(fileBytes))
			},
		}
		first := map[string]MessageID{}
		for name, do := range acts {
			m, err := do()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			first[name] = m.ID
		}
		again := func(when string) {
			t.Helper()
			for name, do := range acts {
				if m, err := do(); err != nil || m.ID != first[name] {
					t.Errorf("%s, %s: message %v, first was %v, %v", when, name, m.ID, first[name], err)
				}
			}
			if n := len(p.da.with(p.bob)); n != 3 {
				t.Errorf("%s: Alice has %d messages", when, n)
			}
		}
		again("at once")
		p.a.restart()
		again("after a crash")
		p.settle()
		p.settle()
		again("after delivery")
		if n := len(p.db.with(p.alice)); n != 3 {
			t.Errorf("Bob has %d messages", n)
		}
		p.a.mu.Lock()
		blobs := len(p.a.blobs)
		p.a.mu.Unlock()
		if blobs != 1 {
			t.Errorf("%d blobs are kept for one file", blobs)
		}
	})
}

func TestNameOfAnActIsForOneMessage(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		d := Draft{To: p.bob.id, Text: "one", Once: "x", TTL: time.Hour}
		if _, err := s.Send(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		other := []func(d *Draft){
			func(d *Draft) { d.Text = "two" },
			func(d *Draft) { d.TTL = 2 * time.Hour },
			func(d *Draft) { d.Precedence = bundle.Flash },
			func(d *Draft) { d.Burn = time.Second },
			func(d *Draft) { d.To = p.world.user("Dora").id },
		}
		for i, change := range other {
			d := d
			change(&d)
			if _, err := s.Send(t.Context(), d); !errors.Is(err, ErrRepeat) {
				t.Errorf("change %d: %v", i, err)
			}
		}
		if _, err := s.SendLocation(t.Context(), LocationDraft{To: p.bob.id, Once: "x"}); !errors.Is(err, ErrRepeat) {
			t.Errorf("a location under a text's name: %v", err)
		}
		if _, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f", Once: "x"}, strings.NewReader("one")); !errors.Is(err, ErrRepeat) {
			t.Errorf("a file under a text's name: %v", err)
		}
		if _, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f", Once: "y"}, strings.NewReader("one")); err != nil {
			t.Error(err)
		}
		if _, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f", Once: "y"}, strings.NewReader("two")); !errors.Is(err, ErrRepeat) {
			t.Errorf("another file under a file's name: %v", err)
		}
		if n := len(p.da.with(p.bob)); n != 2 {
			t.Errorf("%d messages", n)
		}
		if _, err := s.Send(t.Context(), Draft{To: p.bob.id, Text: "one", Once: strings.Repeat("x", MaxOnce+1)}); !errors.Is(err, ErrInvalid) {
			t.Errorf("a name that is too long: %v", err)
		}
		if _, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f", Once: strings.Repeat("x", MaxOnce+1)}, strings.NewReader("")); !errors.Is(err, ErrInvalid) {
			t.Errorf("a name that is too long, of a file: %v", err)
		}
		if _, err := s.Send(t.Context(), Draft{To: p.bob.id, Text: "edge", Once: strings.Repeat("x", MaxOnce)}); err != nil {
			t.Errorf("the longest name: %v", err)
		}
	})
}

// A message that a full node refused was not sent: its act may be tried again.
func TestRefusedActMayBeRepeated(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.change(func() { p.a.full = true })
		d := Draft{To: p.bob.id, Text: "one", Once: "x"}
		if _, err := p.da.session().Send(t.Context(), d); !errors.Is(err, ErrFull) {
			t.Fatalf("error %v", err)
		}
		p.a.change(func() { p.a.full = false })
		if _, err := p.da.session().Send(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.db.wantTexts(p.alice, "one")
	})
}

// Cut off between any two durable steps, an act and its repetition make one
// message, and never none.
func TestRepeatAfterACrashAnywhere(t *testing.T) {
	act := func(t *testing.T, p *pair) error {
		_, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "hold the bridge", Once: "the act"})
		return err
	}
	for step := 1; ; step++ {
		crashed := false
		scene(t, func(t *testing.T, p *pair) {
			p.a.change(func() { p.a.crashAt = p.a.steps + step })
			_ = act(t, p)
			synctest.Wait()
			p.a.change(func() { crashed = p.a.crashed; p.a.crashAt = 0 })
			p.a.restart()
			if err := act(t, p); err != nil {
				t.Fatalf("step %d: the repetition: %v", step, err)
			}
			p.settle()
			p.settle()
			p.db.wantTexts(p.alice, "hold the bridge")
			if n := len(p.da.with(p.bob)); n != 1 {
				t.Errorf("step %d: Alice has %d messages", step, n)
			}
		})
		if !crashed {
			if step < 4 {
				t.Fatalf("only %d steps were cut", step)
			}
			return
		}
	}
}

func TestDismissedFailuresStayAway(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.hide(p.bob)
		m := p.da.text(p.bob, "x")
		failures := func() int {
			t.Helper()
			fs, err := p.da.session().Failures(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(fs)
		}
		if n := failures(); n != 1 {
			t.Fatalf("%d failures", n)
		}
		if got, err := p.da.session().Dismiss(t.Context(), m.ID); err != nil || !got.Dismissed || got.State != StateWaiting {
			t.Errorf("dismissed: %+v, %v", got, err)
		}
		if _, err := p.da.session().Dismiss(t.Context(), m.ID); err != nil {
			t.Errorf("dismissed twice: %v", err)
		}
		p.a.restart()
		if n := failures(); n != 0 {
			t.Errorf("%d failures after a restart", n)
		}
		p.world.change(func() { p.bob.revoked = true })
		p.a.rosterChanged()
		synctest.Wait()
		if n := failures(); n != 1 {
			t.Errorf("%d failures after it failed in another way", n)
		}
		p.world.change(func() { p.bob.revoked = false })
		p.a.show(p.bob)
		ok := p.da.text(p.bob, "y")
		if _, err := p.da.session().Dismiss(t.Context(), ok.ID); !errors.Is(err, ErrState) {
			t.Errorf("a message that goes on was dismissed: %v", err)
		}
	})
}

func TestListOfFiles(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		var sent []MessageID
		for _, name := range []string{"a", "b", "c"} {
			m, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: name}, strings.NewReader("content of "+name))
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, m.ID)
			time.Sleep(time.Second)
		}
		p.da.text(p.bob, "no file")
		names := func(d *device, before MessageID, limit int) (out []string) {
			t.Helper()
			ms, err := d.session().Files(t.Context(), before, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms {
				out = append(out, m.File.Name)
			}
			return out
		}
		if got := strings.Join(names(p.da, MessageID{}, 200), ""); got != "cba" {
			t.Errorf("files %q", got)
		}
		if got := strings.Join(names(p.da, MessageID{}, 2), ""); got != "cb" {
			t.Errorf("the newest two: %q", got)
		}
		if got := strings.Join(names(p.da, sent[1], 2), ""); got != "a" {
			t.Errorf("those before b: %q", got)
		}
		if got := names(p.db, MessageID{}, 10); len(got) != 0 {
			t.Errorf("Bob has %q before anything came", got)
		}
		p.settle()
		p.settle()
		if got := names(p.db, MessageID{}, 10); len(got) != 3 {
			t.Errorf("Bob has %q", got)
		}
		if _, err := p.da.session().Recall(t.Context(), sent[2]); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(names(p.da, MessageID{}, 10), ""); got != "ba" {
			t.Errorf("after a recall: %q", got)
		}
		for _, limit := range []int{0, MaxPage + 1} {
			if _, err := p.da.session().Files(t.Context(), MessageID{}, limit); !errors.Is(err, ErrInvalid) {
				t.Errorf("limit %d: %v", limit, err)
			}
		}
		if _, err := p.da.session().Files(t.Context(), MessageID{9}, 10); !errors.Is(err, ErrNotFound) {
			t.Errorf("before nothing: %v", err)
		}
	})
}

func TestWhyRemembersCarriersOverARestart(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "x")
		c := p.world.node("charlie")
		meet(p.a, c)
		synctest.Wait()
		p.a.change(func() { // the agent's own memory of it does not survive
			for _, h := range p.a.held {
				h.carriers = nil
			}
		})
		p.a.restart()
		w, err := p.da.session().Why(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range w.Facts {
			found = found || f.Code == "taken_by" && f.String() == "Copies were taken by charlie."
		}
		if !found {
			t.Errorf("facts %v", w.Facts)
		}
	})
}

// Every sentence exists in every language, with the same arguments.
func TestSentencesAreWhole(t *testing.T) {
	holes := func(s say) string {
		seen := map[string]bool{}
		for _, f := range []string{s.one, s.other} {
			for part := range strings.SplitSeq(f, "{") {
				if name, _, ok := strings.Cut(part, "}"); ok {
					seen[name] = true
				}
			}
		}
		var out []string
		for _, name := range []string{"have_bytes", "total_bytes", "sent_s", "came_s", "n", "age_s", "precedence", "left_s", "name", "id", "nodes", "have", "node", "sent_bytes", "size_bytes"} {
			if seen[name] {
				out = append(out, name)
				delete(seen, name)
			}
		}
		for name := range seen {
			t.Errorf("%q has an argument %s that nothing gives", s.other, name)
		}
		return strings.Join(out, " ")
	}
	for code, en := range sayEN {
		de, ok := sayDE[code]
		if !ok || holes(en) != holes(de) || (en.one == "") != (de.one == "") || de.other == "" {
			t.Errorf("%s: %+v against %+v", code, en, de)
		}
	}
	if len(sayEN) != len(sayDE) {
		t.Errorf("%d sentences in English, %d in German", len(sayEN), len(sayDE))
	}
	for _, st := range goesOn {
		if _, ok := sayEN[stateCode("next_", st)]; !ok {
			t.Errorf("nothing is said of what follows %s", st)
		}
	}
	s := Sentence{"keys_known", map[string]any{"name": "B{n}ob", "n": float64(1)}}
	if got := s.In("de"); got != "Schlüssel von B{n}ob sind für 1 Gerät bekannt." {
		t.Errorf("%q", got)
	}
	if got := (Sentence{"taken_by", map[string]any{"nodes": []any{"a", "b"}}}).In("xx"); got != "Copies were taken by a, b." {
		t.Errorf("%q", got)
	}
	if got := (Sentence{"expires_in", map[string]any{"left_s": int64(3 * 86400)}}).In("de"); got != "Sie läuft in 3 Tagen ab." {
		t.Errorf("%q", got)
	}
	if got := (Sentence{Code: "expires_in"}).String() + (Sentence{Code: "of tomorrow"}).String() + (Sentence{}).String(); got != "It expires in ?.of tomorrow" {
		t.Errorf("%q", got)
	}
}

// The page and the command line say the same: the page's messages are those of
// the catalogues here.
func TestPageSaysTheSame(t *testing.T) {
	for lang, words := range catalogues {
		b, err := os.ReadFile("../web/static/lang/" + lang + ".mjs")
		if err != nil {
			t.Fatal(err)
		}
		page := strings.ReplaceAll(string(b), `\'`, "'")
		for code, s := range words {
			want := "  'why." + code + "': '" + s.other + "',"
			if s.one != "" {
				want = "  'why." + code + "': { one: '" + s.one + "', other: '" + s.other + "' },"
			}
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not say %s", lang, want)
			}
		}
		if n := strings.Count(page, "\n  'why."); n != len(words) {
			t.Errorf("%s: the page has %d sentences, the node %d", lang, n, len(words))
		}
	}
}
