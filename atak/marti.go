package atak

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"outrider/atak/datapkg"
)

// The HTTPS interface has the calls that stock clients make (tak.md, sections
// 7 and 8). All of it needs a client certificate; what a call shows is what
// the certificate's user has.

const (
	packageType = "application/x-zip-compressed"
	maxFileName = 255              // bytes
	progress    = time.Minute      // longest pause inside an upload or a download
	quick       = 15 * time.Second // for all other requests
)

// A deskHandler serves one user's request.
type deskHandler func(w http.ResponseWriter, r *http.Request, d *desk) error

func (s *Server) routes() *http.ServeMux {
	m := http.NewServeMux()
	for pattern, h := range map[string]deskHandler{
		"GET /Marti/api/version":                     s.version,
		"GET /Marti/api/version/config":              s.versionConfig,
		"GET /Marti/api/clientEndPoints":             s.clientEndPoints,
		"GET /Marti/api/contacts/all":                s.contacts,
		"GET /Marti/api/groups/all":                  s.groups,
		"GET /Marti/api/groups/groupCacheEnabled":    s.groupCache,
		"GET /Marti/api/device/profile/connection":   noContent,
		"GET /Marti/sync/missionquery":               s.missionQuery,
		"POST /Marti/sync/missionupload":             s.missionUpload,
		"POST /Marti/sync/upload":                    s.upload,
		"GET /Marti/sync/content":                    s.content,
		"GET /Marti/sync/search":                     s.search,
		"DELETE /Marti/sync/delete":                  s.remove,
		"GET /Marti/sync/{hash}/metadata":            s.metadata,
		"PUT /Marti/api/sync/metadata/{hash}/{what}": s.setMetadata,
		"GET /files/api/config":                      s.filesConfig,
		"GET /Marti/files/api/config":                s.filesConfig,
	} {
		m.HandleFunc(pattern, s.served(h))
	}
	return m
}

// served finds the user of a request's certificate, bounds the request's time,
// and turns errors into answers.
func (s *Server) served(h deskHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		err := errors.Join(rc.SetReadDeadline(time.Now().Add(quick)), rc.SetWriteDeadline(time.Now().Add(quick)))
		if err != nil || r.TLS == nil {
			http.Error(w, "not served", http.StatusInternalServerError)
			return
		}
		d, err := s.desk(r.Context(), *r.TLS)
		if err == nil {
			defer d.leave()
			err = h(w, r, d)
		} else {
			s.refused()
		}
		if err != nil {
			s.fail(w, r, err)
		}
	}
}

// statuses are the answers to errors.
var statuses = []struct {
	is     error
	status int
}{
	{ErrRefused, http.StatusForbidden}, {ErrNotFound, http.StatusNotFound}, {ErrFull, http.StatusInsufficientStorage},
	{ErrTooLarge, http.StatusRequestEntityTooLarge}, {errStated, http.StatusBadRequest}, {errBad, http.StatusBadRequest},
	{datapkg.ErrUnsafe, http.StatusBadRequest},
}

var errBad = errors.New("bad request")

func bad(format string, args ...any) error { return fmt.Errorf(format+": %w", append(args, errBad)...) }

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	for _, st := range statuses {
		if errors.Is(err, st.is) {
			http.Error(w, err.Error(), st.status)
			return
		}
	}
	if r.Context().Err() == nil {
		s.log.Warn("atak: a request failed", "err", err)
	}
	http.Error(w, "the node could not do it; its log has more", http.StatusInternalServerError)
}

// param finds a query parameter whatever its case: clients differ.
func param(r *http.Request, name string) string {
	for k, v := range r.URL.Query() {
		if strings.EqualFold(k, name) && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

func writeAs(w http.ResponseWriter, contentType string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("atak: encode answer: %w", err)
	}
	return writeText(w, contentType, string(b))
}

// writeText answers; a client that has gone hears nothing.
func writeText(w http.ResponseWriter, contentType, text string) error {
	w.Header().Set("Content-Type", contentType)
	_, _ = io.WriteString(w, text)
	return nil
}

// answer is the frame that most JSON answers stand in.
func (s *Server) answer(w http.ResponseWriter, kind string, data any) error {
	return writeAs(w, "application/json", map[string]any{"version": "3", "type": kind, "data": data, "nodeId": s.tag})
}

func noContent(w http.ResponseWriter, _ *http.Request, _ *desk) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request, _ *desk) error {
	return writeText(w, "text/plain", "Outrider "+s.cfg.Version)
}

func (s *Server) versionConfig(w http.ResponseWriter, r *http.Request, _ *desk) error {
	return s.answer(w, "ServerConfig", map[string]string{"version": s.cfg.Version, "api": "3", "hostname": r.Host})
}

