package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store"
	"outrider/store/internal/vfs"
	"outrider/store/storetest"
)

// The child is this test program, started again. It works on the store in
// OUTRIDER_STORE_DIR and says on standard output what it was told is durable:
//
//	open              about to open
//	up                opened
//	+ bundle <id>     committed
//	? bundle <id>     about to be deleted
//	- bundle <id>     deletion committed
//	+ value <key> <n> set to n; later values are larger
//	+ secret <id> <n> the same in the vault
//	+ leaf <seed> <i> leaf i of the sample blob of that seed synced
//	? leaves all      about to delete all blobs
//	done <n>          in mode "steps": step n was acknowledged
const (
	dirEnv      = "OUTRIDER_STORE_DIR"
	roundEnv    = "OUTRIDER_STORE_ROUND"
	noSyncEnv   = "OUTRIDER_STORE_NOSYNC"
	volatileEnv = "OUTRIDER_STORE_VOLATILE"
)

// A child is the state of the working process.
type child struct {
	store *store.Store
	vault *store.Vault
	round string
	out   sync.Mutex
}

func runChild(mode string) error {
	c := &child{round: os.Getenv(roundEnv)}
	dir := os.Getenv(dirEnv)
	var fsys vfs.FS = vfs.OS{}
	if os.Getenv(volatileEnv) != "" {
		fsys = storetest.NewVolatile()
	}
	o := store.Options{FS: fsys, SegmentBytes: 1 << 20}
	if os.Getenv(noSyncEnv) != "" {
		o = store.WithoutSync(o)
		fsys = vfs.NoSync{FS: fsys}
	}
	c.say("open")
	var err error
	if c.store, err = store.Open(filepath.Join(dir, "store"), o); err != nil {
		return err
	}
	if c.vault, err = openOrCreate(store.VaultOptions{FS: fsys}, filepath.Join(dir, "vault")); err != nil {
		return err
	}
	c.say("up")
	if mode == "steps" {
		return c.steps()
	}
	return c.load()
}

func openOrCreate(o store.VaultOptions, dir string) (*store.Vault, error) {
	v, err := o.Open(dir, kek)
	if errors.Is(err, store.ErrNotFound) {
		return o.Create(dir, kek)
	}
	return v, err
}

func (c *child) say(format string, args ...any) {
	c.out.Lock()
	defer c.out.Unlock()
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

// load works with many goroutines until the process is killed.
func (c *child) load() error {
	errs := make(chan error)
	for w := range 6 {
		go func() { errs <- c.bundles(w) }()
	}
	go func() { errs <- c.values() }()
	go func() { errs <- c.secrets() }()
	go func() { errs <- c.leaves() }()
	return <-errs
}

func (c *child) bundles(worker int) error {
	r := mrand.New(mrand.NewPCG(mrand.Uint64(), uint64(worker)))
	var mine []bundle.ID
	for n := 0; ; n++ {
		payload := make([]byte, r.IntN(6000))
		rand.Read(payload)
		p, err := childBundle(payload, uint64(n))
		if err != nil {
			return err
		}
		if err := c.store.Commit(context.Background(), p); err != nil {
			return err
		}
		mine = append(mine, p.Record.ID)
		c.say("+ bundle %v", p.Record.ID)
		if len(mine) < 20 && r.IntN(3) > 0 {
			continue
		}
		i := r.IntN(len(mine))
		id := mine[i]
		mine = append(mine[:i], mine[i+1:]...)
		c.say("? bundle %v", id)
		if err := c.store.Commit(context.Background(), store.DeleteBundle{ID: id}); err != nil {
			return err
		}
		c.say("- bundle %v", id)
	}
}

// childBundle is storetest's Draft without a test around it.
func childBundle(payload []byte, n uint64) (p store.PutBundle, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("make a bundle: %v", r)
		}
	}()
	d := storetest.Draft{Payload: payload, Tag: identity.Tag{byte(n)}, Precedence: bundle.Precedence(n % 4), Meta: store.Meta{Seq: n + 1, Due: n}}
	return d.Put(new(testing.B)), nil
}

// values fills the index's log quickly, so that it rotates often.
func (c *child) values() error {
	for n := 1; ; n++ {
		key := fmt.Sprint(n % 8)
		value := append(fmt.Appendf(nil, "%s %d ", c.round, n), make([]byte, 40<<10)...)
		if err := c.store.Commit(context.Background(), store.PutKV{Bucket: "v", Key: key, Value: value}); err != nil {
			return err
		}
		c.say("+ value %s %s %d", key, c.round, n)
	}
}

