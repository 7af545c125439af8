package main

import (
	"strings"
	"testing"

	"outrider/offline/deeplink"
)

// What is drawn is read back, module for module.
func TestDrawnQRIsTheCode(t *testing.T) {
	code, err := deeplink.QR(deeplink.Scheme + strings.Repeat("J5JDC", 120))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(drawQR(code.Size, code.Black), "\n"), "\n")
	width := code.Size + 2*quietZone
	if len(lines) != (width+1)/2 {
		t.Fatalf("%d lines for %d modules", len(lines), width)
	}
	for i, line := range lines {
		row := []rune(strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[38;5;16;48;5;231m"), "\x1b[0m"))
		if len(row) != width {
			t.Fatalf("line %d has %d columns, want %d", i, len(row), width)
		}
		for x, r := range row {
			for half, dark := range map[int]bool{0: r == '█' || r == '▀', 1: r == '█' || r == '▄'} {
				mx, my := x-quietZone, 2*i+half-quietZone
				inside := mx >= 0 && my >= 0 && mx < code.Size && my < code.Size
				if want := inside && code.Black(mx, my); dark != want {
					t.Fatalf("module %d,%d is drawn wrong", mx, my)
				}
			}
		}
	}
}
