package carry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

var network = identity.NetworkID{7}

func open(t testing.TB, dir string) *Medium {
	t.Helper()
	m, err := Open(dir, network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.closeFiles() })
	return m
}

func closed(t testing.TB, m *Medium) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func made(t testing.TB, payload string) (bundle.Bundle, Op) {
	t.Helper()
	h := bundle.Header{Version: 1, Tag: identity.Tag{1}, Lifetime: time.Hour, Kind: bundle.KindMessage}
	h.Commitment = bundle.PurgeKey{9}.Commit(h.Tag)
	b, err := bundle.New(h, []byte(payload), 4)
	if err != nil {
		t.Fatal(err)
	}
	id := b.ID()
	return b, Op{Kind: KindBundle, Key: id[:], Data: b.Append(nil), Meta: []byte("meta of " + payload[:min(len(payload), 20)])}
}

func commit(t testing.TB, m *Medium, txns ...[]Op) {
	t.Helper()
	if err := m.Commit(context.Background(), txns); err != nil {
		t.Fatal(err)
	}
}

// held lists what a medium holds, as text that can be compared.
func held(t testing.TB, m *Medium) []string {
	t.Helper()
	var out []string
	for r := range m.Bundles() {
		got, payload, err := m.Load(r.ID)
		if err != nil || got.ID != r.ID || got.Size != len(payload) {
			t.Fatalf("load: %v", err)
		}
		out = append(out, fmt.Sprintf("%s/%s", payload, r.Meta))
	}
	for p := range m.Purges() {
		out = append(out, fmt.Sprintf("purge %v/%s", p.ID, p.Meta))
	}
	for _, k := range slices.Sorted(maps.Keys(m.state.values)) {
		out = append(out, k+"="+string(m.Value(k)))
	}
	slices.Sort(out)
	return out
}

func same(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("holds %q, want %q", got, want)
	}
}

// logFile is the only log of a medium.
func logFile(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, Folder, "*", "log-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%d logs, want 1: %v", len(names), err)
	}
	return names[0]
}

// What was committed is there again, with the medium's own name, after it was
// closed and after it was pulled out.
func TestReopen(t *testing.T) {
	for name, end := range map[string]func(*Medium) error{"closed": (*Medium).Close, "pulled out": (*Medium).closeFiles} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := open(t, dir)
			a, putA := made(t, "alpha")
			_, putB := made(t, "bravo")
			idA := a.ID()
			record := bundle.NewPurgeRecord(a, bundle.PurgeKey{9})
			commit(t, m, []Op{putA, putB}, []Op{{Kind: KindMeta, Key: putB.Key, Meta: []byte("new")}, {Kind: KindValue, Key: []byte("k"), Data: []byte("v")}})
			commit(t, m, []Op{{Kind: KindDrop, Key: idA[:]}, {Kind: KindPurge, Key: idA[:], Data: record.Append(nil), Meta: []byte("x")}})
			want := held(t, m)
			if len(want) != 3 {
				t.Fatalf("holds %q", want)
			}
			id, epoch := m.ID(), m.Epoch()
			if err := end(m); err != nil {
				t.Fatal(err)
			}
			again := open(t, dir)
			same(t, held(t, again), want)
			if again.ID() != id || again.Epoch() != epoch || again.Damage() != (Damage{}) {
				t.Errorf("id, epoch or damage changed: %+v", again.Damage())
			}
			p, err := again.Purge(idA)
			if err != nil || !p.Record.Valid() {
				t.Errorf("purge record: %v", err)
			}
			if _, _, err := again.Load(idA); !errors.Is(err, ErrNotFound) {
				t.Errorf("a dropped bundle: %v", err)
			}
			commit(t, again, []Op{{Kind: KindDropPurge, Key: idA[:]}, {Kind: KindValue, Key: []byte("k")}})
			same(t, held(t, again), []string{"bravo/new"})
		})
	}
}

