package plainsearch

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"outrider/field-tests/pcap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func searcher(t testing.TB, needles ...Needle) *Searcher {
	t.Helper()
	s, err := New(needles)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func pack(t testing.TB, b []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(b, nil)
}

func utf16bytes(s string, order binary.AppendByteOrder) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}

const secret = "the ford at Mühlau holds"

// every spelling that decisions ask for, and how a hit reports it.
func spellings(t testing.TB) map[string][]byte {
	all := map[string][]byte{
		"raw":      []byte(secret),
		"hex":      []byte(hex.EncodeToString([]byte(secret))),
		"hex ":     []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
		"UTF-16LE": utf16bytes(secret, binary.LittleEndian),
		"UTF-16BE": utf16bytes(secret, binary.BigEndian),
	}
	for shift := range 3 {
		text := append(append(noise(shift), secret...), noise(2)...)
		all["base64"+strings.Repeat(" ", shift)] = []byte(base64.StdEncoding.EncodeToString(text))
		all["base64"+strings.Repeat(" ", shift+3)] = []byte(base64.RawURLEncoding.EncodeToString(text))
	}
	return all
}

func TestEverySpellingIsFound(t *testing.T) {
	s := searcher(t, Text("message", secret), Text("name", "Bravo"))
	for how, b := range spellings(t) {
		for _, form := range []string{"plain", "zstd", "zstd in zstd", "zstd cut", "in a stream of bytes"} {
			data := slices.Concat(noise(1000), b, noise(1000))
			inside := ""
			switch form {
			case "zstd":
				data, inside = slices.Concat(noise(77), pack(t, data), noise(500)), "zstd"
			case "zstd in zstd":
				data, inside = pack(t, slices.Concat(noise(10), pack(t, data))), "zstd, zstd"
			case "zstd cut":
				long := pack(t, slices.Concat(bytes.Repeat([]byte("abcdefgh"), 50_000), b, bytes.Repeat(noise(100), 9000)))
				data, inside = long[:len(long)-20], "zstd"
			}
			var r io.Reader = bytes.NewReader(data)
			if form == "in a stream of bytes" {
				r = iotest.OneByteReader(r)
			}
			hits, err := s.Reader("f", r)
			if err != nil {
				t.Fatal(err)
			}
			ok := slices.ContainsFunc(hits, func(h Hit) bool {
				return h.Needle == "message" && h.Form == strings.TrimSpace(how) && (h.Inside == inside || inside == "" && h.Inside == "")
			})
			if !ok {
				t.Errorf("%q, %s: not found; hits: %s", how, form, Summary(hits))
			}
			if strings.Contains(Summary(hits), "ford") {
				t.Error("a report shows the needle")
			}
		}
	}
}

func TestNothingIsFoundInNoise(t *testing.T) {
	s := searcher(t, append(Coordinates("position", 48.137431, 11.575492), Text("message", secret), Text("name", "Bravo"), Block("file", noise(4096)))...)
	hits, err := s.Reader("noise", bytes.NewReader(slices.Concat(noise(4<<20), pack(t, noise(1<<20)), make([]byte, 3<<20))))
	if err != nil || len(hits) != 0 {
		t.Errorf("%v %s", err, Summary(hits))
	}
}

func TestOffsets(t *testing.T) {
	s := searcher(t, Text("name", "Bravo"))
	for _, at := range []int{0, 1, chunk - 3, chunk, 3*chunk + 7} {
		b := make([]byte, at+100)
		copy(b[at:], "Bravo")
		hits, err := s.Reader("f", bytes.NewReader(b))
		if err != nil || len(hits) != 1 || hits[0].Offset != int64(at) || hits[0].Form != "raw" {
			t.Errorf("at %d: %v %v", at, hits, err)
		}
	}
}

func TestPartsOfLongNeedlesAreFound(t *testing.T) {
	block := noise(1000)
	s := searcher(t, Block("file", block))
	for at := 0; at+31 <= 992; at += 13 {
		hits, err := s.Reader("f", bytes.NewReader(slices.Concat(noise(50), block[at:at+31], noise(50))))
		if err != nil || len(hits) == 0 {
			t.Errorf("a part of 31 bytes at %d was not found", at)
		}
	}
	if n := len(windows(noise(1 << 20))); n != windowMax {
		t.Errorf("%d windows of a long needle", n)
	}
}

func TestCoordinates(t *testing.T) {
	s := searcher(t, Coordinates("position", 48.137431, -11.575492)...)
	be := binary.BigEndian
	lat7, lon7 := int32(481374310), int32(-115754920)
	for what, b := range map[string][]byte{
		"json":    []byte(`{"lat":48.137431,"lon":-11.575492}`),
		"double":  be.AppendUint64(nil, math.Float64bits(48.137431)),
		"ints":    be.AppendUint32(be.AppendUint32(nil, uint32(lat7)), uint32(lon7)),
		"rounded": []byte("-11.57549 "),
	} {
		hits, err := s.Reader("f", bytes.NewReader(slices.Concat(noise(9), b, noise(9))))
		if err != nil || len(hits) == 0 {
			t.Errorf("%s: %v %v", what, hits, err)
		}
	}
}

