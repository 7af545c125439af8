package coresync

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// A node may do nothing with what is another node's: every attempt is
// refused, and the refusal is told at once, not after a time-out.
func TestCoreNodeCannotTouchAnothers(t *testing.T) {
	t.Parallel()
	a, b := edge(t, "perm-a"), edge(t, "perm-b")
	ctx := patiently(t)
	tag := newTag()
	watch(t, b, Mailboxes{Tags: []identity.Tag{tag}})
	s, err := a.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := file(t, 100)
	m := mail(t, tag, 10)
	for _, subject := range []string{
		chunkSubject(b.Node(), d.Root, 0), deskSubject(b.Node()),
		"$JS.API.CONSUMER.MSG.NEXT.BOX." + b.Node(),
		"$JS.API.CONSUMER.CREATE.BOX." + a.Node(), "$JS.API.CONSUMER.CREATE.BOX." + a.Node() + ".or.b.>", "$JS.API.CONSUMER.DELETE.BOX." + b.Node(),
		"$JS.API.STREAM.INFO.BOX", "$JS.API.STREAM.INFO.FILES", "$JS.API.STREAM.PURGE.BOX", "$JS.API.STREAM.MSG.GET.BOX", "$JS.API.STREAM.DELETE.BOX",
		"$JS.API.DIRECT.GET.BOX." + boxSubject(tag, m.ID()), "$JS.API.DIRECT.GET.FILES.or.f.>",
		"or.b.a.b.c.d.e", "or.b.>", "_INBOX_" + b.Node() + ".x",
	} {
		start := time.Now()
		if _, err := s.publish(ctx, streamBox, subject, []byte("x")); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", subject, err)
		}
		if took := time.Since(start); took > quietAfter { // what a time-out needs at least
			t.Errorf("%s: told after %v", subject, took)
		}
	}
	for _, subject := range []string{"_INBOX_" + b.Node() + ".>", "or.>", "_INBOX.>"} {
		if _, err := s.nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		until(t, "the subscription to be refused", func() bool {
			err := s.nc.LastError()
			return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
		})
	}
	// The desk does not answer a third one either.
	raw, err := identity.Marshal(question{Ask: askHello})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.nc.PublishRequest(deskSubject(a.Node()), boxSubject(tag, m.ID()), raw); err != nil {
		t.Fatal(err)
	}
	if f := put(t, a, Item{Bundle: &m}); f != Stored {
		t.Errorf("the desk wrote into a mailbox: fate %d", f)
	}
}

