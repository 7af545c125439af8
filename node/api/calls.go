package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"outrider/media"
	"outrider/mesh/identity"
	"outrider/node/chat"
)

// Calls is what users do with calls. While the settings have them off every
// method wraps ErrCallsOff.
type Calls interface {
	// Start rings a user. commit is the commitment to the caller's key.
	Start(ctx context.Context, user, to identity.UserID, id media.CallID, commit []byte) (Call, error)
	// Answer accepts a call that rings, with the callee's key.
	Answer(ctx context.Context, user identity.UserID, id media.CallID, key []byte) (Call, error)
	// Reveal shows the caller's key once the call was answered.
	Reveal(ctx context.Context, user identity.UserID, id media.CallID, key []byte) (Call, error)
	End(ctx context.Context, user identity.UserID, id media.CallID, reason media.Reason) (Call, error)
	// Media answers a client's offer.
	Media(ctx context.Context, user identity.UserID, id media.CallID, o media.Offer) (media.Answer, error)
	Of(user identity.UserID) ([]Call, error)
}

// A Call is a call with the name of the other participant.
type Call struct {
	media.Call
	With chat.Person
}

// The errors of this file's calls.
var (
	// ErrCallsOff means that the settings leave calls off.
	ErrCallsOff = errors.New("api: calls are off on this node")
	// ErrElsewhere means that the callee's keys lie on another node.
	ErrElsewhere = errors.New("api: calls reach only people of the same node so far")
)

// HealthCalls is what calls do and did.
type HealthCalls struct {
	Running      int    `json:"running"`
	Participants int    `json:"participants"` // whose media is connected
	Forwarded    uint64 `json:"forwarded_packets"`
	Dropped      uint64 `json:"dropped_packets"`
}

// callClasses are the answers to errors of calls; json.go has the others.
var callClasses = []struct {
	is     error
	status int
	code   string
	hint   string
}{
	{ErrCallsOff, http.StatusConflict, "calls_off", "set enabled = true below [calls] in outrider.toml and start the node again"},
	{ErrElsewhere, http.StatusConflict, "elsewhere", "write a message; calls between nodes come later"},
	{media.ErrNotFound, http.StatusNotFound, "not_found", ""},
	{media.ErrState, http.StatusConflict, "wrong_state", ""},
	{media.ErrBusy, http.StatusConflict, "in_call", "end that call first"},
	{media.ErrFull, http.StatusServiceUnavailable, "too_many_calls", "try again when another call is over"},
	{media.ErrPort, http.StatusServiceUnavailable, "calls_port", "the operator can see with `outrider doctor` who has the port, or change calls.listen"},
	{media.ErrInvalid, http.StatusBadRequest, "bad_request", ""},
}

func callError(err error) error {
	for _, c := range callClasses {
		if errors.Is(err, c.is) {
			return fail(c.status, c.code, err.Error(), c.hint)
		}
	}
	return err
}

type callJSON struct {
	ID        string     `json:"id"`
	With      personJSON `json:"with"`
	Outgoing  bool       `json:"outgoing"`
	State     string     `json:"state"`
	Reason    string     `json:"reason,omitempty"`
	Began     string     `json:"began"`
	Accepted  *string    `json:"accepted,omitempty"`
	DurationS *int64     `json:"duration_s,omitempty"`
	Flowing   bool       `json:"flowing"`
	Commit    string     `json:"commit,omitempty"`
	PeerKey   string     `json:"peer_key,omitempty"`
}

var keyText = base64.RawURLEncoding

func callView(c Call) callJSON {
	v := callJSON{
		ID: c.ID.String(), With: personView(c.With), Outgoing: c.Outgoing, State: string(c.State), Reason: c.Reason.String(),
		Began: stamp(c.Began), Accepted: stampOrNil(c.Accepted), Flowing: c.Flowing, PeerKey: keyText.EncodeToString(c.PeerKey),
	}
	if !c.Outgoing {
		v.Commit = keyText.EncodeToString(c.Commit)
	}
	if c.State.Over() && !c.Accepted.IsZero() {
		d := int64(c.Duration() / time.Second)
		v.DurationS = &d
	}
	return v
}

// Call publishes a change of a user's call.
func (h *Hub) Call(c Call) { h.one(c.User, "call", callView(c)) }

