package main

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"

	"outrider/offline/deeplink"
)

// qrPixels is the side of a module in a picture, in pixels: at 300 dpi a code
// of version 20 is then 71 mm wide.
const qrPixels = 8

// qrWriter returns what writes a picture for a file's name, nil if its ending
// is not known.
func qrWriter(path string) func(io.Writer, deeplink.Code) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".png":
		return qrPNG
	case ".svg":
		return qrSVG
	}
	return nil
}

// writeQR writes a link's QR code as a picture.
func writeQR(path, link string) error {
	code, err := deeplink.QR(link)
	if err != nil {
		return &failure{exit: exitUsage, code: "too_large", message: "no QR code: " + err.Error(), hint: "hand it out as a link or as a file (--out)"}
	}
	var b bytes.Buffer
	if err := qrWriter(path)(&b, code); err != nil {
		return fmt.Errorf("QR code: %w", err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return &failure{exit: exitSetup, code: "no_file", message: "the config is issued, but its QR code was not written: " + err.Error()}
	}
	return nil
}

func qrPNG(w io.Writer, code deeplink.Code) error {
	side := (code.Size + 2*quietZone) * qrPixels
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range side {
		for x := range side {
			mx, my := x/qrPixels-quietZone, y/qrPixels-quietZone
			if mx >= 0 && my >= 0 && mx < code.Size && my < code.Size && code.Black(mx, my) {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	return png.Encode(w, img)
}

// qrSVG writes one path of unit squares, which scales to any size.
func qrSVG(w io.Writer, code deeplink.Code) error {
	b := bufio.NewWriter(w)
	side := code.Size + 2*quietZone
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, side, side, side, side)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(b, "M%d %dh1v1h-1z", x+quietZone, y+quietZone)
			}
		}
	}
	fmt.Fprint(b, "\"/></svg>\n")
	return b.Flush()
}
