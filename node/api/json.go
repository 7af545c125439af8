package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"outrider/node/chat"
	"outrider/offline/deeplink"
)

// A failure is an answer that is not the one asked for.
type failure struct {
	Status     int
	Code       string
	Message    string
	Hint       string
	RetryAfter time.Duration
	Extra      map[string]any // further fields of the error object
}

func (f *failure) Error() string { return "api: " + f.Code + ": " + f.Message }

func fail(status int, code, message, hint string) *failure {
	return &failure{Status: status, Code: code, Message: message, Hint: hint}
}

func badRequest(format string, args ...any) *failure {
	return fail(http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...), "")
}

// writeJSON answers with v. Encoding our own types does not fail.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("api: encode answer: %v", err))
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
}

// writeError answers with err in the form every error has.
func writeError(w http.ResponseWriter, err error) {
	f := classify(err)
	if f.RetryAfter > 0 {
		secs := int64((f.RetryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(secs, 10))
	}
	body := map[string]any{"code": f.Code, "message": f.Message}
	if f.Hint != "" {
		body["hint"] = f.Hint
	}
	for k, v := range f.Extra {
		body[k] = v
	}
	writeJSON(w, f.Status, map[string]any{"error": body})
}

// classes maps the errors of the parts behind the API to answers. The first
// that matches wins.
var classes = []struct {
	is     error
	status int
	code   string
	hint   string
}{
	{ErrAdminPassword, http.StatusUnauthorized, "bad_password", "it is the password that was chosen at outrider network create"},
	{ErrNotAdmin, http.StatusForbidden, "not_admin", ""},
	{chat.ErrPassword, http.StatusUnauthorized, "bad_password", "check the name and the password; both are case-sensitive"},
	{chat.ErrBusy, http.StatusServiceUnavailable, "busy", "try again in a few seconds"},
	{chat.ErrLocked, http.StatusUnauthorized, "locked", "log in again"},
	{chat.ErrAmbiguous, http.StatusConflict, "ambiguous", "`outrider user list` shows the ids of people, `outrider status` on the node those of its users"},
	{chat.ErrNotFound, http.StatusNotFound, "not_found", ""},
	{chat.ErrFull, http.StatusInsufficientStorage, "store_full", "free space on the node or raise its limit; nothing was sent"},
	{chat.ErrTooMany, http.StatusInsufficientStorage, "too_many_waiting", "recall messages that are no longer needed; nothing was sent"},
	{chat.ErrNotComplete, http.StatusConflict, "not_complete", "the rest arrives by itself; ask again later"},
	{chat.ErrGone, http.StatusGone, "gone", "the content was shredded on this node"},
	{chat.ErrOtherKey, http.StatusConflict, "other_key", "compare the fingerprint that GET /v1/users gives now"},
	{chat.ErrRepeat, http.StatusConflict, "key_reused", "give each message an Idempotency-Key of its own; nothing was sent"},
	{chat.ErrReceiveOnly, http.StatusForbidden, "receive_only", "a compliance reader only receives; send as another user"},
	{chat.ErrState, http.StatusConflict, "wrong_state", ""},
	{chat.ErrPolicy, http.StatusForbidden, "policy", "an admin can change it with: outrider config push"},
	{ErrNoNetwork, http.StatusConflict, "no_network", "create one with: outrider network create NAME, or join one with: outrider join LINK"},
	{ErrCode, http.StatusUnauthorized, "bad_code", "a code is good once and for a short time: ask for a new one with `outrider user code NAME` on the node"},
	{ErrNewKey, http.StatusConflict, "new_key", "send new_key: true if the person agrees: contacts see that the key has changed, and messages from before stay sealed"},
	{ErrWords, http.StatusUnauthorized, "bad_words", "check each of the 24 words and their order"},
	{deeplink.ErrWeakPassword, http.StatusBadRequest, "weak_password", ""}, // the text says what to do
	{ErrNoFix, http.StatusConflict, "no_fix", "wait under open sky, or give the position by hand"},
	{ErrNoCore, http.StatusConflict, "no_core", "set servers below [core] in the node's settings; whoever runs the core makes the files for it"},
	{ErrNoReceiver, http.StatusConflict, "no_receiver", "set position.source in the node's settings, or give the position by hand"},
	{ErrConflict, http.StatusConflict, "exists", ""},
	{ErrLoopback, http.StatusConflict, "loopback", "outrider user add NAME --address ADDRESS names one"},
	{deeplink.ErrDamaged, http.StatusBadRequest, "link_damaged", ""},
	{deeplink.ErrVersion, http.StatusBadRequest, "link_version", ""},
	{ErrLink, http.StatusUnprocessableEntity, "bad_link", ""},
	{ErrConfig, http.StatusUnprocessableEntity, "bad_config", "nothing was changed"},
	{chat.ErrInvalid, http.StatusBadRequest, "bad_request", ""},
}

func classify(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fail(http.StatusRequestEntityTooLarge, "too_large", "the body is larger than allowed", "GET /v1/status is not affected; see the limits in API.md")
	}
	f := fail(http.StatusInternalServerError, "internal", "the node could not do this", "the node's log tells more")
	for _, c := range classes {
		if errors.Is(err, c.is) {
			f = fail(c.status, c.code, Sentence(err), c.hint)
			break
		}
	}
	if p, ok := errors.AsType[*chat.PolicyError](err); ok {
		f.Extra = map[string]any{"group": p.Group, "type": p.Type}
	}
	if h, ok := errors.AsType[Hinted](err); ok && f.Status != http.StatusInternalServerError {
		f.Hint = h.Hint()
	}
	if f.Code == "busy" {
		f.RetryAfter = 3 * time.Second
	}
	return f
}