// callLog is a message that tells of a call.
type callLogJSON struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	Began     string `json:"began"`
	DurationS int64  `json:"duration_s"`
}

var callStatusNames = []string{"starting", "completed", "missed", "cancelled", "declined"}

func callLogView(c *chat.Call) *callLogJSON {
	if c == nil || int(c.Status) >= len(callStatusNames) {
		return nil
	}
	return &callLogJSON{media.CallID(c.ID).String(), callStatusNames[c.Status], stamp(c.Began), int64(c.Duration / time.Second)}
}

// calls is GET /v1/calls.
func (s *Server) calls(w http.ResponseWriter, _ *http.Request, ses *session) error {
	list, err := s.cfg.Calls.Of(ses.id)
	if err != nil {
		return callError(err)
	}
	out := make([]callJSON, len(list))
	for i, c := range list {
		out[i] = callView(c)
	}
	writeJSON(w, http.StatusOK, map[string]any{"calls": out})
	return nil
}

// startCall is POST /v1/calls.
func (s *Server) startCall(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		To     string `json:"to"`
		ID     string `json:"id"`
		Commit string `json:"commit"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	to, err := ses.user.Resolve(r.Context(), in.To)
	if err != nil {
		return err
	}
	id, err := media.ParseCallID(in.ID)
	if err != nil {
		return callError(err)
	}
	commit, err := keyText.DecodeString(in.Commit)
	if err != nil {
		return badRequest("commit must be base64url without padding")
	}
	c, err := s.cfg.Calls.Start(r.Context(), ses.id, to, id, commit)
	return answerCall(w, http.StatusCreated, c, err)
}

func answerCall(w http.ResponseWriter, status int, c Call, err error) error {
	if err != nil {
		return callError(err)
	}
	writeJSON(w, status, callView(c))
	return nil
}

// callKey is POST /v1/calls/{id}/answer and POST /v1/calls/{id}/key.
func (s *Server) callKey(answer bool) sessionHandler {
	return func(w http.ResponseWriter, r *http.Request, ses *session) error {
		var in struct {
			Key string `json:"key"`
		}
		id, err := callIn(r, &in)
		if err != nil {
			return err
		}
		key, err := keyText.DecodeString(in.Key)
		if err != nil {
			return badRequest("key must be base64url without padding")
		}
		do := s.cfg.Calls.Reveal
		if answer {
			do = s.cfg.Calls.Answer
		}
		c, err := do(r.Context(), ses.id, id, key)
		return answerCall(w, http.StatusOK, c, err)
	}
}

// callIn reads the call that a path names, and the body.
func callIn(r *http.Request, body any) (media.CallID, error) {
	if err := decodeJSON(r, body); err != nil {
		return media.CallID{}, err
	}
	id, err := media.ParseCallID(r.PathValue("id"))
	return id, callError(err)
}

// callMedia is POST /v1/calls/{id}/media.
func (s *Server) callMedia(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		SDP       string `json:"sdp"`
		Transport string `json:"transport"`
	}
	id, err := callIn(r, &in)
	if err != nil {
		return err
	}
	if in.Transport != "" && in.Transport != "tcp" {
		return badRequest(`transport must be left out, or "tcp"`)
	}
	offer := media.Offer{SDP: in.SDP, TCPOnly: in.Transport == "tcp", Loopback: originOf(r) == fromSocket || loopback(r)}
	if err := offer.Check(); err != nil {
		return callError(err)
	}
	answer, err := s.cfg.Calls.Media(r.Context(), ses.id, id, offer)
	if err != nil {
		return callError(err)
	}
	writeJSON(w, http.StatusOK, map[string]any{"sdp": answer.SDP})
	return nil
}

// endReasons are what a client may give as the reason of an end.
var endReasons = map[string]media.Reason{"": media.ReasonHangup, "lost": media.ReasonLost, "keys": media.ReasonKeys}

// endCall is POST /v1/calls/{id}/end.
func (s *Server) endCall(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		Reason string `json:"reason"`
	}
	id, err := callIn(r, &in)
	if err != nil {
		return err
	}
	reason, ok := endReasons[in.Reason]
	if !ok {
		return badRequest(`reason must be left out, "lost" or "keys"`)
	}
	c, err := s.cfg.Calls.End(r.Context(), ses.id, id, reason)
	return answerCall(w, http.StatusOK, c, err)
}