func TestShortNeedlesAreRefused(t *testing.T) {
	if _, err := New([]Needle{Text("name", "four")}); err == nil || strings.Contains(err.Error(), "four\"") {
		t.Errorf("a needle of four bytes: %v", err)
	}
	if _, err := New(nil); err == nil {
		t.Error("no needles")
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("db/000001.sst", slices.Concat(noise(5000), []byte(secret)))
	write("db/000002.sst", noise(5000))
	write("blobs/map of Mühlau.pdf", noise(10))
	write("empty", nil)
	if err := os.Symlink("map of Mühlau.pdf", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err == nil {
		_, err = sparse.WriteAt([]byte(secret), 64<<20-5)
		err = errors.Join(err, sparse.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	s := searcher(t, Text("message", secret), Text("file name", "map of Mühlau.pdf"))
	hits, err := s.Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, h := range hits {
		got[h.Needle+" "+filepath.Base(h.Where)+" "+h.Inside] = true
	}
	for _, want := range []string{"message 000001.sst ", "message sparse ", "file name map of Mühlau.pdf file name", "file name link file name"} {
		if !got[want] {
			t.Errorf("missing %q in %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("too much: %v", got)
	}
	if _, err := s.Tree(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing folder was searched")
	}
}

// tcpFrame is one segment from 10.0.0.1:1000 to 10.0.0.2:2000.
func tcpFrame(seq uint32, syn bool, data []byte) []byte {
	b := make([]byte, 14+20+20, 14+20+20+len(data)+6)
	be := binary.BigEndian
	be.PutUint16(b[12:], 0x0800)
	ip := b[14:]
	ip[0], ip[9] = 0x45, 6
	be.PutUint16(ip[2:], uint16(40+len(data)))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	tcp := ip[20:]
	be.PutUint16(tcp, 1000)
	be.PutUint16(tcp[2:], 2000)
	be.PutUint32(tcp[4:], seq)
	tcp[12] = 5 << 4
	if syn {
		tcp[13] = 2
	}
	return append(append(b, data...), 0, 0, 0, 0, 0, 0) // Ethernet padding
}

func writeCapture(t *testing.T, frames [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pcap.NewWriter(f)
	for _, b := range frames {
		err = errors.Join(err, w.Write(time.Now(), b))
	}
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatTwoPacketsShareIsFound(t *testing.T) {
	payload := slices.Concat(noise(3000), []byte(secret), noise(2000), pack(t, slices.Concat(noise(20_000), []byte("Bravo"), noise(9))), noise(3000))
	const first = 0xffffff00 // the numbers wrap on the way
	frames := [][]byte{tcpFrame(first, true, nil)}
	for at := 0; at < len(payload); at += 10 { // no packet holds a needle
		frames = append(frames, tcpFrame(first+1+uint32(at), false, payload[at:min(at+10, len(payload))]))
	}
	r := mrand.New(mrand.NewPCG(1, 2))
	for i := 1; i+5 < len(frames); i += 5 { // reordered, some repeated
		part := frames[i : i+5]
		r.Shuffle(len(part), func(x, y int) { part[x], part[y] = part[y], part[x] })
		if i%25 == 1 {
			frames = slices.Insert(frames, i+5, part[2])
		}
	}
	s := searcher(t, Text("message", secret), Text("name", "Bravo"))
	hits, err := s.File(writeCapture(t, frames))
	if err != nil {
		t.Fatal(err)
	}
	got := Summary(hits)
	for _, want := range []string{"message (raw)", "name (raw)", "stream 10.0.0.1:1000->10.0.0.2:2000/tcp", "/tcp, zstd"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestGapsAndForeignFramesAreSurvived(t *testing.T) {
	udp := tcpFrame(0, false, []byte("12345678"+secret))
	udp[14+9] = 17
	binary.BigEndian.PutUint16(udp[14+20+4:], uint16(20+8+len(secret)))
	frames := [][]byte{
		nil, noise(5), noise(13), noise(60), tcpFrame(1, true, nil), tcpFrame(2, false, []byte("begin")),
		tcpFrame(100, false, []byte(secret[:9])), tcpFrame(109, false, []byte(secret[9:])), udp,
	}
	s := searcher(t, Text("message", secret))
	hits, err := s.File(writeCapture(t, frames))
	if err != nil || !strings.Contains(Summary(hits), "/tcp") || !strings.Contains(Summary(hits), "/udp") {
		t.Errorf("behind a gap: %v\n%s", err, Summary(hits))
	}
}

func FuzzCapture(f *testing.F) {
	s := searcher(f, Text("message", secret))
	f.Add(tcpFrame(7, true, []byte("abc")), []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Fuzz(func(t *testing.T, frame, data []byte) {
		if len(frame) > pcap.MaxPacket {
			return
		}
		c := &streams{s: s, sink: newSink("f"), open: map[flow]*stream{}}
		for range 3 {
			c.packet(frame)
		}
		for _, st := range c.open {
			st.close()
		}
		if _, err := s.Reader("f", bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkSearch(b *testing.B) {
	s := searcher(b, append(Coordinates("position", 48.137431, 11.575492), Text("message", secret), Text("name", "Bravo"), Block("file", noise(512)))...)
	data := noise(16 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if hits, err := s.Reader("f", bytes.NewReader(data)); err != nil || len(hits) != 0 {
			b.Fatal(hits, err)
		}
	}
}
