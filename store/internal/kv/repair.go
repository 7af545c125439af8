package kv

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Names badger gives to its logs.
const (
	logName     = "%05d.mem"
	logExt      = ".mem"
	valueLogExt = ".vlog"
)

// repair removes logs of no bytes, which a crash can leave and badger
// refuses. It does so under badger's own lock (flock on the folder), so that
// it never touches the files of a running process. The lock is given back
// before badger takes it; a process that slips in between repairs just the
// same.
func repair(dir string, log *slog.Logger) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("kv: open %s: %v", dir, err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("kv: open %s: %w", dir, ErrInUse)
		}
		return fmt.Errorf("kv: lock %s: %v", dir, err)
	}
	return removeEmptyLogs(dir, log)
}

func removeEmptyLogs(dir string, log *slog.Logger) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("kv: open %s: %v", dir, err)
	}
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), logExt) && !strings.HasSuffix(e.Name(), valueLogExt) {
			continue
		}
		info, err := e.Info()
		if err != nil || info.Size() > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("kv: remove empty log: %v", err)
		}
		log.Debug("kv: removed an empty log left by a crash", "file", e.Name())
	}
	return nil
}

// newestLog returns the highest number of a log in dir, 0 if there is none.
func newestLog(dir string) (newest int) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range list {
		var n int
		if _, err := fmt.Sscanf(e.Name(), logName, &n); err == nil && strings.HasSuffix(e.Name(), logExt) {
			newest = max(newest, n)
		}
	}
	return newest
}
