package api

import (
	"strings"
	"testing"
	"time"

	"outrider/node/chat"
	"outrider/offline/compliance"
)

func withArchive(c *Config) {
	c.Records = func(e chat.ArchiveEntry) []*compliance.Record {
		r := &compliance.Record{MessageID: strings.Repeat("0", 31) + "1", MsgType: compliance.TypeText, Message: e.Text}
		r.SetTime(e.Sent)
		return []*compliance.Record{r, r}
	}
}

// TestK01WhoArchivesIsTold to every user.
func TestK01WhoArchivesIsTold(t *testing.T) {
	b := newBench(t)
	token, u := b.login("Alice"), b.chat.users["Alice"]
	w := b.socket("GET", "/v1/archive", "").bearer(token).want(200, "")
	if got := w.Body.String(); !strings.Contains(got, `"readers":[]`) || !strings.Contains(got, `"refused":[]`) {
		t.Errorf("nobody: %s", got)
	}
	u.archived = []chat.Archived{{By: chat.Person{ID: bob, Name: "Bob"}, Since: aTime, Keys: true}}
	u.refusedBy = []chat.Refused{{Code: chat.RefusedUnarchived, Count: 2, From: []chat.Person{{ID: bob, Name: "Bob"}}}, {Code: chat.RefusedReader, Count: 1}}
	got := b.socket("GET", "/v1/archive", "").bearer(token).want(200, "").Body.String()
	for _, want := range []string{`"name":"Bob"`, `"has_keys":true`, `"code":"unarchived"`, `"code":"unknown_reader"`, `"text":"sealed `, `"hint":"it opens`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}

// TestK05QueueAndDone: entries come as records, and go when they are done.
func TestK05QueueAndDone(t *testing.T) {
	b := newBench(t, withArchive)
	token, u := b.login("Alice"), b.chat.users["Alice"]
	u.queue = chat.ArchiveState{Reader: true, Waiting: 1, Oldest: aTime}
	id := chat.MessageID{7}
	u.entries = []chat.ArchiveEntry{{ID: id, Text: "fuel", Sent: time.Unix(1767348181, 0), File: &chat.File{Name: "a", Size: 3, Complete: true}}}
	if got := b.socket("GET", "/v1/archive/queue", "").bearer(token).want(200, "").Body.String(); !strings.Contains(got, `"entries":[]`) {
		t.Errorf("without a limit: %s", got)
	}
	got := b.socket("GET", "/v1/archive/queue?limit=100", "").bearer(token).want(200, "").Body.String()
	for _, want := range []string{`"records":[{"message":"fuel"`, `},{"message":"fuel"`, `"msg_ts":"1767348181.000000"`, `"size":3`, `"waiting":1`, `"n":0`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	for _, bad := range []string{"-1", "101", "x", "1&limit=2"} {
		b.socket("GET", "/v1/archive/queue?limit="+bad, "").bearer(token).want(400, "bad_request")
	}
	hash := strings.Repeat("ab", 32)
	for _, bad := range []string{`{}`, `{"ids":[],"head":{"n":1,"hash":"ab"}}`, `{"ids":[],"head":{"n":0,"hash":"` + hash + `"}}`, `{"ids":["x"],"head":{"n":1,"hash":"` + hash + `"}}`, `{"ids":null,"more":1}`} {
		b.socket("POST", "/v1/archive/done", bad).bearer(token).want(400, "bad_request")
	}
	b.socket("POST", "/v1/archive/done", `{"ids":["`+id.String()+`"],"head":{"n":1,"hash":"`+hash+`"}}`).bearer(token).want(204, "")
	if len(u.entries) != 0 || u.queue.Head.N != 1 {
		t.Errorf("%d entries left, head %d", len(u.entries), u.queue.Head.N)
	}
	b.socket("POST", "/v1/archive/done", `{}`).want(401, "no_session")
	b.socket("GET", "/v1/archive/queue", "").want(401, "no_session")
	newBench(t).socket("GET", "/v1/archive/queue", "").want(404, "not_found")
}
