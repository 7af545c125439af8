package deeplink

import (
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"

	"rsc.io/qr/coding"
)

// Scheme is how a link for a machine begins.
const Scheme = "outrider://c/#"

const (
	// webPath is what stands between a node's address and the frame.
	webPath = "/c/#"
	// maxLink is the most text DecodeLink reads, in bytes: a frame in base32
	// with room for line breaks.
	maxLink = MaxFrame*8/5 + 4096

	qrVersion = 20 // the largest that still prints at 50 mm
)

var (
	upper32 = base32.StdEncoding.WithPadding(base32.NoPadding)
	url64   = base64.RawURLEncoding.Strict()
)

// Link returns the frame as a link for a machine: base32, which makes the
// smaller QR code and survives being read aloud.
func Link(frame []byte) string { return Scheme + upper32.EncodeToString(frame) }

// ShortLink is Link in base64url, a fifth shorter as text.
func ShortLink(frame []byte) string { return Scheme + url64.EncodeToString(frame) }

// WebLink returns the frame as a link that opens the page of the node at
// host:port. The frame stands after the #, which no browser sends.
func WebLink(hostport string, frame []byte) (string, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || !validHost(host) || !validPort(port) {
		return "", fmt.Errorf("deeplink: web link: %q is not host:port", hostport)
	}
	return "https://" + net.JoinHostPort(host, port) + webPath + upper32.EncodeToString(frame), nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// validHost accepts IP addresses and DNS names, nothing that could end the
// host in a URL.
func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == ':', r == '%':
		default:
			return false
		}
	}
	return !strings.Contains(s, "%") || net.ParseIP(s[:strings.Index(s, "%")]) != nil
}

// DecodeLink returns the frame in a link, in a bare frame as text, or in a
// file's content. Line breaks and spaces that mail programs put in are
// skipped. It returns ErrDamaged, of which ErrNoLink is one, ErrVersion or
// ErrTooLarge.
func DecodeLink(text string) ([]byte, error) {
	if strings.HasPrefix(text, magic) { // a file
		return checked([]byte(text), nil)
	}
	if len(text) > maxLink {
		return nil, fmt.Errorf("deeplink: read link: %d bytes: %w", len(text), ErrTooLarge)
	}
	payload, err := payloadOf(text)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(payload, "T1I") { // "OR" and a digit, in base64
		return checked(url64.DecodeString(payload))
	}
	payload = strings.ToUpper(payload)
	frame, err := upper32.DecodeString(payload)
	if err == nil && upper32.EncodeToString(frame) != payload {
		err = base32.CorruptInputError(len(payload))
	}
	return checked(frame, err)
}

func checked(frame []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("deeplink: read link: %v: %w", err, ErrDamaged)
	}
	if err := checkFrame(frame); err != nil {
		return nil, fmt.Errorf("deeplink: read link: %w", err)
	}
	return frame, nil
}

// payloadOf returns what stands after the #, or all of a bare frame.
func payloadOf(text string) (string, error) {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '\u200b' || r == '\ufeff' {
			return -1
		}
		return r
	}, text)
	head, payload, found := strings.Cut(text, "#")
	if !found {
		if strings.ContainsAny(text, ":/?") {
			return "", fmt.Errorf("deeplink: read link: nothing after a #: %w", ErrNoLink)
		}
		if upper := strings.ToUpper(text); !strings.HasPrefix(upper, "J5J") && !strings.HasPrefix(text, "T1I") { // "OR" in either alphabet
			return "", fmt.Errorf("deeplink: read link: %w", ErrNoLink)
		}
		return text, nil
	}
	head = strings.ToLower(head)
	if head+"#" == Scheme || head == strings.TrimSuffix(Scheme, "/#") {
		return payload, nil
	}
	host, ok := strings.CutPrefix(head, "https://")
	if !ok {
		host, ok = strings.CutPrefix(head, "http://")
	}
	if at := strings.IndexByte(host, '/'); !ok || at < 0 || host[at:] != "/c" && host[at:] != "/c/" {
		return "", fmt.Errorf("deeplink: read link: %w", ErrNoLink)
	}
	return payload, nil
}

// A Code is a QR code's modules.
type Code struct {
	Version int // 1 to 20
	Size    int // modules on a side, without the quiet zone of four
	black   func(x, y int) bool
}

// Black reports whether the module in column x and row y is dark.
func (c Code) Black(x, y int) bool { return c.black(x, y) }

// QR makes the smallest QR code of level M, at most version 20, that holds a
// link in two segments: the part up to the # as bytes, the base32 behind it
// in the alphanumeric mode. It returns ErrTooLarge for a link that needs
// more: hand that one out as text or as a file.
func QR(link string) (Code, error) {
	at := strings.IndexByte(link, '#') + 1
	head, payload := coding.String(link[:at]), coding.Alpha(link[at:])
	if payload.Check() != nil {
		return Code{}, fmt.Errorf("deeplink: QR code: only base32 links are drawn, not base64url")
	}
	for v := coding.Version(coding.MinVersion); v <= qrVersion; v++ {
		if head.Bits(v)+payload.Bits(v) > v.DataBytes(coding.M)*8 {
			continue
		}
		plan, err := coding.NewPlan(v, coding.M, 0)
		if err != nil {
			return Code{}, fmt.Errorf("deeplink: QR code: %v", err)
		}
		c, err := plan.Encode(head, payload)
		if err != nil {
			return Code{}, fmt.Errorf("deeplink: QR code: %v", err)
		}
		return Code{Version: int(v), Size: c.Size, black: c.Black}, nil
	}
	return Code{}, fmt.Errorf("deeplink: QR code: a link of %d characters: %w", len(link), ErrTooLarge)
}
