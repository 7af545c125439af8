package compliance

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
)

// Genesis is what the first record of an archive stands on.
var Genesis = identity.Hash(identity.LabelArchiveJournal)

// Options say where an archive lies and what is written.
type Options struct {
	Dir         string // has the journal; must be there
	Attachments string // empty: the folder "attachments" in Dir, made if missing
	Prefix      string // default DefaultPrefix
	MaxBytes    int64  // of a journal file; default DefaultMaxBytes
	LegacyID    bool   // write id beside message_id
	LegacyQUID  bool   // write quid in place of guid in saved items
	Now         func() time.Time
}

// A Head is where an archive ends.
type Head struct {
	N    uint64   // number of its last record
	Hash [32]byte // of that record's line; Genesis of an empty archive
}

// A Journal appends records to an archive. One goroutine uses it.
type Journal struct {
	o     Options
	file  *os.File
	size  int64
	head  Head
	known map[string]bool // message ids of the newest records: see recallBytes
	heal  int64           // bytes that Open took away
	bad   error           // what makes further writing unsafe
}

// Open opens an archive to write on. What a power cut tore is taken away.
func Open(o Options) (*Journal, error) {
	j, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("compliance: open archive: %w", err)
	}
	return j, nil
}

func open(o Options) (*Journal, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBytes < MinMaxBytes || !validPrefix(o.Prefix) {
		return nil, fmt.Errorf("a journal file has at least %d bytes, and its prefix is a plain name", MinMaxBytes)
	}
	if err := o.folders(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(o.current(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{o: o, file: f, head: Head{Hash: Genesis}, known: map[string]bool{}}
	if err := j.begin(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func validPrefix(p string) bool {
	return p != "" && len(p) <= 64 && !strings.HasPrefix(p, ".") && !strings.ContainsAny(p, "/\\\x00")
}

func (o *Options) current() string { return filepath.Join(o.Dir, o.Prefix+".log") }

// folders checks both folders. Neither the archive's own nor one for
// attachments that was named is made here: if it is missing, its disk may only
// be unmounted, and the records would go to the disk beneath.
func (o *Options) folders() error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if err := writable(dir); err != nil {
		return err
	}
	if o.Attachments != "" {
		if o.Attachments, err = filepath.Abs(o.Attachments); err != nil {
			return err
		}
		return writable(o.Attachments)
	}
	o.Attachments = filepath.Join(dir, attachments)
	if err := os.Mkdir(o.Attachments, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := writable(o.Attachments); err != nil {
		return err
	}
	same, err := sameDevice(dir, o.Attachments)
	if err == nil && !same {
		err = fmt.Errorf("%w than the journal: name the folder with --attachments if that is meant", ErrOtherMount)
	}
	return err
}

func writable(dir string) error {
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return fmt.Errorf("%s: %w; mount its disk, or make it with mkdir", dir, ErrNoFolder)
	}
	if err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s cannot be written: %w", dir, err)
	}
	return nil
}

func sameDevice(a, b string) (bool, error) {
	var x, y unix.Stat_t
	if err := errors.Join(unix.Stat(a, &x), unix.Stat(b, &y)); err != nil {
		return false, err
	}
	return x.Dev == y.Dev, nil
}

// begin takes the lock and finds out where the archive ends.
func (j *Journal) begin() error {
	if err := unix.Flock(int(j.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return ErrBusy
	}
	if err := j.healTail(); err != nil {
		return err
	}
	if err := j.recall(); err != nil {
		return err
	}
	return errors.Join(j.file.Sync(), syncDir(j.o.Dir))
}

// healTail takes away a line that a power cut tore: the last one, if its line
// feed is missing. It was never acknowledged.
func (j *Journal) healTail() error {
	size, err := j.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	end, err := lastLineFeed(j.file, size)
	if err != nil {
		return err
	}
	if j.size = size; end == size {
		return nil
	}
	j.heal = size - end
	j.size = end
	return j.file.Truncate(end)
}

// lastLineFeed is the offset behind the last line feed before end. A file
// whose last 2 MiB have none is no journal.
func lastLineFeed(f io.ReaderAt, end int64) (int64, error) {
	const step = 64 << 10
	buf := make([]byte, step)
	for at := end; at > 0; {
		from := max(0, at-step)
		n, err := f.ReadAt(buf[:at-from], from)
		if err != nil && !(errors.Is(err, io.EOF) && int64(n) == at-from) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		if at = from; end-at > 2*MaxRecord {
			return 0, fmt.Errorf("%w: its end has no line", ErrDamaged)
		}
	}
	return 0, nil
}

// recall reads the newest records: the number and hash of the last, and the
// ids of those that may be asked to be written again.
func (j *Journal) recall() error {
	rotated, err := rotatedFiles(j.o.Dir, j.o.Prefix)
	if err != nil {
		return err
	}
	left := int64(recallBytes)
	if j.size < left && len(rotated) > 0 {
		f, err := os.Open(rotated[len(rotated)-1])
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err == nil {
			err = j.recallFrom(f, st.Size(), left-j.size)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return j.recallFrom(j.file, j.size, left)
}

// recallFrom reads the last n bytes of a file, from the begin of a line.
func (j *Journal) recallFrom(f io.ReaderAt, size, n int64) error {
	from := max(0, size-n)
	s := bufio.NewScanner(io.NewSectionReader(f, from, size-from))
	s.Buffer(make([]byte, 64<<10), MaxRecord+1)
	for first := from > 0; s.Scan(); first = false {
		if first {
			continue // begins in the middle of a line
		}
		r, err := Parse(s.Bytes())
		if err != nil || r.Outrider == nil || r.Outrider.N == 0 {
			return fmt.Errorf("%w: one of its newest lines is no record of this archive; `outrider compliance verify` says which", ErrDamaged)
		}
		j.known[r.MessageID] = true
		j.head = Head{N: r.Outrider.N, Hash: sha256.Sum256(s.Bytes())}
	}
	return s.Err()
}

// Head is where the archive ends.
func (j *Journal) Head() Head { return j.head }

// Healed is how many bytes of a torn line Open took away.
func (j *Journal) Healed() int64 { return j.heal }

// Has tells whether one of the newest records has that message id.
func (j *Journal) Has(messageID string) bool { return j.known[messageID] }

// Append writes records, and returns when they are on disk. Those whose
// message id the archive has are passed over. After an error none of them
// counts: whoever has them gives them again.
func (j *Journal) Append(records ...*Record) error {
	if j.bad != nil {
		return fmt.Errorf("compliance: append: %w", j.bad)
	}
	for _, r := range records {
		if r.MessageID != "" && j.known[r.MessageID] {
			continue
		}
		if err := j.appendOne(r); err != nil {
			return fmt.Errorf("compliance: append: %w", full(err))
		}
	}
	if err := j.file.Sync(); err != nil {
		j.bad = err // nobody knows what is on disk: whoever opens it again finds out
		return fmt.Errorf("compliance: append: %w", full(err))
	}
	return nil
}

func (j *Journal) appendOne(r *Record) error {
	out := *r
	x := Extensions{}
	if r.Outrider != nil {
		x = *r.Outrider
	}
	x.N, x.Prev = j.head.N+1, hex.EncodeToString(j.head.Hash[:])
	out.Outrider = &x
	if j.o.LegacyID {
		out.ID = out.MessageID
	}
	if j.o.LegacyQUID && out.Control != nil && out.Control.FileVaultInfo != nil {
		c, s := *out.Control, *out.Control.FileVaultInfo
		s.QUID, s.GUID = s.GUID, ""
		c.FileVaultInfo, out.Control = &s, &c
	}
	line, err := out.Encode()
	if err != nil {
		return err
	}
	if err := j.rotate(int64(len(line)) + 1); err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		// Part of the line may be there; it must not stand before the next.
		if cut := j.file.Truncate(j.size); cut != nil {
			j.bad = errors.Join(err, cut)
		}
		return err
	}
	j.size += int64(len(line)) + 1
	j.head = Head{N: x.N, Hash: sha256.Sum256(line)}
	if r.MessageID != "" {
		j.known[r.MessageID] = true
	}
	return nil
}

// rotate begins a new file if n more bytes would be too many.
func (j *Journal) rotate(n int64) error {
	if j.size == 0 || j.size+n <= j.o.MaxBytes {
		return nil
	}
	name, err := j.rotatedName()
	if err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	next, err := j.replace(name)
	if err != nil {
		j.bad = err
		return err
	}
	old := j.file
	j.file, j.size = next, 0
	return old.Close()
}

// replace renames the full file and opens an empty one, locked as it was.
func (j *Journal) replace(name string) (*os.File, error) {
	if err := os.Rename(j.o.current(), name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(j.o.current(), os.O_RDWR|os.O_CREATE|os.O_APPEND|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(ErrBusy, f.Close())
	}
	if err := syncDir(j.o.Dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

const layoutRotated = "20060102T150405"

// rotatedName is the second of now, or the second after the newest file's: the
// order of names is that of the records, whatever the clock does.
func (j *Journal) rotatedName() (string, error) {
	t := j.o.Now().UTC().Truncate(time.Second)
	files, err := rotatedFiles(j.o.Dir, j.o.Prefix)
	if err != nil {
		return "", err
	}
	if n := len(files); n > 0 {
		if last := rotatedAt(files[n-1], j.o.Prefix); !last.Before(t) {
			t = last.Add(time.Second)
		}
	}
	return filepath.Join(j.o.Dir, j.o.Prefix+"_"+t.Format(layoutRotated)+".log"), nil
}

// rotatedFiles lists the full files of a journal, oldest first.
func rotatedFiles(dir, prefix string) (out []string, err error) {
	list, err := os.ReadDir(dir) // sorted by name, and so by time
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if p := filepath.Join(dir, d.Name()); d.Type().IsRegular() && !rotatedAt(p, prefix).IsZero() {
			out = append(out, p)
		}
	}
	return out, nil
}

// rotatedAt reads the time in a full file's name, zero for other files.
func rotatedAt(path, prefix string) time.Time {
	stamp, ok := strings.CutPrefix(filepath.Base(path), prefix+"_")
	if !ok {
		return time.Time{}
	}
	if stamp, ok = strings.CutSuffix(stamp, ".log"); !ok {
		return time.Time{}
	}
	t, err := time.Parse(layoutRotated, stamp)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Close gives the archive free.
func (j *Journal) Close() error { return j.file.Close() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// full names the commonest fault.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