// The log is cut at every byte: what was committed before is there, whole
// transactions only, nothing is reported as damage, and writing goes on.
func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	var ends []int64
	for i := range 4 {
		_, a := made(t, fmt.Sprint("a", i))
		_, b := made(t, fmt.Sprint("b", i))
		commit(t, m, []Op{a, b})
		ends = append(ends, m.sizes[m.newest])
	}
	closed(t, m)
	log := logFile(t, dir)
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(log, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		m := open(t, dir)
		n := 0
		for n < len(ends) && ends[n] <= int64(cut) {
			n++
		}
		if got := len(held(t, m)); got != 2*n {
			t.Fatalf("cut at %d: %d bundles, want %d", cut, got, 2*n)
		}
		if m.Damage() != (Damage{}) {
			t.Fatalf("cut at %d: %+v reported", cut, m.Damage())
		}
		_, c := made(t, "after")
		commit(t, m, []Op{c})
		closed(t, m)
		again := open(t, dir)
		if got := len(held(t, again)); got != 2*n+1 {
			t.Fatalf("cut at %d: %d bundles after one more, want %d", cut, got, 2*n+1)
		}
		again.closeFiles()
	}
}

// A rotten byte anywhere costs the transaction it lies in and no other, is
// reported once, and never makes something up.
func TestRot(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	var ends []int
	var payloads []string
	for i := range 3 {
		payloads = append(payloads, fmt.Sprint("payload ", i))
		_, op := made(t, payloads[i])
		commit(t, m, []Op{op})
		ends = append(ends, int(m.sizes[m.newest]))
	}
	closed(t, m)
	whole, err := os.ReadFile(logFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for at := range len(whole) {
		dir := t.TempDir()
		open(t, dir).closeFiles()
		label, err := os.ReadFile(filepath.Join(m.dir, labelName))
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Dir(logFile(t, dir))
		rotten := bytes.Clone(whole)
		rotten[at] ^= 0x20
		if err := errors.Join(os.WriteFile(filepath.Join(folder, labelName), label, 0o644), os.WriteFile(logFile(t, dir), rotten, 0o644)); err != nil {
			t.Fatal(err)
		}
		hit, _ := slices.BinarySearch(ends, at+1)
		var want []string
		for i, p := range payloads {
			if i != hit {
				want = append(want, p+"/meta of "+p)
			}
		}
		again := open(t, dir)
		same(t, held(t, again), want)
		if last := hit == len(ends)-1; again.Damage() == (Damage{}) && !last {
			t.Fatalf("rot at %d is not reported", at)
		}
		again.closeFiles()
		twice := open(t, dir)
		same(t, held(t, twice), want)
		if twice.Damage() != (Damage{}) {
			t.Fatalf("rot at %d is reported again", at)
		}
		twice.closeFiles()
	}
}

// A label that rots, another network's folder, a second program, and a stick
// that is not there are each refused with what is wrong.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	if _, err := Open(dir, network); !errors.Is(err, ErrBusy) {
		t.Errorf("a second program: %v", err)
	}
	_, op := made(t, "x")
	commit(t, m, []Op{op})
	closed(t, m)
	other := network
	other[31] ^= 1 // the folder's name is the beginning only
	if _, err := Open(dir, other); !errors.Is(err, ErrForeign) {
		t.Errorf("another network: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "not mounted"), network); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such folder: %v", err)
	}
	label := filepath.Join(m.dir, labelName)
	raw, _ := os.ReadFile(label)
	for name, data := range map[string][]byte{"short": raw[:20], "long": append(bytes.Clone(raw), 0), "rotten": append([]byte("ORCARRY2"), raw[8:]...), "gone": nil} {
		if err := os.WriteFile(label, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, network); !errors.Is(err, ErrNotMedium) {
			t.Errorf("label %s: %v", name, err)
		}
	}
}