// decodeJSON reads one JSON object into v: UTF-8, at most MaxJSON bytes, no
// unknown or doubled fields, nothing after it.
func decodeJSON(r *http.Request, v any) error {
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return fail(http.StatusUnsupportedMediaType, "bad_content_type", "the body must be JSON", "send Content-Type: application/json")
	}
	b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxJSON))
	if err != nil {
		return bodyError(err)
	}
	return parseJSON(b, v)
}

func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if isTimeout(err) {
		return fail(http.StatusRequestTimeout, "too_slow", "the body came too slowly", "send it again on a better connection")
	}
	return badRequest("the body ended early")
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

func parseJSON(b []byte, v any) error {
	if !utf8.Valid(b) {
		return badRequest("the body is not UTF-8")
	}
	if err := uniqueKeys(b); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("the body is not what this call takes: %v", jsonCause(err))
	}
	return nil
}

// jsonCause says what is wrong without repeating the value, which may be a
// secret.
func jsonCause(err error) string {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("field %q has the wrong type", t.Field)
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return "it is not JSON"
	}
	const unknown = "json: unknown field "
	if s := err.Error(); len(s) > len(unknown) && s[:len(unknown)] == unknown && len(s) < 100 {
		return "unknown field " + s[len(unknown):]
	}
	return "it does not fit"
}

// maxJSONDepth is deep enough for every request there is.
const maxJSONDepth = 8

// uniqueKeys checks that b is exactly one JSON object, not too deep, and that
// no object in it has a field twice, which readers would resolve differently.
func uniqueKeys(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		return badRequest("the body must be one JSON object")
	}
	if err := walkObject(d, 1); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("there is something after the JSON object")
	}
	return nil
}

func walkObject(d *json.Decoder, depth int) error {
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return badRequest("it is not JSON")
		}
		key, ok := t.(string)
		key = strings.ToLower(key) // as the decoder matches fields
		if !ok || seen[key] {
			return badRequest("a field stands twice in the body")
		}
		seen[key] = true
		if err := walkValue(d, depth); err != nil {
			return err
		}
	}
	return closeDelim(d)
}

func walkValue(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return badRequest("it is not JSON")
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= maxJSONDepth {
		return badRequest("the body is nested too deeply")
	}
	if delim == '{' {
		return walkObject(d, depth+1)
	}
	for d.More() {
		if err := walkValue(d, depth+1); err != nil {
			return err
		}
	}
	return closeDelim(d)
}

func closeDelim(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return badRequest("it is not JSON")
	}
	return nil
}