func (c *child) secrets() error {
	for n := 1; ; n++ {
		key := fmt.Sprintf("secret %d", n%50)
		var id [16]byte
		copy(id[:], key)
		if err := errors.Join(c.vault.Put(id, fmt.Appendf(nil, "%s %d", c.round, n)), c.vault.Commit()); err != nil {
			return err
		}
		c.say("+ secret %d %s %d", n%50, c.round, n)
	}
}

func (c *child) leaves() error {
	blobs := c.store.Blobs()
	if blobs.Bytes() > 64<<20 {
		c.say("? leaves all")
		for info := range blobs.List() {
			if err := blobs.Delete(info.Root); err != nil {
				return err
			}
		}
	}
	for {
		seed := mrand.Uint64N(1 << 16)
		s := newSample(new(testing.B), seed, 40*blob.LeafSize)
		if err := blobs.Create(s.Descriptor); err != nil {
			return err
		}
		for i := range s.leaves {
			if err := s.putLeaf(blobs, i); err != nil {
				return err
			}
			if i%4 != 3 {
				continue
			}
			if err := blobs.Sync(context.Background(), s.Root); err != nil {
				return err
			}
			for j := i - 3; j <= i; j++ {
				c.say("+ leaf %d %d", seed, j)
			}
		}
	}
}

// steps does one thing after the other, for the test under strace, and ends.
func (c *child) steps() error {
	ctx := context.Background()
	s := newSample(new(testing.B), 7, 3*blob.LeafSize)
	p, err := childBundle([]byte("payload of the strace test"), 1)
	if err != nil {
		return err
	}
	var id [16]byte
	steps := []func() error{
		func() error { return c.store.Commit(ctx, p) },
		func() error {
			return c.store.Commit(ctx, store.SetMeta{ID: p.Record.ID, Meta: store.Meta{Consumed: true}})
		},
		func() error { return errors.Join(c.vault.Put(id, []byte("secret")), c.vault.Commit()) },
		func() error { return errors.Join(c.vault.Shred(id), c.vault.Commit()) },
		func() error {
			return errors.Join(c.store.Blobs().Create(s.Descriptor), s.putLeaf(c.store.Blobs(), 0), c.store.Blobs().Sync(ctx, s.Root))
		},
		func() error { return c.untilNewLog(ctx) },
	}
	for n, step := range steps {
		if err := step(); err != nil {
			return err
		}
		c.say("done %d", n)
	}
	return errors.Join(c.vault.Close(), c.store.Close())
}

// untilNewLog commits until the index has begun another log.
func (c *child) untilNewLog(ctx context.Context) error {
	newest := func() (string, error) {
		logs, err := filepath.Glob(filepath.Join(os.Getenv(dirEnv), "store", "index", "*.mem"))
		return slices.Max(logs), err
	}
	was, err := newest()
	for is := was; err == nil && is == was; is, err = newest() {
		if err := c.store.Commit(ctx, store.PutKV{Bucket: "b", Key: "k", Value: make([]byte, store.MaxValue)}); err != nil {
			return err
		}
	}
	return err
}

// What a parent knows must be there, from the lines of its children.
type promises struct {
	bundles map[bundle.ID]bool   // true: must be there; false: must not
	unsure  map[bundle.ID]bool   // a deletion was under way
	values  map[string][2]uint64 // round, n
	secrets map[string][2]uint64
	leaves  map[uint64]map[int]bool
	lines   int

	// What was promised in this round; all of it is checked after the round,
	// what is older only now and then.
	freshBundles map[bundle.ID]bool
	freshLeaves  map[uint64]bool
}

// nextRound forgets what is fresh.
func (p *promises) nextRound() {
	p.freshBundles, p.freshLeaves = make(map[bundle.ID]bool), make(map[uint64]bool)
}

func newPromises() *promises {
	p := &promises{
		bundles: make(map[bundle.ID]bool), unsure: make(map[bundle.ID]bool), values: make(map[string][2]uint64),
		secrets: make(map[string][2]uint64), leaves: make(map[uint64]map[int]bool),
	}
	p.nextRound()
	return p
}

