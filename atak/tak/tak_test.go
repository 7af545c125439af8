package tak

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(t testing.TB, r *Reader) (out []Message, err error) {
	t.Helper()
	for {
		m, err := r.Next()
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
}

// L03: both forms on one stream, with everything that writers put between.
func TestL03StreamOfBothForms(t *testing.T) {
	var s []byte
	s = append(s, "\xef\xbb\xbf<auth><cot username='u'/></auth>"...)
	s = AppendDocument(s, []byte("<event uid='a'><detail>1 > 0 </x></detail></event>"))
	s = append(s, "\n\n  <!-- c --><event uid='b'></event \n>"...)
	s = AppendFrame(append(s, 0, 0), []byte("payload"))
	s = AppendFrame(append(s, 0), nil)
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(s), "byte by byte": iotest.OneByteReader(bytes.NewReader(s))} {
		rd := NewReader(r)
		got, err := readAll(t, rd)
		if !errors.Is(err, io.EOF) || len(got) != 5 {
			t.Fatalf("%s: %d messages, %v", name, len(got), err)
		}
		if got[0].Proto || !strings.HasSuffix(string(got[0].Data), "</auth>") || !strings.HasPrefix(string(got[1].Data), "<?xml") ||
			!strings.HasSuffix(string(got[2].Data), "</event \n>") || string(got[3].Data) != "payload" || !got[3].Proto || len(got[4].Data) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		if rd.Junk() != 3 {
			t.Errorf("%s: %d bytes of junk, want 3", name, rd.Junk())
		}
	}
}

func TestL03LimitsOfAStream(t *testing.T) {
	full := append(append([]byte("<"), bytes.Repeat([]byte("x"), MaxMessage-1-len("</event>"))...), "</event>"...)
	for name, c := range map[string]struct {
		in   []byte
		want error
		n    int
	}{
		"largest document":          {full, io.EOF, 1},
		"one more":                  {append([]byte("<"), full...), ErrTooLarge, 0},
		"largest frame":             {AppendFrame(nil, make([]byte, MaxMessage)), io.EOF, 1},
		"a frame of one byte more":  {AppendFrame(nil, make([]byte, MaxMessage+1)), ErrTooLarge, 0},
		"a frame of 4 GiB":          {[]byte{magic, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}, ErrTooLarge, 0},
		"a length without an end":   {append([]byte{magic}, bytes.Repeat([]byte{0xff}, 11)...), ErrTooLarge, 0},
		"a frame cut off":           {AppendFrame(nil, []byte("payload"))[:5], io.ErrUnexpectedEOF, 0},
		"a length cut off":          {[]byte{magic, 0xff}, io.ErrUnexpectedEOF, 0},
		"the magic alone":           {[]byte{magic}, io.ErrUnexpectedEOF, 0},
		"a document cut off":        {[]byte("<event>"), io.ErrUnexpectedEOF, 0},
		"as much junk as is taken":  {append(bytes.Repeat([]byte{1}, maxJunk), "<event></event>"...), io.EOF, 1},
		"one byte of junk too many": {append(bytes.Repeat([]byte{1}, maxJunk+1), "<event></event>"...), ErrJunk, 0},
		"nothing":                   {nil, io.EOF, 0},
	} {
		got, err := readAll(t, NewReader(bytes.NewReader(c.in)))
		if !errors.Is(err, c.want) || len(got) != c.n {
			t.Errorf("%s: %d messages, %v", name, len(got), err)
		}
	}
}

// Whatever is read can be written and is read again alike.
func FuzzReader(f *testing.F) {
	f.Add([]byte("<event></event>\n<auth></auth>"))
	f.Add(AppendFrame([]byte{0}, []byte("x")))
	f.Add([]byte{magic, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, _ := readAll(t, NewReader(bytes.NewReader(in)))
		var again []byte
		for _, m := range got {
			if m.Proto {
				again = AppendFrame(again, m.Data)
			} else {
				again = append(again, m.Data...)
			}
		}
		same, err := readAll(t, NewReader(bytes.NewReader(again)))
		if !errors.Is(err, io.EOF) || len(same) != len(got) {
			t.Fatalf("%d messages became %d: %v", len(got), len(same), err)
		}
		for i := range got {
			if got[i].Proto != same[i].Proto || !bytes.Equal(got[i].Data, same[i].Data) {
				t.Fatalf("message %d changed", i)
			}
		}
	})
}
