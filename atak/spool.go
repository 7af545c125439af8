package atak

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A spool keeps one user's uploads until they were sent, and packages that
// came until the client has fetched them. Files lie sealed under the user's
// spool key, under names that tell nothing:
//
//	NAME.data  salt (16), then chunks of 64 KiB, each AES-256-GCM; nonce = number
//	NAME.meta  nonce (12), entry as JSON, AES-256-GCM; written last: without it
//	           there is no entry
//
// NAME is a keyed hash of the file's SHA-256. Both are synced before an upload
// is acknowledged, so it survives a power cut.
type spool struct {
	dir string
	key [32]byte
	now func() time.Time
	mu  sync.Mutex // one change at a time
}

// An entry is one file of a spool.
type entry struct {
	Hash    string    `json:"hash"` // SHA-256, hexadecimal
	Name    string    `json:"name"`
	Type    string    `json:"type"` // media type
	Size    int64     `json:"size"`
	Creator string    `json:"creator"` // uid of the device that uploaded it
	Tool    string    `json:"tool"`
	At      time.Time `json:"at"`
}

const (
	chunkSize = 64 << 10
	saltSize  = 16
	sealSize  = 16 // of GCM
	maxMeta   = 8 << 10
)

// openSpool opens a user's spool and drops what is too old or half written.
func openSpool(dir string, key [32]byte, now func() time.Time) (*spool, error) {
	s := &spool{dir: dir, key: key, now: now}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("atak: open spool: %w", err)
	}
	return s, s.sweep(true)
}

func (s *spool) path(hash, kind string) string {
	m := hmac.New(sha256.New, s.key[:])
	m.Write([]byte("name\x00" + hash))
	return filepath.Join(s.dir, hex.EncodeToString(m.Sum(nil)[:16])+kind)
}

// seal makes the cipher for one purpose.
func (s *spool) seal(salt []byte, purpose string) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, s.key[:], salt, purpose, 32)
	if err != nil {
		panic(err) // 32 bytes are always to be had
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func chunkNonce(i int64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), uint64(i)) }

// add takes a file of at most MaxPackage bytes. want is the SHA-256 that the
// uploader states, empty when it states none. The file is durable when add
// returns nil.
func (s *spool) add(e entry, want string, r io.Reader) (entry, error) {
	used, err := s.used() // uploads that run now count as far as they are
	if err != nil {
		return e, err
	}
	f, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return e, fmt.Errorf("atak: keep file: %w", err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	e.Hash, e.Size, err = s.write(f, r, min(MaxPackage, max(0, maxSpool-used)))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return e, err
	}
	switch {
	case e.Size > MaxPackage:
		return e, ErrTooLarge
	case used+e.Size > maxSpool:
		return e, ErrFull
	case want != "" && !strings.EqualFold(want, e.Hash):
		return e, fmt.Errorf("atak: keep file: it does not have the SHA-256 that was stated: %w", errStated)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if used, err = s.used(); err != nil || used > maxSpool+MaxPackage/64 { // others came meanwhile; seals and notes are small
		return e, errors.Join(err, ErrFull)
	}
	e.At = s.now().UTC()
	if err := os.Rename(f.Name(), s.path(e.Hash, ".data")); err != nil {
		return e, fmt.Errorf("atak: keep file: %w", err)
	}
	return e, s.writeMeta(e)
}

var errStated = errors.New("stated wrongly")

// write seals what r yields, and stops a byte past limit.
func (s *spool) write(w io.Writer, r io.Reader, limit int64) (hash string, size int64, err error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", 0, fmt.Errorf("atak: keep file: %w", err)
	}
	if _, err := w.Write(salt); err != nil {
		return "", 0, fmt.Errorf("atak: keep file: %w", err)
	}
	aead, sum := s.seal(salt, "data"), sha256.New()
	r = io.TeeReader(io.LimitReader(r, limit+1), sum)
	buf := make([]byte, chunkSize)
	for i := int64(0); ; i++ {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if _, werr := w.Write(aead.Seal(nil, chunkNonce(i), buf[:n], nil)); werr != nil {
				return "", 0, fmt.Errorf("atak: keep file: %w", werr)
			}
		}
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return hex.EncodeToString(sum.Sum(nil)), size, nil
		case err != nil:
			return "", 0, fmt.Errorf("atak: keep file: read: %w", err)
		}
	}
}

func (s *spool) writeMeta(e entry) error {
	b, err := json.Marshal(e)
	if err != nil || len(b) > maxMeta {
		return errors.New("atak: keep file: its name is too long")
	}
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("atak: keep file: %w", err)
	}
	return writeFile(s.path(e.Hash, ".meta"), s.seal(nil, "meta").Seal(nonce, nonce, b, nil))
}