// What the form does not allow is refused when written and passed over when
// read: a medium may come from anybody.
func TestHostileOps(t *testing.T) {
	good, op := made(t, "x")
	id := good.ID()
	big := op
	big.Meta = make([]byte, MaxMeta+1)
	wrongID := op
	wrongID.Key = make([]byte, 16)
	hostile := map[string]Op{
		"meta too long": big, "not its id": wrongID, "id too short": {Kind: KindBundle, Key: id[:15], Data: op.Data},
		"no bundle": {Kind: KindBundle, Key: id[:], Data: []byte("x")}, "unknown kind": {Kind: 99}, "empty name": {Kind: KindValue},
		"name too long":    {Kind: KindValue, Key: make([]byte, MaxKey+1)},
		"value too long":   {Kind: KindValue, Key: []byte("k"), Data: make([]byte, MaxValue+1)},
		"purge of nothing": {Kind: KindPurge, Key: id[:], Data: []byte{1}}, "root too short": {Kind: kindLeaves, Key: []byte("../../x")},
		"blob without form": {Kind: kindBlob, Key: make([]byte, 32), Data: []byte{1}},
	}
	for name, bad := range hostile {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := open(t, dir)
			if err := m.Commit(context.Background(), [][]Op{{op}, {bad}}); err == nil {
				t.Fatal("written")
			}
			same(t, held(t, m), nil)
			closed(t, m)
			frame, err := appendFrame(nil, 1, []Op{bad, op})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(logFile(t, dir), frame, 0o644); err != nil {
				t.Fatal(err)
			}
			same(t, held(t, open(t, dir)), []string{"x/meta of x"})
		})
	}
}

// One past each number that bounds memory.
func TestLimits(t *testing.T) {
	s := newState()
	for i := range MaxValues + 1 {
		s.apply(place{}, Op{Kind: KindValue, Key: []byte(fmt.Sprint(i)), Data: []byte("v")})
	}
	if len(s.values) != MaxValues {
		t.Errorf("%d values, want %d", len(s.values), MaxValues)
	}
	for i := range MaxLeaves/blob.MaxLeaves + 1 {
		d := blob.Descriptor{Root: blob.Root{byte(i), byte(i >> 8), 1}, Length: blob.MaxLength}
		raw, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		s.apply(place{}, Op{Kind: kindBlob, Key: d.Root[:], Data: raw})
	}
	if s.leaves != MaxLeaves {
		t.Errorf("%d leaves, want %d", s.leaves, MaxLeaves)
	}
	if _, err := appendFrame(nil, 1, []Op{{Data: make([]byte, MaxFrame)}}); err == nil {
		t.Error("a transaction beyond the limit was encoded")
	}
}

// More than half dead: the log is rewritten, and says the same.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	for i := range 100 {
		_, op := made(t, fmt.Sprint(i, string(bytes.Repeat([]byte{'x'}, 30_000))))
		commit(t, m, []Op{op})
		if i%10 != 0 {
			commit(t, m, []Op{{Kind: KindDrop, Key: op.Key}})
		}
	}
	want := held(t, m)
	before := m.sizes[m.newest]
	closed(t, m)
	again := open(t, dir)
	same(t, held(t, again), want)
	if after := again.sizes[again.newest]; after > before/5 || again.newest != 2 {
		t.Errorf("%d bytes in log %d, before %d", after, again.newest, before)
	}
	logFile(t, dir)
	closed(t, again)

	// Cut off in the middle, the replacement is dropped.
	whole, err := os.ReadFile(logFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(filepath.Dir(logFile(t, dir)), logName(3))
	base, _ := appendFrame(nil, 3, []Op{{Kind: kindBase}})
	if err := os.WriteFile(half, append(base, whole[:len(whole)/2]...), 0o644); err != nil {
		t.Fatal(err)
	}
	third := open(t, dir)
	same(t, held(t, third), want)
	_, op := made(t, "more")
	commit(t, third, []Op{op})
	closed(t, third)
	if got := len(held(t, open(t, dir))); got != len(want)+1 {
		t.Errorf("%d after one more, want %d", got, len(want)+1)
	}
}

