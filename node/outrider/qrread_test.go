package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"outrider/offline/deeplink"
)

func qrPicture(t testing.TB, text string) []byte {
	t.Helper()
	code, err := deeplink.QR(text)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := qrPNG(&b, code); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a picture of a code says is what was written into it, up to the largest
// code there is (P02).
func TestP02PicturesAreRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"short": "outrider://c/#AB", "largest": "outrider://c/#" + strings.Repeat("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 29),
		"for a phone": "https://192.0.2.17:7443/c/#" + strings.Repeat("A7", 300),
	} {
		raw := qrPicture(t, text)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, pictured, err := readLinkFile(path, 10); err != nil || !pictured || string(got) != text {
			t.Errorf("%s: %.40q, %v", name, got, err)
		}
		img, err := png.Decode(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		var photo bytes.Buffer
		if err := jpeg.Encode(&photo, img, &jpeg.Options{Quality: 30}); err != nil {
			t.Fatal(err)
		}
		if got, err := readQR(&photo); err != nil || got != text {
			t.Errorf("%s as JPEG: %.40q, %v", name, got, err)
		}
	}
	plain := filepath.Join(dir, "link")
	if err := os.WriteFile(plain, []byte("outrider://c/#AB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, pictured, err := readLinkFile(plain, linkMax); err != nil || pictured || string(got) != "outrider://c/#AB\n" {
		t.Errorf("a file without a picture: %q, %v", got, err)
	}
}

func TestP02PicturesWithoutACode(t *testing.T) {
	sound := qrPicture(t, "outrider://c/#AB")
	var blank bytes.Buffer
	if err := png.Encode(&blank, image.NewGray(image.Rect(0, 0, 200, 200))); err != nil {
		t.Fatal(err)
	}
	vast := bytes.Clone(sound) // of which nothing but the head is right
	binary.BigEndian.PutUint32(vast[16:], 1<<15)
	binary.BigEndian.PutUint32(vast[20:], pixelsMax>>15+1)
	binary.BigEndian.PutUint32(vast[29:], crc32.ChecksumIEEE(vast[12:29]))
	for name, raw := range map[string][]byte{
		"blank": blank.Bytes(), "truncated": sound[:len(sound)/2], "only a head": sound[:8], "too many pixels": vast,
		"too long": append(bytes.Clone(sound), make([]byte, pictureMax)...),
	} {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := readLinkFile(path, linkMax)
		if f, ok := errors.AsType[*failure](err); !ok || f.exit != exitUsage || f.hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadQR(f *testing.F) {
	f.Add(qrPicture(f, "outrider://c/#AB"))
	f.Add([]byte("\xff\xd8\xff\xe0"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := readQR(bytes.NewReader(raw))
		if err != nil && text != "" {
			t.Errorf("%q with %v", text, err)
		}
	})
}
