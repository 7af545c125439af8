package config

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"strings"
	"testing"

	"rsc.io/qr/coding"
)

// How the picture is drawn.
const pixels, quiet = 8, 4

// readQR reads the text in a picture of a QR code without damage: the modules,
// the mask taken off, and the segments in the data (ISO/IEC 18004, 7.4).
func readQR(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	size := img.Bounds().Dx()/pixels - 2*quiet
	version := coding.Version((size - 17) / 4)
	plan, err := coding.NewPlan(version, coding.M, 0)
	if err != nil || size != len(plan.Pixel) {
		t.Fatalf("%d modules a side: %v", size, err)
	}
	data := make([]byte, plan.DataBytes)
	for y, row := range plan.Pixel {
		for x, p := range row {
			o := p.Offset()
			if p.Role() != coding.Data || int(o/8) >= len(data) {
				continue
			}
			if black(img, x, y) != (p&coding.Black != 0) {
				data[o/8] |= 0x80 >> (o % 8)
			}
		}
	}
	return segments(t, &bits{data: data}, version)
}

func black(img image.Image, x, y int) bool {
	c := color.GrayModel.Convert(img.At((x+quiet)*pixels+pixels/2, (y+quiet)*pixels+pixels/2)).(color.Gray)
	return c.Y < 128
}

type bits struct {
	data []byte
	at   int
}

func (b *bits) take(n int) (v int) {
	for range n {
		v = v<<1 | int(b.data[b.at/8]>>(7-b.at%8)&1)
		b.at++
	}
	return v
}

func segments(t *testing.T, b *bits, v coding.Version) string {
	t.Helper()
	const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
	var out strings.Builder
	for len(b.data)*8-b.at >= 4 {
		switch mode := b.take(4); mode {
		case 0:
			return out.String()
		case 2:
			n := b.take(map[bool]int{true: 9, false: 11}[v <= 9])
			for ; n > 1; n -= 2 {
				two := b.take(11)
				out.WriteByte(alphanumeric[two/45])
				out.WriteByte(alphanumeric[two%45])
			}
			if n == 1 {
				out.WriteByte(alphanumeric[b.take(6)])
			}
		case 4:
			n := b.take(map[bool]int{true: 8, false: 16}[v <= 9])
			for range n {
				out.WriteByte(byte(b.take(8)))
			}
		default:
			t.Fatalf("segment of mode %d", mode)
		}
	}
	return out.String()
}
