package pageca

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed install
var installFS embed.FS

var installPages = template.Must(template.New("").ParseFS(installFS, "install/*.html"))

// style is the only style of the hand-out page; its hash is in the policy.
var style = func() string {
	b, err := installFS.ReadFile("install/style.css")
	if err != nil {
		panic("pageca: " + err.Error()) // embedded at build time
	}
	return string(b)
}()

var handoutPolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// The paths under which the authority is handed out.
const (
	PathDER     = "/outrider-ca.crt"
	PathPEM     = "/outrider-ca.pem"
	PathProfile = "/outrider-ca.mobileconfig"
)

// Handout returns what is served over plain HTTP while a phone is being set
// up. It does three things only: it hands out the authority, says how to
// install it, and shows the fingerprint that the console shows too. Whatever
// else is asked is refused, and nothing that is sent to it is read. pages are
// the https addresses to go on to.
func (c *CA) Handout(pages func() []string) http.Handler {
	return &handout{ca: c, pages: pages, profile: c.profile()}
}

type handout struct {
	ca      *CA
	pages   func() []string
	profile []byte
}

func (h *handout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", handoutPolicy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "DENY")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		head.Set("Connection", "close") // a password somebody posts here is not read
		refuse(w, http.StatusMethodNotAllowed, "This page takes nothing. It hands out a certificate; log in on the https page.")
		return
	}
	switch r.URL.Path {
	case "/":
		h.instructions(w, r, language(r.Header.Get("Accept-Language")))
	case "/de", "/en":
		h.instructions(w, r, r.URL.Path[1:])
	case PathDER:
		attach(w, r, "application/x-x509-ca-cert", "outrider-ca.crt", h.ca.DER())
	case PathPEM:
		attach(w, r, "application/x-pem-file", "outrider-ca.pem", h.ca.PEM())
	case PathProfile:
		attach(w, r, "application/x-apple-aspen-config", "outrider-ca.mobileconfig", h.profile)
	default:
		refuse(w, http.StatusNotFound, "There is nothing here but the certificate: open / of this address.")
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // a client that is gone needs no answer
}

func attach(w http.ResponseWriter, r *http.Request, kind, name string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	send(w, r, body)
}

func send(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // as above
	}
}

// instructions is the page for people.
func (h *handout) instructions(w http.ResponseWriter, r *http.Request, lang string) {
	var b bytes.Buffer
	err := installPages.ExecuteTemplate(&b, lang+".html", map[string]any{
		"Style": template.CSS(style), "Name": h.ca.Name(), "Fingerprint": lines(h.ca.Fingerprint()), "Pages": h.pages(),
		"DER": PathDER, "PEM": PathPEM, "Profile": PathProfile,
	})
	if err != nil {
		refuse(w, http.StatusInternalServerError, "The page could not be made; the certificate is at "+PathDER)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	send(w, r, b.Bytes())
}

// lines parts a fingerprint into four lines of eight pairs, to be compared
// with the console by eye.
func lines(fingerprint string) (out []string) {
	pairs := strings.Split(fingerprint, ":")
	for len(pairs) > 8 {
		out, pairs = append(out, strings.Join(pairs[:8], ":")), pairs[8:]
	}
	return append(out, strings.Join(pairs, ":"))
}

// language is the first of those wanted that there is a page in.
func language(accept string) string {
	for want := range strings.SplitSeq(accept, ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(want), ";")
		switch primary, _, _ := strings.Cut(strings.ToLower(tag), "-"); primary {
		case "de", "en":
			return primary
		}
	}
	return "en"
}

// profile is the authority as an Apple configuration profile (Apple,
// "Configuration Profile Reference", payload com.apple.security.root). It is
// not signed: the device shows it as unverified, and the person compares the
// fingerprint.
func (c *CA) profile() []byte {
	sum := sha256.Sum256(c.cert.Raw)
	id := hex.EncodeToString(sum[:8])
	const form = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>PayloadType</key><string>Configuration</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>outrider.pages.%[1]s</string>
<key>PayloadUUID</key><string>%[2]s</string>
<key>PayloadDisplayName</key><string>%[4]s</string>
<key>PayloadContent</key><array><dict>
<key>PayloadType</key><string>com.apple.security.root</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>outrider.pages.%[1]s.ca</string>
<key>PayloadUUID</key><string>%[3]s</string>
<key>PayloadDisplayName</key><string>%[4]s</string>
<key>PayloadContent</key><data>%[5]s</data>
</dict></array>
</dict></plist>
`
	var name bytes.Buffer
	_ = xml.EscapeText(&name, []byte(c.Name())) // a buffer takes everything
	return fmt.Appendf(nil, form, id, uuid(sum[:16]), uuid(sum[16:]), name.String(), base64.StdEncoding.EncodeToString(c.cert.Raw))
}

func uuid(b []byte) string {
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16]))
}
