package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"outrider/offline/compliance"
)

// TestK08Archive makes each fault of an archive, and none.
func TestK08Archive(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	good, broken := t.TempDir(), t.TempDir()
	for _, dir := range []string{good, broken} {
		j, err := compliance.Open(compliance.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"1", "2", "3"} {
			if err := j.Append(&compliance.Record{MessageID: id, MsgType: compliance.TypeText, Message: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(broken, "receivedMessages.log")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(`{"message":"`)] = 'y'
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	old := now.Add(-2 * time.Hour)
	for name, c := range map[string]struct {
		archive Archive
		want    []string
	}{
		"well":         {Archive{Reader: "keeper", Keys: true, Here: true, Waiting: 3, Oldest: now.Add(-time.Minute), Folder: good, Seen: now}, nil},
		"elsewhere":    {Archive{Reader: "keeper", Keys: true}, nil},
		"no keys":      {Archive{Reader: "keeper"}, []string{"archive-keys"}},
		"behind":       {Archive{Reader: "keeper", Keys: true, Here: true, Waiting: 3, Oldest: old, Seen: old}, []string{"archive-behind"}},
		"never seen":   {Archive{Reader: "keeper", Keys: true, Here: true, Waiting: 3}, []string{"archive-behind"}},
		"no folder":    {Archive{Reader: "keeper", Keys: true, Here: true, Folder: filepath.Join(good, "gone"), Seen: now}, []string{"archive-folder"}},
		"broken chain": {Archive{Reader: "keeper", Keys: true, Here: true, Folder: broken, Seen: now}, []string{"archive-broken"}},
	} {
		var got []string
		for _, f := range checkArchive(t.Context(), Env{Running: Running{Archives: []Archive{c.archive}}, Now: func() time.Time { return now }}) {
			got = append(got, f.ID)
			if f.Sentence == "" || f.Cure == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := archiveFolder("/dev/full"); len(got) != 1 || got[0].ID != "archive-folder" {
		t.Errorf("a file: %+v", got)
	}
}

// TestK08ArchiveFull: /proc has no room at all.
func TestK08ArchiveFull(t *testing.T) {
	if got := archiveFolder("/proc"); len(got) != 1 || got[0].ID != "archive-full" {
		t.Errorf("%+v", got)
	}
}