// clientEndPoints lists everybody the user can write to.
func (s *Server) clientEndPoints(w http.ResponseWriter, r *http.Request, d *desk) error {
	people, err := d.contacts(r.Context())
	if err != nil {
		return err
	}
	rows := []map[string]string{}
	for _, p := range people {
		status := "Disconnected"
		if p.Keys {
			status = "Connected"
		}
		rows = append(rows, map[string]string{
			"callsign": p.Name, "uid": uidOf(p.ID), "username": p.Name, "lastEventTime": d.seen(p.ID).UTC().Format("2006-01-02T15:04:05.000Z"), "lastStatus": status,
		})
	}
	return s.answer(w, "com.bbn.marti.remote.ClientEndpoint", rows)
}

// seen is when somebody's newest position was taken; without one, now.
func (d *desk) seen(p PersonID) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.tracks[p]; ok && !t.Time.IsZero() {
		return t.Time
	}
	return d.srv.cfg.Now()
}

func (s *Server) contacts(w http.ResponseWriter, r *http.Request, d *desk) error {
	people, err := d.contacts(r.Context())
	if err != nil {
		return err
	}
	rows := []map[string]any{}
	for _, p := range people {
		rows = append(rows, map[string]any{"filterGroups": nil, "notes": "", "callsign": p.Name, "team": "Cyan", "role": "Team Member", "takv": "Outrider", "uid": uidOf(p.ID)})
	}
	return writeAs(w, "application/json", rows)
}

// groups has the one group that clients expect at least.
func (s *Server) groups(w http.ResponseWriter, _ *http.Request, _ *desk) error {
	rows := []map[string]any{}
	for _, direction := range []string{"IN", "OUT"} {
		rows = append(rows, map[string]any{"name": "__ANON__", "direction": direction, "created": "2026-01-01", "type": "SYSTEM", "bitpos": 2, "active": true})
	}
	return s.answer(w, "com.bbn.marti.remote.groups.Group", rows)
}

func (s *Server) groupCache(w http.ResponseWriter, _ *http.Request, _ *desk) error {
	return s.answer(w, "java.lang.Boolean", false)
}

func (s *Server) filesConfig(w http.ResponseWriter, _ *http.Request, _ *desk) error {
	return writeAs(w, "application/json", map[string]int{"uploadSizeLimit": MaxPackage >> 20})
}

// missionQuery tells whether a file is here already.
func (s *Server) missionQuery(w http.ResponseWriter, r *http.Request, d *desk) error {
	f, err := d.spool.find(param(r, "hash"))
	if err != nil {
		return err
	}
	return writeText(w, "text/plain", urlOf(r, f))
}

func urlOf(r *http.Request, f entry) string {
	return "https://" + r.Host + "/Marti/sync/content?hash=" + f.Hash
}

// missionUpload takes a data package. The answer comes when it is durable.
func (s *Server) missionUpload(w http.ResponseWriter, r *http.Request, d *desk) error {
	f, err := d.take(w, r, param(r, "filename"), param(r, "hash"), true)
	if err != nil {
		return err
	}
	return writeText(w, "text/plain", urlOf(r, f))
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request, d *desk) error {
	f, err := d.take(w, r, param(r, "name"), param(r, "hash"), false)
	if err != nil {
		return err
	}
	return writeAs(w, "text/json", metadataOf(f, d.self))
}

// take keeps the body of a request, raw or in a form. What is or must be a
// data package is checked.
func (d *desk) take(w http.ResponseWriter, r *http.Request, name, hash string, isPackage bool) (entry, error) {
	name = path.Base(strings.ReplaceAll(name, "\\", "/")) // a name is no path
	if name == "." || name == "/" || name == ".." || len(name) > maxFileName || !utf8.ValidString(name) {
		return entry{}, bad("a file needs a name of 1 to %d bytes", maxFileName)
	}
	if isPackage && !strings.Contains(name, ".") {
		name += ".zip"
	}
	body, kind, err := bodyOf(w, r)
	if err != nil {
		return entry{}, err
	}
	f, err := d.spool.add(entry{Name: name, Type: kind, Creator: param(r, "creatorUid"), Tool: "public"}, hash, body)
	if err != nil {
		return f, err
	}
	if isPackage || isZip(File{Name: name, MediaType: kind}) {
		if err := d.checkPackage(f); err != nil {
			return f, errors.Join(err, d.spool.remove(f.Hash))
		}
	}
	return f, nil
}

