package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"outrider/mesh/identity"
)

// postOnce sends a request under the name of its act; hangUp goes away when it is
// written, as a client does whose connection breaks.
func (r *running) postOnce(path, kind, once string, body []byte, hangUp bool) (status int, id string, err error) {
	c, err := net.Dial("unix", r.home.path(socketName))
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Idempotency-Key", once)
	req.Close = true
	if err := req.Write(c); err != nil || hangUp {
		return 0, "", err
	}
	raw, err := io.ReadAll(c)
	if err != nil {
		return 0, "", err
	}
	head, answer, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	if _, err := fmt.Sscanf(string(head), "HTTP/1.1 %d", &status); err != nil {
		return 0, "", err
	}
	var m sentMessage
	if err := json.Unmarshal(answer, &m); err != nil {
		return status, "", err
	}
	return status, m.ID, nil
}

// Answers are lost, the node is started anew in between, the client goes on
// asking: every act makes one message.
func TestLostAnswersMakeOneMessage(t *testing.T) {
	h, alice, link := founded(t)
	cfg := onLoopback(t)
	r := up(t, h, cfg)
	r.login(alice, alicePassword)
	text := fmt.Appendf(nil, `{"to":%q,"text":"hold the bridge"}`, link.User)
	place := fmt.Appendf(nil, `{"to":%q,"lat":1.5,"lon":2.5}`, link.User)
	file := bytes.Repeat([]byte("a page of a map "), 5000)
	acts := []struct {
		path, kind, once string
		body             []byte
	}{
		{"/v1/messages", "application/json", "act one", text},
		{"/v1/locations", "application/json", "act two", place},
		{"/v1/files?name=map&to=" + link.User.String(), "text/plain", "act three", file},
	}
	ids := make([]string, len(acts))
	round := func(losses int) {
		t.Helper()
		for i, a := range acts {
			once := strings.ReplaceAll(a.once, " ", "-")
			for range losses {
				if _, _, err := r.postOnce(a.path, a.kind, once, a.body, true); err != nil {
					t.Fatal(err)
				}
			}
			status, id, err := r.postOnce(a.path, a.kind, once, a.body, false)
			if err != nil || status != http.StatusCreated || ids[i] != "" && id != ids[i] {
				t.Errorf("%s: status %d, message %s after %s, %v", a.once, status, id, ids[i], err)
			}
			ids[i] = id
		}
	}
	round(5)
	if err := r.down(); err != nil {
		t.Fatal(err)
	}
	r = up(t, h, cfg)
	r.login(alice, alicePassword)
	round(2)
	other := bytes.Replace(text, []byte("hold"), []byte("leave"), 1)
	if status, _, err := r.postOnce("/v1/messages", "application/json", "act-one", other, false); status != http.StatusConflict {
		t.Errorf("another message under the name: status %d, %v", status, err)
	}
	var list struct {
		Conversations []struct{ ID string }
	}
	if err := r.do("GET", "/v1/conversations", nil, &list); err != nil || len(list.Conversations) != 1 {
		t.Fatalf("conversations %+v, %v", list, err)
	}
	var page struct{ Messages []sentMessage }
	if err := r.do("GET", "/v1/conversations/"+list.Conversations[0].ID+"/messages", nil, &page); err != nil || len(page.Messages) != len(acts) {
		t.Errorf("%d messages, %v", len(page.Messages), err)
	}
	if err := r.down(); err != nil {
		t.Error(err)
	}
}

// contacts counts the contacts with a node that carried something.
func (r *running) contacts(with identity.NodeID) (n int) {
	r.t.Helper()
	var out struct {
		Contacts []struct {
			Node    identity.NodeID
			TxBytes int64 `json:"tx_bytes"`
		}
	}
	if err := r.do("GET", "/v1/contacts", nil, &out); err != nil {
		r.t.Error(err)
	}
	for _, c := range out.Contacts {
		if c.Node == with && c.TxBytes > 0 {
			n++
		}
	}
	return n
}
