package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // what cameras write
	_ "image/png"  // what we write
	"io"
	"os"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// Bounds of a picture that is looked at for a QR code.
const (
	pictureMax = 32 << 20 // bytes of the file
	pixelsMax  = 32 << 20 // of the picture; a camera's has 12 to 24 million
)

var errNoQR = errors.New("no QR code can be read in the picture")

// isPicture tells by its first bytes whether a file is a PNG or JPEG.
func isPicture(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x89PNG\r\n")) || bytes.HasPrefix(head, []byte("\xff\xd8\xff"))
}

// readQR returns the text of the QR code in a picture.
func readQR(r io.Reader) (text string, err error) {
	raw, err := io.ReadAll(io.LimitReader(r, pictureMax+1))
	if err != nil {
		return "", err
	}
	conf, _, err := image.DecodeConfig(bytes.NewReader(raw))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %v", errNoQR, err)
	case len(raw) > pictureMax || conf.Width*conf.Height > pixelsMax:
		return "", fmt.Errorf("%w: it is larger than %d MiB or %d million pixels", errNoQR, pictureMax>>20, pixelsMax>>20)
	}
	img, _, err := image.Decode(bytes.NewReader(raw))
	if err != nil {
		return "", fmt.Errorf("%w: %v", errNoQR, err)
	}
	defer func() { // the library is written for pictures of codes, not for whatever a file holds
		if p := recover(); p != nil {
			text, err = "", errNoQR
		}
	}()
	bits, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", errNoQR
	}
	code, err := qrcode.NewQRCodeReader().Decode(bits, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		return "", errNoQR
	}
	return code.GetText(), nil
}

// readLinkFile returns what a file holds, most bytes and one more, or if it is a
// picture what the QR code in it says.
func readLinkFile(path string, most int64) (raw []byte, pictured bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, &failure{exit: exitMissing, code: "no_file", message: err.Error(), hint: "give a link in quotes, a file, or - for standard input"}
	}
	defer f.Close()
	b := bufio.NewReader(f)
	if head, _ := b.Peek(6); !isPicture(head) {
		raw, err = io.ReadAll(io.LimitReader(b, most+1))
		return raw, false, err
	}
	text, err := readQR(b)
	if err != nil {
		return nil, true, &failure{exit: exitUsage, code: "no_qr", message: shorten(path) + ": " + err.Error(),
			hint: "take the picture again, sharp and straight, with the white margin around the code; or hand the link over as text"}
	}
	return []byte(text), true, nil
}