// bodyOf returns what is uploaded: the file of a form, or the whole body. It
// bounds size, and the time between two pieces.
func bodyOf(w http.ResponseWriter, r *http.Request) (io.Reader, string, error) {
	if r.ContentLength > MaxPackage+64<<10 {
		return nil, "", ErrTooLarge
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxPackage+64<<10)
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Time{}); err != nil {
		return nil, "", err
	}
	r.Body = pacedBody{r.Body, rc}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return bodyReader{r.Body}, cmpOr(kind, packageType), nil
	}
	form, err := r.MultipartReader()
	if err != nil {
		return nil, "", bad("the form is none")
	}
	for range 16 {
		part, err := form.NextPart()
		if err != nil {
			return nil, "", bad("the form has no file")
		}
		if n := part.FormName(); n == "assetfile" || n == "resource" || part.FileName() != "" {
			kind := part.Header.Get("Content-Type")
			if kind == "" || kind == "application/octet-stream" {
				kind = packageType
			}
			return bodyReader{part}, kind, nil
		}
	}
	return nil, "", bad("the form has no file")
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// pacedBody gives each read of an upload a new deadline.
type pacedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (p pacedBody) Read(b []byte) (int, error) {
	if err := p.rc.SetReadDeadline(time.Now().Add(progress)); err != nil {
		return 0, err
	}
	return p.ReadCloser.Read(b)
}

// bodyReader turns the errors of a body into ours.
type bodyReader struct{ r io.Reader }

func (b bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		err = ErrTooLarge
	case err != nil && !errors.Is(err, io.EOF):
		err = bad("the upload broke off")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = bad("the upload broke off")
	}
	return n, err
}

// content sends a file from an offset on; HEAD has the header only.
func (s *Server) content(w http.ResponseWriter, r *http.Request, d *desk) error {
	f, err := d.spool.find(param(r, "hash"))
	if err != nil {
		return err
	}
	from, err := strconv.ParseInt(cmpOr(param(r, "offset"), "0"), 10, 64)
	if err != nil || from < 0 || from > f.Size {
		return bad("offset must be 0 to the file's size")
	}
	file, err := d.spool.open(f)
	if err != nil {
		return err
	}
	defer file.Close()
	h := w.Header()
	h.Set("Content-Type", packageType)
	h.Set("Content-Length", strconv.FormatInt(f.Size-from, 10))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Name}))
	if r.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(w)
	_, err = io.Copy(pacedWriter{w, rc}, io.NewSectionReader(file, from, f.Size-from))
	if err != nil && r.Context().Err() == nil {
		s.log.Debug("atak: a download broke off", "err", err)
	}
	return nil // the header is out
}

type pacedWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func (p pacedWriter) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(progress)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// metadataOf describes a file in the words of the lists.
func metadataOf(f entry, self Person) map[string]any {
	return map[string]any{
		"UID": f.Hash, "Name": f.Name, "Hash": f.Hash, "PrimaryKey": "0", "SubmissionDateTime": f.At.UTC().Format("2006-01-02T15:04:05.000Z"),
		"SubmissionUser": self.Name, "CreatorUid": f.Creator, "Keywords": []string{"missionpackage"}, "MIMEType": f.Type,
		"Size": strconv.FormatInt(f.Size, 10), "Tool": f.Tool, "EXPIRATION": "-1",
	}
}

// search lists the files that are here for the user.
func (s *Server) search(w http.ResponseWriter, r *http.Request, d *desk) error {
	list, err := d.spool.list()
	if err != nil {
		return err
	}
	tool, rows := param(r, "tool"), []map[string]any{}
	for _, f := range list {
		if tool == "" || f.Tool == tool {
			row := metadataOf(f, d.self)
			row["PrimaryKey"] = strconv.Itoa(len(rows) + 1)
			rows = append(rows, row)
		}
	}
	return writeAs(w, "text/json", map[string]any{"resultCount": len(rows), "results": rows})
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request, d *desk) error {
	f, err := d.spool.find(param(r, "hash"))
	if err != nil {
		return err
	}
	return d.spool.remove(f.Hash)
}

func (s *Server) metadata(w http.ResponseWriter, r *http.Request, d *desk) error {
	f, err := d.spool.find(r.PathValue("hash"))
	if err != nil {
		return err
	}
	return writeAs(w, "application/json", metadataOf(f, d.self))
}

// setMetadata takes the tool of a file: public ones are listed. Other notes
// are accepted and of no effect here, as clients send them unasked.
func (s *Server) setMetadata(_ http.ResponseWriter, r *http.Request, d *desk) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, 257))
	if err != nil || len(b) > 256 {
		return bad("the value has more than 256 bytes")
	}
	if r.PathValue("what") != "tool" {
		_, err := d.spool.find(r.PathValue("hash"))
		return err
	}
	if v := string(b); v != "public" && v != "private" {
		return bad("the tool is public or private")
	}
	return d.spool.change(r.PathValue("hash"), func(f *entry) { f.Tool = string(b) })
}
