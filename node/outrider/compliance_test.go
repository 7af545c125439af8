package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestK01StatusOfAReaderToCome: right after a push the moment from which the
// reader binds everybody lies ahead, and is not told as past.
func TestK01StatusOfAReaderToCome(t *testing.T) {
	status := func(since time.Time, self, keys bool) string {
		var out bytes.Buffer
		var v archiveView
		v.Readers = append(v.Readers, struct {
			User    person    `json:"user"`
			Since   time.Time `json:"since"`
			HasKeys bool      `json:"has_keys"`
			Self    bool      `json:"self"`
		}{person{Name: "keeper"}, since, keys, self})
		(&app{out: &out}).showArchive(v, archiveQueue{})
		return strings.TrimSpace(out.String())
	}
	past, ahead := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	const to = "for everybody from "
	for _, c := range []struct{ got, want string }{
		{status(past, false, true), "archived by keeper, since " + when(past)},
		{status(past, true, true), "this user archives, since " + when(past)},
		{status(ahead, false, true), "archived by keeper, " + to + when(ahead) + " on"},
		{status(ahead, true, true), "this user archives, " + to + when(ahead) + " on"},
		{status(ahead, false, false), "archived by keeper, " + to + when(ahead) + " on; its keys have not arrived here: nothing is sent until they have"},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}
