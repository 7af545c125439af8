package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"outrider/mesh/envelope"
	"outrider/node/chat"
)

func parseQuery(raw string) (url.Values, error) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, err
	}
	for k, vs := range v {
		if !utf8.ValidString(k) || slices.ContainsFunc(vs, func(s string) bool { return !utf8.ValidString(s) }) {
			return nil, errors.New("not UTF-8")
		}
	}
	return v, nil
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// sendFile is POST /v1/files: the body is the file, streamed; the rest stands
// in the query.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, ses *session) error {
	q, err := queryOf(r, "to", "name", "precedence", "ttl_s")
	if err != nil {
		return err
	}
	in := draftJSON{To: q["to"], Precedence: q["precedence"]}
	if t := q["ttl_s"]; t != "" {
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return badRequest("ttl_s must be a number of seconds")
		}
		in.TTLS = &n
	}
	to, prec, ttl, err := s.addressed(r, ses, in)
	if err != nil {
		return err
	}
	if r.ContentLength > s.maxFile {
		return s.fileTooLarge()
	}
	once, err := onceOf(r)
	if err != nil {
		return err
	}
	body := s.progressReader(w, &limitedBody{r: r.Body, left: s.maxFile})
	m, err := ses.user.SendFile(r.Context(), chat.FileDraft{
		Once: once, To: to, Name: q["name"], MediaType: mediaType(r), Precedence: prec, TTL: ttl,
	}, body)
	switch {
	case errors.Is(err, errFileTooLarge):
		return s.fileTooLarge()
	case err != nil && body.err != nil:
		return bodyError(body.err)
	}
	return created(w, m, err)
}

// fileList is GET /v1/files: the files of all conversations.
func (s *Server) fileList(w http.ResponseWriter, r *http.Request, ses *session) error {
	before, limit, err := pageOf(r)
	if err != nil {
		return err
	}
	ms, err := ses.user.Files(r.Context(), before, limit)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"messages": messageViews(ms), "more": len(ms) == limit})
	return nil
}

func (s *Server) fileTooLarge() error {
	return fail(http.StatusRequestEntityTooLarge, "too_large", "the file is larger than "+strconv.FormatInt(s.maxFile, 10)+" bytes", "send it in parts")
}

// mediaType takes the request's Content-Type as the file's, if it is one.
func mediaType(r *http.Request) string {
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || len(mt) > chat.MaxMediaType {
		return "application/octet-stream"
	}
	return mt
}

var errFileTooLarge = errors.New("api: file is too large")

// limitedBody fails when one byte more than allowed has come.
type limitedBody struct {
	r    io.Reader
	left int64
}

func (l *limitedBody) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errFileTooLarge
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errFileTooLarge
	}
	return n, err
}

// progressReader gives every read its own deadline: a body may take as long
// as it needs while it keeps coming.
func (s *Server) progressReader(w http.ResponseWriter, r io.Reader) *progressReader {
	return &progressReader{r: r, rc: http.NewResponseController(w), timeout: s.timeouts.Progress}
}

type progressReader struct {
	r       io.Reader
	rc      *http.ResponseController
	timeout time.Duration
	err     error // why reading ended early
}

func (p *progressReader) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(p.timeout)) // not supported = no network under it
	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// progressWriter is the same for answers.
type progressWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (p *progressWriter) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(p.timeout))
	return p.w.Write(b)
}

// getFile is GET /v1/files/{id}: the file once all of it is here. It is always
// an attachment of unknown type: nothing a peer sent is shown by the browser.
func (s *Server) getFile(w http.ResponseWriter, r *http.Request, ses *session) error {
	id, err := messageID(r)
	if err != nil {
		return err
	}
	f, body, err := ses.user.OpenFile(r.Context(), id)
	if errors.Is(err, chat.ErrNotComplete) {
		nc := classify(err)
		nc.Extra = map[string]any{"have": f.Have, "total": f.Total}
		return nc
	}
	if err != nil {
		return err
	}
	defer body.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", disposition(f.Name))
	h.Set("Content-Length", strconv.FormatUint(f.Size, 10))
	if r.Method == http.MethodHead {
		return nil
	}
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(&progressWriter{w: w, rc: http.NewResponseController(w), timeout: s.timeouts.Progress}, body); err != nil {
		s.log.Debug("api: file transfer ended early", "err", err)
		panic(http.ErrAbortHandler) // the length is announced: the client must see that it is cut
	}
	return nil
}

// disposition makes a Content-Disposition value from a peer's file name
// (RFC 6266, RFC 8187): quoted ASCII for old clients, UTF-8 for the others.
func disposition(name string) string {
	name = envelope.SafeName(name)
	ascii := strings.Map(func(r rune) rune {
		if r > 0x7e || r == '"' || r == '\\' || r == '%' {
			return '_'
		}
		return r
	}, name)
	return `attachment; filename="` + ascii + `"; filename*=UTF-8''` + extEncode(name)
}

// extEncode percent-encodes everything but RFC 8187's attr-char.
func extEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