// find returns an entry by its hash.
func (s *spool) find(hash string) (entry, error) {
	if len(hash) != 64 {
		return entry{}, ErrNotFound
	}
	return s.readMeta(s.path(strings.ToLower(hash), ".meta"))
}

func (s *spool) readMeta(path string) (entry, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return entry{}, ErrNotFound
	}
	if err != nil {
		return entry{}, fmt.Errorf("atak: read file: %w", err)
	}
	var e entry
	if len(b) < 12 {
		return e, ErrNotFound
	}
	plain, err := s.seal(nil, "meta").Open(nil, b[:12], b[12:], nil)
	if err != nil || json.Unmarshal(plain, &e) != nil {
		return entry{}, ErrNotFound // of another key: a user who was enrolled anew
	}
	return e, nil
}

// list returns all entries, the newest first.
func (s *spool) list() ([]entry, error) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.meta"))
	if err != nil {
		return nil, fmt.Errorf("atak: list files: %w", err)
	}
	var out []entry
	for _, n := range names {
		if e, err := s.readMeta(n); err == nil {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return b.At.Compare(a.At) })
	return out, nil
}

// change rewrites what is noted about a file.
func (s *spool) change(hash string, edit func(*entry)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(hash)
	if err != nil {
		return err
	}
	edit(&e)
	return s.writeMeta(e)
}

// remove forgets a file; one that is not there is no error.
func (s *spool) remove(hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, kind := range []string{".meta", ".data"} {
		if err := os.Remove(s.path(strings.ToLower(hash), kind)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweep removes what is too old, and at the start what a crash left half
// written.
func (s *spool) sweep(start bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("atak: sweep files: %w", err)
	}
	var errs []error
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			continue // gone meanwhile
		}
		half := strings.HasPrefix(d.Name(), "new-") || strings.HasSuffix(d.Name(), ".new")
		if !half && strings.HasSuffix(d.Name(), ".data") {
			_, err := os.Stat(filepath.Join(s.dir, strings.TrimSuffix(d.Name(), ".data")+".meta"))
			half = errors.Is(err, fs.ErrNotExist)
		}
		if half && start || s.now().Sub(info.ModTime()) > spoolTime {
			errs = append(errs, os.Remove(filepath.Join(s.dir, d.Name())))
		}
	}
	return errors.Join(errs...)
}

func (s *spool) used() (n int64, err error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, fmt.Errorf("atak: keep file: %w", err)
	}
	for _, d := range list {
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
	}
	return n, nil
}

// A spoolFile reads one file of a spool at any place.
type spoolFile struct {
	f     *os.File
	aead  cipher.AEAD
	size  int64
	at    int64 // number of the chunk in plain, -1 none
	plain []byte
}

// open opens a file for reading; the caller closes it.
func (s *spool) open(e entry) (*spoolFile, error) {
	f, err := os.Open(s.path(e.Hash, ".data"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("atak: read file: %w", err)
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(f, salt); err != nil {
		return nil, errors.Join(fmt.Errorf("atak: read file: %w", err), f.Close())
	}
	return &spoolFile{f: f, aead: s.seal(salt, "data"), size: e.Size, at: -1}, nil
}

func (f *spoolFile) Close() error { return f.f.Close() }

// ReadAt reads sealed chunks; it is for one goroutine.
func (f *spoolFile) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && off < f.size {
		if err := f.load(off / chunkSize); err != nil {
			return n, err
		}
		c := copy(b[n:], f.plain[off%chunkSize:])
		n, off = n+c, off+int64(c)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *spoolFile) load(i int64) error {
	if f.at == i {
		return nil
	}
	sealed := make([]byte, min(chunkSize, f.size-i*chunkSize)+sealSize)
	_, err := f.f.ReadAt(sealed, saltSize+i*(chunkSize+sealSize))
	if err == nil {
		f.plain, err = f.aead.Open(sealed[:0], chunkNonce(i), sealed, nil)
	}
	if err != nil {
		f.at = -1
		return fmt.Errorf("atak: read file: damaged: %w", err)
	}
	f.at = i
	return nil
}

// writeFile replaces a small file, all or nothing, and syncs it.
func writeFile(path string, data []byte) error {
	err := func() error {
		f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return errors.Join(err, os.Remove(path+".new"))
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
		d, err := os.Open(filepath.Dir(path))
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	}()
	if err != nil {
		return fmt.Errorf("atak: write %s: %w", filepath.Base(path), err)
	}
	return nil
}
