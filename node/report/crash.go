package report

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"
)

const (
	crashName = "crash"
	lastName  = "crash.last"
	// crashMax is what is kept of an earlier crash, in bytes: its beginning,
	// where the cause stands.
	crashMax = 1 << 20
	// crashFresh is how long a crash is news.
	crashFresh = 7 * 24 * time.Hour
)

// WatchCrashes makes the runtime write the stacks of all goroutines into the
// folder when this process dies of a panic or a fatal signal. What an earlier
// crash has left is kept once. The folder must be this process's alone. stop
// ends it.
func WatchCrashes(dir string) (stop func() error, err error) {
	if err := keepLast(dir); err != nil {
		return nil, fmt.Errorf("report: watch crashes: %w", err)
	}
	path := filepath.Join(dir, crashName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("report: watch crashes: %w", err)
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return nil, errors.Join(fmt.Errorf("report: watch crashes: %w", err), f.Close())
	}
	return func() error {
		err := debug.SetCrashOutput(nil, debug.CrashOptions{})
		return errors.Join(err, f.Close(), os.Remove(path)) // nobody has crashed
	}, nil
}

// keepLast puts the traces of an earlier crash aside.
func keepLast(dir string) error {
	path := filepath.Join(dir, crashName)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Size() > crashMax {
		if err := os.Truncate(path, crashMax); err != nil {
			return err
		}
	}
	return os.Rename(path, filepath.Join(dir, lastName))
}

// Crash returns what the newest crash left, cut to a megabyte, and when it
// was; a zero time if there is nothing that is news.
func Crash(dir string, now time.Time) (trace []byte, when time.Time) {
	for _, name := range []string{crashName, lastName} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		st, err := f.Stat()
		if err == nil && st.Size() > 0 && now.Sub(st.ModTime()) < crashFresh {
			trace, err = io.ReadAll(io.LimitReader(f, crashMax))
			when = st.ModTime()
		}
		f.Close()
		if err == nil && len(trace) > 0 {
			return trace, when
		}
	}
	return nil, time.Time{}
}
