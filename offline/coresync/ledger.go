package coresync

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// ledgerRows is how many entries one of a ledger's two files has: together
// they cover what an agent can know.
const ledgerRows = 150_000

const (
	ledgerRow  = 16
	ledgerHead = "outrider core ledger 1\n"
)

// A Ledger remembers what is at the core, so that it is not sent there again.
// It is a help and no more: what it has lost is sent once more and refused by
// the core as present. So it is not synced, and damage costs nothing.
//
// It has two files of 16-byte entries; when the newer one is full it takes the
// place of the older one.
type Ledger struct {
	dir  string
	core string

	mu       sync.Mutex
	old, cur map[[16]byte]bool
	file     *os.File
	rows     int // of a file; smaller in tests
}

// OpenLedger opens the ledger of one core in dir.
func OpenLedger(dir string, core [16]byte) (*Ledger, error) {
	return openLedger(dir, core, ledgerRows)
}

func openLedger(dir string, core [16]byte, rows int) (l *Ledger, err error) {
	l = &Ledger{dir: dir, core: hex.EncodeToString(core[:]), rows: rows}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("coresync: ledger: %w", err)
	}
	if l.old, err = readLedger(l.path("old"), rows); err != nil {
		return nil, err
	}
	if l.cur, err = readLedger(l.path("new"), rows); err != nil {
		return nil, err
	}
	return l, l.rewrite()
}

func (l *Ledger) path(which string) string {
	return filepath.Join(l.dir, "ledger-"+l.core[:16]+"-"+which)
}

// readLedger reads what can be read of a file.
func readLedger(path string, rows int) (set map[[16]byte]bool, err error) {
	set = map[[16]byte]bool{}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err != nil {
		return nil, fmt.Errorf("coresync: ledger: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(io.LimitReader(f, int64(len(ledgerHead)+rows*ledgerRow)))
	head := make([]byte, len(ledgerHead))
	if _, err := io.ReadFull(r, head); err != nil || !bytes.Equal(head, []byte(ledgerHead)) {
		return set, nil
	}
	for {
		var row [ledgerRow]byte
		if _, err := io.ReadFull(r, row[:]); err != nil {
			return set, nil // the end, or half a row of a power cut
		}
		set[row] = true
	}
}

// rewrite begins the newer file with what is in it.
func (l *Ledger) rewrite() error {
	f, err := os.OpenFile(l.path("new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("coresync: ledger: %w", err)
	}
	b := bufio.NewWriter(f)
	_, _ = b.WriteString(ledgerHead)
	for row := range l.cur {
		_, _ = b.Write(row[:])
	}
	if err := b.Flush(); err != nil {
		f.Close()
		return fmt.Errorf("coresync: ledger: %w", err)
	}
	l.file = f
	return nil
}

// Has reports whether an entry is known to be at the core.
func (l *Ledger) Has(key [16]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur[key] || l.old[key]
}

// Len is how many entries there are.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.cur) + len(l.old)
}

// Add remembers an entry. On a full disk it is remembered until the next
// start.
func (l *Ledger) Add(key [16]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur[key] || l.old[key] {
		return
	}
	if len(l.cur) >= l.rows {
		l.turn()
	}
	l.cur[key] = true
	if l.file != nil {
		_, _ = l.file.Write(key[:])
	}
}

func (l *Ledger) turn() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	_ = os.Rename(l.path("new"), l.path("old"))
	l.old, l.cur = l.cur, map[[16]byte]bool{}
	_ = l.rewrite()
}

// Close closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
