package mesh

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// PROTOCOL.md must name every frame and every code with its number.
func TestProtocolDocument(t *testing.T) {
	raw, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	rows := 0
	for line := range strings.Lines(doc) {
		if strings.HasPrefix(line, "| 0x") {
			rows++
		}
	}
	for kind, name := range frameNames {
		if want := fmt.Sprintf("| 0x%02x | %s |", kind, name); !strings.Contains(doc, want) {
			t.Errorf("PROTOCOL.md lacks %q", want)
		}
	}
	if rows != len(frameNames) {
		t.Errorf("PROTOCOL.md has %d frame types, the code %d", rows, len(frameNames))
	}
	names := []string{"durable", "duplicate", "later", "no space", "expired", "bad", "superseded", "purged", "restart", "busy", "failed"}
	if len(names) != codes {
		t.Fatalf("%d codes", codes)
	}
	for i, name := range names {
		if want := fmt.Sprintf("| %d | %s |", i, name); !strings.Contains(doc, want) {
			t.Errorf("PROTOCOL.md lacks %q", want)
		}
	}
	for what, limit := range map[string]int{
		"short ids (8 B each, at most": maxShorts, "how many symbols (uvarint, at most": maxBatch, "roots (32 B each, at most": maxRoots,
		"runs (at most": maxRuns, "stretch of bitmap (rest, at most": maxStretch, "heads (part, at most": maxHeads,
	} {
		if !strings.Contains(strings.ReplaceAll(doc, ",", ""), fmt.Sprintf("%s %d", strings.ReplaceAll(what, ",", ""), limit)) {
			t.Errorf("PROTOCOL.md does not say %q %d", what, limit)
		}
	}
}
