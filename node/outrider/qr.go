package main

import (
	"os"
	"strings"

	"golang.org/x/term"

	"outrider/offline/deeplink"
)

// quietZone is the empty border a reader needs, in modules (ISO/IEC 18004,
// 6.3.8).
const quietZone = 4

// showQR draws a link on a terminal, and says why when it cannot.
func (a *app) showQR(link string) {
	f, ok := a.out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return
	}
	code, err := deeplink.QR(link)
	if err != nil {
		a.printf("no QR code: %s\n\n", clean(err.Error()))
		return
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if need := code.Size + 2*quietZone; err == nil && columns > 0 && columns < need {
		a.printf("no QR code: it needs a terminal of %d columns, this one has %d: widen the window or take a\nsmaller font, then type it again\n\n", need, columns)
		return
	}
	a.printf("%s\n", drawQR(code.Size, code.Black))
}

// drawQR writes modules as half blocks, two rows in a line. The colours are
// stated: a reader wants dark on light, whatever the terminal's own are.
func drawQR(size int, black func(x, y int) bool) string {
	const onWhite, plainAgain = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
	dark := func(x, y int) bool { return x >= 0 && y >= 0 && x < size && y < size && black(x, y) }
	var b strings.Builder
	for y := -quietZone; y < size+quietZone; y += 2 {
		b.WriteString(onWhite)
		for x := -quietZone; x < size+quietZone; x++ {
			switch top, bottom := dark(x, y), dark(x, y+1); {
			case top && bottom:
				b.WriteRune('█')
			case top:
				b.WriteRune('▀')
			case bottom:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString(plainAgain + "\n")
	}
	return b.String()
}
