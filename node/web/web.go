// Package web serves the node's page: plain ES modules, one style sheet and one
// document, embedded in the binary. There is no build step and the page asks
// nothing of any other origin.
//
// Paths:
//
//	/                 the document; revalidated on every load (ETag)
//	/c/               the door, a document for who has no password here yet
//	/a/<tree>/...     everything else; <tree> is a hash over all assets, so a
//	                  path never changes its bytes and may be cached for ever
//
// Modules import each other by relative paths and so stay inside one tree: a
// page that was loaded before an upgrade never mixes old and new modules. An
// asset of another tree is answered 404, and the page then offers to reload.
//
// Handler promises the headers of Headers on every answer that a browser can
// show: a content policy under which an inline script or style, a frame, a form
// target or another origin is refused by the browser even if a bug would let
// one in. Scripts and styles, which live under the policy of the document that
// loads them, carry only what keeps them from being taken for anything else:
// that saves a fifth of the first load.
package web

import (
	"embed"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// CSP is the content security policy of the page. Nothing inline, nothing from
// elsewhere; blob: is allowed for pictures the user asked to preview.
const CSP = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob:; " +
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// WorkerCSP is the policy of the worker that seals calls: a worker has its own,
// and this one may load its module and nothing else.
const WorkerCSP = "default-src 'none'; script-src 'self'"

const (
	cacheIndex     = "no-cache"
	cacheImmutable = "public, max-age=31536000, immutable"
)

// site is loaded on first use, so that commands which serve no page pay nothing.
var site = sync.OnceValue(func() *tree {
	t, err := load(static, "static")
	if err != nil {
		panic("web: embedded assets: " + err.Error()) // broken at build time; every test sees it
	}
	return t
})

// Handler returns the page's http.Handler. It answers GET and HEAD for the
// paths of this package and 404 for all others; mount it below the API's routes.
func Handler() http.Handler { return site() }

// Headers sets the security headers of the page on h. The node's other
// handlers on the same listener may use it for their own answers.
func Headers(h http.Header) {
	h.Set("Content-Security-Policy", CSP)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "geolocation=(self), camera=(), microphone=(self), usb=(), serial=()")
}

// partHeaders are those of a script or style sheet.
func partHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// ServeHTTP implements http.Handler.
func (t *tree) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := t.assets[r.URL.Path]
	if ok && a.worker {
		w.Header().Set("Content-Security-Policy", WorkerCSP)
	}
	if ok && a.part && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		partHeaders(w.Header())
		a.serve(w, r)
		return
	}
	Headers(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		plainError(w, r, http.StatusMethodNotAllowed, "web: only GET and HEAD are answered here")
		return
	}
	if !ok {
		w.Header().Set("Cache-Control", "no-store")
		plainError(w, r, http.StatusNotFound, "web: no such page; the page of this node is at /")
		return
	}
	a.serve(w, r)
}

func plainError(w http.ResponseWriter, r *http.Request, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write([]byte(text + "\n"))
	}
}

// serve answers with the asset, compressed when the client takes gzip and it
// helps, or 304 when the client has it.
func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	body, tag := a.raw, a.etag
	if a.zipped != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body, tag = a.zipped, a.etagZipped
		}
	}
	h.Set("ETag", tag)
	h.Set("Cache-Control", a.cache)
	if matches(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.mime)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// matches reports whether the If-None-Match value names tag (RFC 9110, 13.1.2;
// weak comparison, since a cache may have weakened it).
func matches(header, tag string) bool {
	for f := range strings.SplitSeq(header, ",") {
		f = strings.TrimPrefix(strings.TrimSpace(f), "W/")
		if f == tag || f == "*" {
			return true
		}
	}
	return false
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3): gzip or * counts
// unless its weight is zero; the more specific gzip wins over *.
func acceptsGzip(header string) bool {
	any := false
	for f := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(f), ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return !zeroWeight(params)
		case "*":
			any = !zeroWeight(params)
		}
	}
	return any
}

func zeroWeight(params string) bool {
	q, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(params), " ", ""), "q=")
	if !ok {
		return false
	}
	v, err := strconv.ParseFloat(q, 64)
	return err == nil && v == 0
}