// A node that occupies a bundle's name with something else delays nothing:
// the bundle goes under another name, and its reader gets it once.
func TestCoreSquattedSubject(t *testing.T) {
	a, b, evil := edge(t, "squat-a"), edge(t, "squat-b"), edge(t, "squat-evil")
	ctx := patiently(t)
	tag := newTag()
	watch(t, b, Mailboxes{Tags: []identity.Tag{tag}})
	in := pulling(t, b)
	m, other := mail(t, tag, 500), mail(t, tag, 500)
	s, err := evil.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.publish(ctx, streamBox, boxSubject(tag, m.ID()), other.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if f := put(t, a, Item{Bundle: &m}); f != Stored {
		t.Fatalf("fate %d", f)
	}
	until(t, "the bundle arrives", func() bool { return in.count(m.ID()) == 1 })
	until(t, "the forgery is seen", func() bool { return b.Status().Malformed == 1 })
	if in.len() != 1 || a.Status().Squatted != 1 {
		t.Errorf("%d bundles arrived, %+v", in.len(), a.Status())
	}
	if f := put(t, b, Item{Bundle: &other}); f != Stored {
		t.Errorf("the forgery's own name is taken: fate %d", f)
	}
}

// Nothing is sent to a server whose key is not pinned, though the CA has
// signed it; the error says which key it shows. A backup pin is as good as the
// first.
func TestP06WrongPinFailsClosed(t *testing.T) {
	t.Parallel()
	c := settings(t, "pin")
	right := c.Pins[0]
	sum := sha256.Sum256([]byte("another key"))
	wrong := base64.StdEncoding.EncodeToString(sum[:])
	c.Pins = []string{wrong}
	for _, ca := range []string{c.CAFile, ""} {
		c.CAFile = ca
		e := running(t, c)
		until(t, "the pin is refused", func() bool { return errors.Is(e.Status().Error, ErrPin) })
		if st := e.Status(); st.Up || !strings.Contains(st.Error.Error(), right) {
			t.Errorf("%+v", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		m := mail(t, newTag(), 10)
		_, err := e.Put(ctx, Item{Bundle: &m})
		cancel()
		wantErr(t, err, context.DeadlineExceeded)
	}
	c.Pins = []string{wrong, "sha256/" + right}
	until(t, "the core is reached with the backup pin", func() bool { return running(t, c).Status().Up || upSoon(t, c) })
}

// upSoon starts an edge and waits until it is up.
func upSoon(t *testing.T, c Config) bool {
	_, _, err := running(t, c).Up(patiently(t))
	return err == nil
}

// What is wrong with credentials is said before anything is dialled.
func TestCoreBadCredentials(t *testing.T) {
	good := settings(t, "cred")
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, change := range map[string]func(*Config){
		"no seed":        func(c *Config) { c.SeedFile = filepath.Join(dir, "none") },
		"not a seed":     func(c *Config) { c.SeedFile = file("x", "hello", 0o600) },
		"a huge file":    func(c *Config) { c.SeedFile = file("y", strings.Repeat("S", maxSeedFile+1), 0o600) },
		"a folder":       func(c *Config) { c.SeedFile = dir },
		"seed for all":   func(c *Config) { raw, _ := os.ReadFile(good.SeedFile); c.SeedFile = file("z", string(raw), 0o644) },
		"no certificate": func(c *Config) { c.CertFile = filepath.Join(dir, "none") },
		"foreign key":    func(c *Config) { c.KeyFile = filepath.Join(filepath.Dir(filepath.Dir(good.KeyFile)), "backup.key") },
		"no CA":          func(c *Config) { c.CAFile = filepath.Join(dir, "none") },
		"CA of rubbish":  func(c *Config) { c.CAFile = file("ca", "x", 0o600) },
		"neither CA nor": func(c *Config) { c.CAFile, c.Pins = "", nil },
		"no pin":         func(c *Config) { c.Pins = []string{"AAAA"} },
		"five pins":      func(c *Config) { c.Pins = []string{c.Pins[0], c.Pins[0], c.Pins[0], c.Pins[0], c.Pins[0]} },
		"no server":      func(c *Config) { c.Servers = nil },
		"nine servers":   func(c *Config) { c.Servers = strings.Split(strings.Repeat("a:1,", 9)[:9*4-1], ",") },
	} {
		c := good
		change(&c)
		if _, err := New(c, nil); !errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A node that the core does not know is told so.
func TestCoreUnknownNode(t *testing.T) {
	t.Parallel()
	c := settings(t, "known")
	d := cluster(t)
	other := &Dev{dir: t.TempDir()}
	if _, err := other.writeSeed("stranger.seed"); err != nil {
		t.Fatal(err)
	}
	c.SeedFile = other.path("stranger.seed")
	e := running(t, c)
	until(t, "the stranger is refused", func() bool { return errors.Is(e.Status().Error, ErrRefused) })
	if _, err := d.Add("../x"); !errors.Is(err, ErrNodeName) {
		t.Errorf("a name of dots: %v", err)
	}
	if _, err := d.Add(strings.Repeat("a", 33)); !errors.Is(err, ErrNodeName) {
		t.Errorf("a long name: %v", err)
	}
}

// A parcel's age grows while it lies at the core, by the core's clock, and
// never shrinks.
func TestCoreAgeGrowsAtCore(t *testing.T) {
	t.Parallel()
	a := edge(t, "age-a")
	begun := time.Now()
	b := edge(t, "age-b")
	ctx := patiently(t)
	tag := newTag()
	m := mail(t, tag, 10)
	m.Hop.Age = 100
	put(t, a, Item{Bundle: &m, Aged: func() uint32 { return 700 }})
	lay := time.Now()
	s, err := b.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if skew := time.Since(s.coreTime()); skew.Abs() > time.Minute {
		t.Errorf("the core's clock is %v off ours, on one machine", skew)
	}
	// By a clock that may be behind by as long as the core's answer took.
	behind := s.began.Sub(begun)
	until(t, "three seconds to pass", func() bool { return time.Since(lay) > 3*time.Second+behind })
	names, err := b.List(ctx, Mailboxes{Tags: []identity.Tag{tag}})
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	got, err := b.Fetch(ctx, names[0])
	if err != nil {
		t.Fatal(err)
	}
	if age, most := got.Bundle.Hop.Age, 701+uint32(time.Since(begun)/time.Second); age < 702 || age > most {
		t.Errorf("its age is %d, and must not be above %d", age, most)
	}
	p := Parcel{Bundle: &m}
	p.grow(-time.Hour)
	if m.Hop.Age != 100 {
		t.Errorf("a core whose clock runs back made it %d old", m.Hop.Age)
	}
	r := bundle.NewPurgeRecord(m, aKey)
	p = Parcel{Purge: &r}
	p.grow(time.Hour)
	if r.Hop.Age < 3600 {
		t.Errorf("a purge record of an hour is %d old", r.Hop.Age)
	}
}

// Bytes that are not what the subject says, too many, too few: nothing of it
// is taken, nothing grows.
func TestCoreMalformedParcels(t *testing.T) {
	tag := newTag()
	m := mail(t, tag, 10)
	r := bundle.NewPurgeRecord(m, aKey)
	good, purge := boxSubject(tag, m.ID()), purgeSubject(r)
	if _, err := openParcel(good, m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := openParcel(retrySubject(tag, m.ID(), 7), m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := openParcel(purge, r.Append(nil)); err != nil {
		t.Fatal(err)
	}
	altered := m.Append(nil)
	altered[len(altered)-1] ^= 1
	wrongKey := r
	wrongKey.Key[0] ^= 1
	random := make([]byte, maxParcel+1)
	_, _ = rand.Read(random)
	for name, x := range map[string]struct {
		subject string
		data    []byte
	}{
		"altered": {good, altered}, "truncated": {good, altered[:20]}, "empty": {good, nil}, "huge": {good, random},
		"another tag": {boxSubject(newTag(), m.ID()), m.Append(nil)}, "a purge under its name": {good, r.Append(nil)}, "a bundle as purge": {purge, m.Append(nil)},
		"another key": {purge, wrongKey.Append(nil)}, "another key's name": {purgeSubject(wrongKey), r.Append(nil)}, "no tag": {"or.b.xyz." + m.ID().String(), m.Append(nil)},
		"five tokens": {good + ".r", m.Append(nil)}, "unknown kind": {good + ".q.0", m.Append(nil)}, "another stream": {"or.f.a.b", m.Append(nil)},
	} {
		if _, err := openParcel(x.subject, x.data); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, chunks := file(t, 40_000)
	raw := chunks[0].append(nil)
	for name, data := range map[string][]byte{
		"empty": nil, "one byte": raw[:1], "truncated": raw[:len(raw)-1], "longer": append(raw[:len(raw):len(raw)], 0), "4 GiB proof": {0xff, 0xff, 0}, "huge": make([]byte, maxChunk+1),
		"altered": func() []byte { b := append([]byte(nil), raw...); b[len(b)-1] ^= 1; return b }(),
	} {
		if _, err := openChunk(d, 0, data); !errors.Is(err, ErrMalformed) {
			t.Errorf("chunk %s: %v", name, err)
		}
	}
	if _, err := openChunk(d, 1, raw); !errors.Is(err, ErrMalformed) {
		t.Errorf("chunk of another index: %v", err)
	}
}

// Lists end where they may, one past is refused by both sides.
func TestCoreLimits(t *testing.T) {
	t.Parallel()
	e := edge(t, "limits")
	ctx := patiently(t)
	tags := make([]identity.Tag, MaxTags+1)
	for i := range tags {
		tags[i] = newTag()
	}
	if _, err := e.Watch(ctx, Mailboxes{Tags: tags}); !errors.Is(err, ErrTooMany) {
		t.Errorf("%d tags: %v", len(tags), err)
	}
	if _, err := e.Watch(ctx, Mailboxes{Tags: tags[:MaxTags], Purges: tags[1:]}); err != nil {
		t.Errorf("%d tags: %v", MaxTags, err)
	}
	s, err := e.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	root := make([]byte, 32)
	for name, q := range map[string]question{
		"a tag too many": {Ask: askBoxes, Tags: packTags(tags)}, "half a tag": {Ask: askBoxes, Tags: root[:9]}, "no question": {}, "a later one": {Ask: 8},
		"a short id": {Ask: askCheck, Tag: root[:8], ID: root[:15]}, "a short root": {Ask: askHave, Root: root[:31]},
		"a wildcard": {Ask: askChunk, Root: root, Node: "*"}, "chunk beyond the largest file": {Ask: askChunk, Root: root, Node: e.Node(), Index: 1 << 15},
	} {
		if _, err := s.ask(ctx, q); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := bundle.Bundle{Header: mail(t, newTag(), 1).Header, Payload: make([]byte, maxParcel)}
	if _, err := e.Put(ctx, Item{Bundle: &big}); !errors.Is(err, ErrRefused) {
		t.Errorf("a bundle larger than any: %v", err)
	}
}
