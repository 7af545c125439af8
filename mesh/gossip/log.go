package gossip

import (
	"bytes"
	"log"
	"log/slog"
	"sync"
	"time"
)

// memberlistLog makes memberlist's lines ours. All of them are Debug: what an
// operator should know of members is told by Changes. The exception are
// packets that no key of ours opens, which mean a wrong key or an attack;
// they are counted, and told at most once a minute.
type memberlistLog struct {
	log *slog.Logger
	now func() time.Time
	// foreign, where set, counts what no key opens for good.
	foreign *foreign

	mu       sync.Mutex
	unopened int
	told     time.Time
}

const tellEvery = time.Minute

func (l *memberlistLog) logger() *log.Logger { return log.New(l, "", 0) }

// Write implements io.Writer for one line.
func (l *memberlistLog) Write(line []byte) (int, error) {
	line = bytes.TrimSpace(line)
	if bytes.Contains(line, []byte("Decrypt packet failed")) || bytes.Contains(line, []byte("failed to receive")) {
		l.countUnopened()
		return len(line), nil
	}
	l.log.Debug(string(bytes.TrimPrefix(line, []byte("memberlist: "))))
	return len(line), nil
}

func (l *memberlistLog) countUnopened() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unopened++
	if l.foreign != nil {
		l.foreign.note(l.now())
	}
	if now := l.now(); now.Sub(l.told) >= tellEvery {
		l.log.Warn("gossip that no key of this network opens: another network on the same port, an old key, or an attack", "packets", l.unopened)
		l.told, l.unopened = now, 0
	}
}
