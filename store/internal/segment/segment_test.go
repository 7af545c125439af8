package segment_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"

	"outrider/store/internal/segment"
	"outrider/store/internal/vfs"
	"outrider/store/storetest"
)

func item(n, size int) segment.Item {
	it := segment.Item{Payload: bytes.Repeat([]byte{byte(n)}, size)}
	copy(it.ID[:], fmt.Sprint(n))
	return it
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, fsys vfs.FS, ends map[uint32]uint32) *segment.Log {
	t.Helper()
	l, damaged, err := segment.Open(fsys, "/log", ends)
	must(t, err)
	if len(damaged) != 0 {
		t.Fatalf("damaged: %v", damaged)
	}
	return l
}

// place lays items one after the other from p on.
func place(p segment.Place, items ...segment.Item) (places []segment.Place) {
	for _, it := range items {
		places = append(places, p)
		p.Offset += it.Size()
	}
	return places
}

func TestAppendReadWalk(t *testing.T) {
	d := storetest.NewDisk()
	l := open(t, d, nil)
	items := []segment.Item{item(1, 10), item(2, 3000), item(3, 1)}
	places := place(segment.Place{Segment: 1}, items...)
	must(t, l.Append(items[:2], places[:2]))
	must(t, l.Append(items[2:], places[2:]))
	end := places[2].Offset + items[2].Size()
	other := item(4, 7)
	must(t, l.Append([]segment.Item{other}, []segment.Place{{Segment: 2}}))
	must(t, l.Close())
	l = open(t, d, map[uint32]uint32{1: end, 2: other.Size()})
	for i, it := range items {
		got, err := l.Read(places[i], uint32(len(it.Payload)))
		if err != nil || !bytes.Equal(got, it.Payload) {
			t.Fatalf("item %d: %v", i, err)
		}
	}
	n := 0
	for fr, err := range l.Frames(1, end) {
		must(t, err)
		if fr.ID != items[n].ID || fr.Place != places[n] || int(fr.Len) != len(items[n].Payload) {
			t.Fatalf("frame %d: %+v", n, fr)
		}
		n++
	}
	if n != 3 {
		t.Fatalf("%d frames", n)
	}
	must(t, l.Remove(2))
	if _, err := l.Read(segment.Place{Segment: 2}, 7); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read of a removed segment: %v", err)
	}
	must(t, l.Close())
	if _, err := l.Read(places[0], 10); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

// Many segments are read with few files open.
func TestManySegments(t *testing.T) {
	d := storetest.NewDisk()
	l := open(t, d, nil)
	for n := range uint32(50) {
		must(t, l.Append([]segment.Item{item(int(n), 100)}, []segment.Place{{Segment: n + 1}}))
	}
	for range 3 {
		for n := range uint32(50) {
			got, err := l.Read(segment.Place{Segment: n + 1}, 100)
			if err != nil || got[0] != byte(n) {
				t.Fatalf("segment %d: %v", n+1, err)
			}
		}
	}
	must(t, l.Close())
}

// What the index does not count is cut off or removed; what it counts and is
// not there is reported.
func TestOpenRepairs(t *testing.T) {
	d := storetest.NewDisk()
	l := open(t, d, nil)
	a, b := item(1, 10), item(2, 10)
	must(t, l.Append([]segment.Item{a, b}, place(segment.Place{Segment: 1}, a, b)))
	must(t, l.Append([]segment.Item{a}, []segment.Place{{Segment: 2}}))
	must(t, l.Close())
	open(t, d, map[uint32]uint32{1: a.Size()})
	if n := len(d.Content("/log/00000001.seg")); n != int(a.Size()) {
		t.Fatalf("%d bytes after cutting, want %d", n, a.Size())
	}
	if d.Content("/log/00000002.seg") != nil {
		t.Fatal("a segment nobody knows is still there")
	}
	_, damaged, err := segment.Open(d, "/log", map[uint32]uint32{1: a.Size() + 1, 7: 1})
	must(t, err)
	if len(damaged) != 2 {
		t.Fatalf("damaged %v, want 1 and 7", damaged)
	}
}

func TestWalkOfDamage(t *testing.T) {
	d := storetest.NewDisk()
	l := open(t, d, nil)
	a := item(1, 10)
	must(t, l.Append([]segment.Item{a}, []segment.Place{{Segment: 1}}))
	d.Damage("/log/00000001.seg", 16) // the length
	var last error
	for _, err := range l.Frames(1, a.Size()) {
		last = err
	}
	if !errors.Is(last, segment.ErrMalformed) {
		t.Fatalf("error %v", last)
	}
}

// After Append returned, a power cut at any later moment loses nothing, and an
// interrupted Append can be repeated in the same place.
func TestPowerCut(t *testing.T) {
	if lost, err := cutEverywhere(func(d *storetest.Disk) vfs.FS { return d }); lost != 0 || err != nil {
		t.Fatalf("%d appended payloads lost, %v", lost, err)
	}
}