func (p *promises) hear(line string) error {
	f := strings.Fields(line)
	if len(f) < 3 {
		return nil
	}
	p.lines++
	switch f[0] + f[1] {
	case "+bundle", "?bundle", "-bundle":
		id, err := bundle.ParseID(f[2])
		p.unsure[id] = f[0] == "?"
		p.bundles[id] = f[0] == "+"
		p.freshBundles[id] = true
		return err
	case "+value", "+secret":
		into := p.values
		if f[1] == "secret" {
			into = p.secrets
		}
		var round, n uint64
		_, err := fmt.Sscan(f[3]+" "+f[4], &round, &n)
		into[f[2]] = [2]uint64{round, n}
		return err
	case "?leaves":
		clear(p.leaves)
		return nil
	case "+leaf":
		var seed uint64
		var i int
		_, err := fmt.Sscan(f[2]+" "+f[3], &seed, &i)
		if p.leaves[seed] == nil {
			p.leaves[seed] = make(map[int]bool)
		}
		p.leaves[seed][i] = true
		p.freshLeaves[seed] = true
		return err
	}
	return fmt.Errorf("unknown line %q", line)
}

// broken opens the store as a new start would and returns what is not as
// promised: in this round, or ever. Failing to open is an error.
func (p *promises) broken(dir string, ever bool) (broken []string, err error) {
	s, err := store.Open(filepath.Join(dir, "store"), store.Options{SegmentBytes: 1 << 20})
	if err != nil {
		return nil, fmt.Errorf("reopen: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	for id, there := range p.bundles {
		if p.unsure[id] || !ever && !p.freshBundles[id] {
			continue
		}
		if _, err := s.Load(id); there && err != nil || !there && !errors.Is(err, store.ErrNotFound) {
			say("bundle %v, there %v: %v", id, there, err)
		}
	}
	for key, want := range p.values {
		raw, err := s.Get("v", key)
		later(say, "value", key, raw, err, want)
	}
	p.brokenSecrets(dir, say)
	p.brokenLeaves(s.Blobs(), ever, say)
	err = p.miscounted(s, ever, say)
	return broken, err
}

// later complains unless raw is what was promised or something later.
func later(say func(string, ...any), what, key string, raw []byte, err error, want [2]uint64) {
	var got [2]uint64
	if err == nil {
		_, err = fmt.Sscan(string(raw[:min(40, len(raw))]), &got[0], &got[1])
	}
	if err != nil || got[0] < want[0] || got[0] == want[0] && got[1] < want[1] {
		say("%s %s is %v (%v), want %v or later", what, key, got, err, want)
	}
}

func (p *promises) brokenSecrets(dir string, say func(string, ...any)) {
	v, err := openOrCreate(store.VaultOptions{}, filepath.Join(dir, "vault"))
	if err != nil {
		say("secret vault does not open: %v", err)
		return
	}
	for key, want := range p.secrets {
		var id [16]byte
		copy(id[:], "secret "+key)
		raw, err := v.Get(id)
		later(say, "secret", key, raw, err, want)
	}
	if err := v.Close(); err != nil {
		say("secret vault does not close: %v", err)
	}
}

func (p *promises) brokenLeaves(blobs *store.Blobs, ever bool, say func(string, ...any)) {
	for seed, leaves := range p.leaves {
		if !ever && !p.freshLeaves[seed] {
			continue
		}
		smp := newSample(new(testing.B), seed, 40*blob.LeafSize)
		for i := range leaves {
			if _, err := blobs.ReadLeaf(smp.Root, i); err != nil {
				say("leaf %d of %d: %v", i, seed, err)
			}
		}
	}
}

// miscounted compares the counters, and every index, with what is there.
func (p *promises) miscounted(s *store.Store, ever bool, say func(string, ...any)) error {
	var n, bytes uint64
	for r, err := range s.Bundles(store.Query{}) {
		if err != nil {
			return err
		}
		n++
		bytes += uint64(r.PayloadLen) + store.RecordCost
		if !ever && !p.freshBundles[r.ID] {
			continue
		}
		if _, err := s.Payload(r.ID); err != nil {
			say("payload of %v: %v", r.ID, err)
		}
	}
	for _, index := range []store.Index{store.ByExpiry, store.ByPrecedence} {
		var m uint64
		for _, err := range s.Bundles(store.Query{Index: index}) {
			if err != nil {
				return err
			}
			m++
		}
		if m != n {
			say("index %d finds %d bundles of %d", index, m, n)
		}
	}
	st, err := s.Stats()
	if err == nil && (st.Bundles != n || st.Bytes != bytes) {
		say("%d bundles and %d bytes are counted, %d and %d are there", st.Bundles, st.Bytes, n, bytes)
	}
	return err
}
