package main

import (
	"strings"
	"testing"

	"outrider/node/config"
)

// TestPageForThisMachineOnly: who cannot reach the page from a phone is told
// which lines to write, and those lines do it.
func TestPageForThisMachineOnly(t *testing.T) {
	for says, urls := range map[string][]string{
		"The page is for this machine only.": {"http://127.0.0.1:7480/"},
		"The page is off.":                   nil,
	} {
		var out strings.Builder
		a := &app{out: &out}
		a.showPage(pageInfo{URLs: urls})
		text := out.String()
		_, lines, ok := strings.Cut(text, "start the node again:\n\n")
		if !strings.Contains(text, says) || !ok {
			t.Fatalf("with %v: %s", urls, text)
		}
		c, err := config.Parse([]byte(lines))
		if err != nil {
			t.Fatalf("%v\n%s", err, lines)
		}
		listeners := c.Page.Listeners()
		if len(listeners) != 2 || listeners[0].TLS || !listeners[1].TLS || listeners[1].Addr.Port() != c.PagePort() {
			t.Errorf("the lines give %v", listeners)
		}
	}
}