func TestPowerCutControl(t *testing.T) {
	if lost, err := cutEverywhere(func(d *storetest.Disk) vfs.FS { return vfs.NoSync{FS: d} }); lost == 0 && err == nil {
		t.Fatal("nothing was lost although nothing was synced: the test proves nothing")
	}
}

// run appends and returns how many appends came back.
func run(fsys vfs.FS) (acked int) {
	l, _, err := segment.Open(fsys, "/log", nil)
	if err != nil {
		return 0
	}
	for n := range 12 {
		it := item(n, 700)
		if l.Append([]segment.Item{it}, []segment.Place{placeOf(n)}) != nil {
			return acked
		}
		acked++
	}
	return acked
}

// placeOf puts four items in each segment.
func placeOf(n int) segment.Place {
	size := item(0, 700).Size()
	return segment.Place{Segment: uint32(n/4 + 1), Offset: uint32(n%4) * size}
}

func cutEverywhere(wrap func(*storetest.Disk) vfs.FS) (lost int, err error) {
	whole := storetest.NewDisk()
	run(wrap(whole))
	for cut := range whole.Changes() + 1 {
		for seed := range 5 {
			d := storetest.NewDisk()
			d.CutAfter(cut)
			acked := run(wrap(d))
			n, err := lostAfter(d.PowerCut(rand.New(rand.NewPCG(uint64(cut), uint64(seed)))), acked)
			if err != nil {
				return lost, fmt.Errorf("cut at change %d, seed %d: %w", cut, seed, err)
			}
			lost += n
		}
	}
	return lost, nil
}

func lostAfter(d *storetest.Disk, acked int) (lost int, err error) {
	ends := make(map[uint32]uint32)
	for n := range acked {
		p := placeOf(n)
		ends[p.Segment] = p.Offset + item(n, 700).Size()
	}
	l, _, err := segment.Open(d, "/log", ends)
	if err != nil {
		return 0, err
	}
	for n := range acked {
		got, err := l.Read(placeOf(n), 700)
		if err != nil || !bytes.Equal(got, item(n, 700).Payload) {
			lost++
		}
	}
	next := item(99, 700)
	if err := l.Append([]segment.Item{next}, []segment.Place{placeOf(acked)}); err != nil {
		return lost, err
	}
	got, err := l.Read(placeOf(acked), 700)
	if err == nil && !bytes.Equal(got, next.Payload) {
		err = errors.New("append after a cut does not read back")
	}
	return lost, err
}

// A failing write can be repeated; after a failing sync the error says so.
func TestErrors(t *testing.T) {
	d := storetest.NewDisk()
	l := open(t, d, nil)
	failing := ""
	d.OnOp = func(op, _ string) error {
		if op == failing {
			return errors.New("no")
		}
		return nil
	}
	a := item(1, 10)
	for _, op := range []string{"create", "write", "sync", "syncdir"} {
		failing = op
		err := l.Append([]segment.Item{a}, []segment.Place{{Segment: 1}})
		if err == nil || errors.Is(err, segment.ErrUnsynced) != (op == "sync" || op == "syncdir") {
			t.Fatalf("failing %s: %v", op, err)
		}
	}
	failing = ""
	must(t, l.Append([]segment.Item{a}, []segment.Place{{Segment: 1}}))
	if _, err := l.Read(segment.Place{Segment: 1}, 10); err != nil {
		t.Fatal(err)
	}
}

func FuzzFrames(f *testing.F) {
	it := item(1, 20)
	seed := append(append(append([]byte{}, it.ID[:]...), 0, 0, 0, 20), it.Payload...)
	f.Add(seed)
	f.Add(seed[:19])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := storetest.NewDisk()
		must(t, d.MkdirAll("/log"))
		file, err := d.Create("/log/00000001.seg")
		must(t, err)
		_, err = file.WriteAt(data, 0)
		must(t, err)
		l, damaged, err := segment.Open(d, "/log", map[uint32]uint32{1: uint32(len(data))})
		must(t, err)
		if len(damaged) != 0 {
			t.Fatalf("damaged %v", damaged)
		}
		end := uint32(0)
		for fr, err := range l.Frames(1, uint32(len(data))) {
			if err != nil {
				return // says so and ends
			}
			if fr.Place.Offset != end || fr.Len == 0 {
				t.Fatalf("frame %+v after %d", fr, end)
			}
			if _, err := l.Read(fr.Place, fr.Len); err != nil {
				t.Fatal(err)
			}
			end += segment.FrameHeader + fr.Len
		}
		if int(end) != len(data) {
			t.Fatalf("walked to %d of %d without an error", end, len(data))
		}
	})
}
