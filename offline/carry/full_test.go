package carry

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// swapLog puts another file in the place of the log that is written, as it
// were: what the file system answers from now on.
func swapLog(t *testing.T, m *Medium, name string, flag int) {
	t.Helper()
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	old := m.logs[m.newest]
	m.logs[m.newest] = f
	t.Cleanup(func() { old.Close() })
}

// TestM01MediumFails: writes fail in the middle of a contact, and cannot be
// undone either: a full device that does not shorten files, a stick that has
// become read-only. The call says what it is, every later one that the medium
// is broken, and opened anew it holds exactly what was acknowledged.
func TestM01MediumFails(t *testing.T) {
	for name, c := range map[string]struct {
		file string // "" is the log itself, opened for reading
		flag int
		want error
	}{
		"full":      {"/dev/full", os.O_RDWR, ErrFull},
		"read-only": {"", os.O_RDONLY, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := open(t, dir)
			_, kept := made(t, "kept")
			commit(t, m, []Op{kept})
			before := held(t, m)
			if c.file == "" {
				c.file = filepath.Join(m.dir, logName(m.newest))
			}
			swapLog(t, m, c.file, c.flag)
			_, lost := made(t, "never acknowledged")
			err := m.Commit(context.Background(), [][]Op{{lost}})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("the first write: %v", err)
			}
			if err := m.Commit(context.Background(), [][]Op{{lost}}); !errors.Is(err, ErrBroken) {
				t.Errorf("a later write: %v", err)
			}
			if m.Full() != (c.want == ErrFull) {
				t.Errorf("full is %v", m.Full())
			}
			if err := m.Close(); !errors.Is(err, ErrBroken) {
				t.Errorf("closing: %v; nobody may think that all is written", err)
			}
			again := open(t, dir)
			same(t, held(t, again), before)
			commit(t, again, []Op{lost})
			closed(t, again)
		})
	}
}
