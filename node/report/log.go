package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// logMax is the length of one of the two log files, in bytes. Together they
// hold the newest 256 to 512 KiB: some thousand lines.
const logMax = 256 << 10

const (
	logName = "log"
	oldName = "log.old"
)

// A Log keeps the newest lines in a folder: when a file is full it becomes the
// old one, and the old one goes. It never syncs: lines are for people, and a
// card has better to do. It is an io.Writer that several goroutines may use.
type Log struct {
	dir string
	max int64

	mu   sync.Mutex
	f    *os.File
	size int64
	err  error // why nothing is written any more
}

// OpenLog opens the log files of a node's folder.
func OpenLog(dir string) (*Log, error) {
	l := &Log{dir: dir, max: logMax}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(filepath.Join(l.dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("report: open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("report: open log: %w", err), f.Close())
	}
	l.f, l.size = f, st.Size()
	return nil
}

// Write takes one or more whole lines. It never fails: a full disk must not
// silence the node's standard error, which comes behind.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return len(p), nil
	}
	line := tail(p, int(l.max))
	if l.size+int64(len(line)) > l.max {
		l.turn()
	}
	if l.f != nil {
		n, err := l.f.Write(line)
		l.size += int64(n)
		l.err = err
	}
	return len(p), nil
}

// turn begins a new file. The caller holds mu.
func (l *Log) turn() {
	_ = l.f.Close()
	l.f = nil
	if l.err = os.Rename(filepath.Join(l.dir, logName), filepath.Join(l.dir, oldName)); l.err == nil {
		l.err = l.open()
	}
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return l.err
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// Lines returns what a folder's log files hold, oldest first.
func Lines(dir string) ([]byte, error) {
	var all []byte
	for _, name := range []string{oldName, logName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, fmt.Errorf("report: read log: %w", err)
		}
		all = append(all, b...)
	}
	return all, nil
}