// Leaves count once they are durable, in runs; what does not verify is refused
// and what rots is disowned.
func TestBlob(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	ctx := context.Background()
	data := bytes.Repeat([]byte("leaves of a file "), 3*blob.LeafSize/34*blob.GroupLeaves)
	var build blob.Builder
	leaf := func(i int) []byte { return data[i*blob.LeafSize : min(len(data), (i+1)*blob.LeafSize)] }
	n := (len(data) + blob.LeafSize - 1) / blob.LeafSize
	for i := range n {
		if err := build.AddLeaf(leaf(i)); err != nil {
			t.Fatal(err)
		}
	}
	root, hashes := build.Finish()
	d := blob.Descriptor{Root: root, Length: uint64(len(data))}
	if d.Geometry().Groups() < 2 {
		t.Fatal("too small to try more than one group")
	}
	if err := m.PutLeaf(root, 0, leaf(0)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a leaf of nothing: %v", err)
	}
	wrong := blob.Descriptor{Root: root, Length: 5}
	for _, d := range []blob.Descriptor{d, wrong, d} { // before a leaf has verified, either may be right
		if have, err := m.OpenBlob(ctx, d); err != nil || have.Count() != 0 {
			t.Fatal(have, err)
		}
	}
	if err := m.PutLeaf(root, 0, leaf(0)); !errors.Is(err, ErrVerify) {
		t.Errorf("a leaf without proof: %v", err)
	}
	for g := range d.Geometry().Groups() {
		raw, err := blob.Proof(hashes, g).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.PutProof(root, g+1, raw); !errors.Is(err, ErrVerify) {
			t.Errorf("a proof of another group: %v", err)
		}
		if err := m.PutProof(root, g, raw); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if err := m.PutLeaf(root, i, append([]byte{1}, leaf(i)...)); !errors.Is(err, ErrVerify) {
			t.Fatalf("a false leaf: %v", err)
		}
		if i == n/2 {
			if err := m.Sync(root); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.PutLeaf(root, i, leaf(i)); err != nil {
			t.Fatal(err)
		}
	}
	m.closeFiles() // pulled out before the second half was synced
	m = open(t, dir)
	have, err := m.OpenBlob(ctx, d)
	if err != nil || have.Count() != n/2 {
		t.Fatalf("%d leaves, want %d: %v", have.Count(), n/2, err)
	}
	if _, err := m.OpenBlob(ctx, wrong); !errors.Is(err, ErrVerify) {
		t.Errorf("another length: %v", err)
	}
	for i := n / 2; i < n; i++ {
		if err := m.PutLeaf(root, i, leaf(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Sync(root); err != nil {
		t.Fatal(err)
	}
	closed(t, m)
	m = open(t, dir)
	for i := range n {
		got, err := m.Leaf(root, i)
		if err != nil || !bytes.Equal(got, leaf(i)) {
			t.Fatalf("leaf %d: %v", i, err)
		}
	}
	part := m.partName(root, 0)
	raw, _ := os.ReadFile(part)
	raw[blob.LeafSize+5] ^= 1
	if err := os.WriteFile(part, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Leaf(root, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("a rotten leaf: %v", err)
	}
	if have, _ := m.OpenBlob(ctx, d); have.Has(1) || have.Count() != n-1 {
		t.Error("a rotten leaf still counts")
	}
	if err := m.replace(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Leaf(root, n-1); err != nil {
		t.Errorf("after tidying: %v", err)
	}
	if err := m.DropBlob(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leaves of a dropped blob: %v", err)
	}
}

// No FAT file grows beyond what FAT can hold.
func TestPartsStayBelowFAT(t *testing.T) {
	if part, offset := leafPlace(blob.MaxLeaves - 1); part != blob.MaxLength/partSize-1 || offset+blob.LeafSize != partSize || offset+blob.LeafSize >= 4<<30 {
		t.Errorf("the last leaf lies in part %d at %d", part, offset)
	}
}

func FuzzScan(f *testing.F) {
	_, op := made(f, "x")
	frame, _ := appendFrame(nil, 1, []Op{op, {Kind: KindValue, Key: []byte("k"), Data: []byte("v")}})
	f.Add(frame)
	f.Add(append(frame, frame[:30]...))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newState()
		end, _, err := scan(bytes.NewReader(data), 1, func(at place, ops []Op) {
			for i, op := range ops {
				at.op = i
				s.apply(at, op)
			}
		})
		if err != nil || end > int64(len(data)) {
			t.Fatalf("end %d of %d: %v", end, len(data), err)
		}
	})
}

func FuzzLabel(f *testing.F) {
	f.Add(label{id: identity.NodeID{1}, network: network}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := parseLabel(data); err == nil && !bytes.Equal(l.encode(), data) {
			t.Fatal("encodes differently")
		}
	})
}
