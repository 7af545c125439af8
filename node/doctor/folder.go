package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func checkFolder(_ context.Context, e Env) (out []Finding) {
	switch e.Folder.State {
	case Absent:
		return []Finding{found("not-initialised", "dir", e.Dir)}
	case Later:
		out = append(out, found("state-later", "dir", e.Dir))
	case Damaged:
		out = append(out, found("state-damaged", "dir", e.Dir, "why", e.Folder.Why))
	case Good:
		if !e.Folder.Network {
			out = append(out, found("no-network"))
		}
	}
	return append(out, checkOwners(e.Dir)...)
}

// private is what must be of the folder's owner, and how it may be open at
// most.
var private = []struct {
	name string
	mode fs.FileMode
}{{"state", 0o600}, {"lock", 0o640}, {"admin", 0o700}, {"users", 0o750}, {"db", 0o750}, {"page", 0o750}}

func checkOwners(dir string) (out []Finding) {
	folder, err := os.Stat(dir)
	if err != nil {
		return nil // checkDisk tells
	}
	if m := folder.Mode().Perm(); m&0o007 != 0 && m&0o002 != 0 {
		out = append(out, found("folder-open", "path", dir, "mode", fmt.Sprintf("%04o", m), "want", "0750"))
	}
	owner := folder.Sys().(*syscall.Stat_t).Uid
	for _, p := range private {
		path := filepath.Join(dir, p.name)
		st, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if uid := st.Sys().(*syscall.Stat_t).Uid; uid != owner {
			out = append(out, found("folder-owner", "path", path, "owner", account(uid), "folder", account(owner), "dir", dir))
		}
		if st.Mode().Perm()&0o007 != 0 && p.mode&0o007 == 0 && folder.Mode().Perm()&0o001 != 0 {
			out = append(out, found("folder-open", "path", path, "mode", fmt.Sprintf("%04o", st.Mode().Perm()), "want", fmt.Sprintf("%04o", p.mode)))
		}
	}
	return out
}

// nameIn finds a user's name in the text of passwd(5), else the number.
func nameIn(passwd string, uid uint32) string {
	for line := range strings.Lines(passwd) {
		f := strings.Split(line, ":")
		if len(f) > 2 && f[2] == strconv.FormatUint(uint64(uid), 10) {
			return f[0]
		}
	}
	return number(uint64(uid))
}

const (
	probeBytes = 4096
	probes     = 3
	slowSync   = 200 * time.Millisecond // the middle of three: a spinning disk needs 20, a worn card seconds
	emptyDisk  = 1 << 20                // bytes free below which a disk is full
)

func checkDisk(_ context.Context, e Env) (out []Finding) {
	if e.Folder.State == Absent {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.Dir, &st); err != nil {
		return []Finding{found("folder-not-writable", "path", e.Dir, "why", err.Error(), "dir", e.Dir)}
	}
	if kind := volatileKind(int64(st.Type)); kind != "" {
		out = append(out, found("disk-volatile", "dir", e.Dir, "kind", kind))
	}
	free := st.Bavail * uint64(st.Bsize)
	took, err := probe(e.Dir)
	switch {
	case st.Files > 0 && st.Ffree == 0:
		out = append(out, found("disk-inodes", "dir", e.Dir, "free", size(free)))
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), free < emptyDisk:
		out = append(out, found("disk-full", "dir", e.Dir, "free", size(free)))
	case err != nil:
		return append(out, found("folder-not-writable", "path", e.Dir, "why", reason(err), "dir", e.Dir))
	case free < uint64(e.Config.FreeFloor()):
		out = append(out, found("disk-below-floor", "dir", e.Dir, "free", size(free), "floor", size(uint64(e.Config.FreeFloor()))))
	}
	if err == nil && took >= slowSync {
		out = append(out, found("disk-slow", "dir", e.Dir, "time", took.Round(10*time.Millisecond).String(), "bytes", size(probeBytes)))
	}
	return out
}

// volatileKind names a file system that forgets (statfs(2)), else "".
func volatileKind(magic int64) string {
	switch magic {
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	}
	return ""
}

// probe makes a small file durable some times, removes it, and returns the
// middle of the times.
func probe(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	times := make([]time.Duration, probes)
	for i := range times {
		if _, err := f.Write(make([]byte, probeBytes)); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[probes/2], nil
}

// reason is the last link of an error, without the path twice.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// size writes bytes for people.
func size(n uint64) string {
	switch {
	case n >= 10e9:
		return fmt.Sprintf("%d GB", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%d MB", n/1e6)
	}
	return fmt.Sprintf("%d kB", n/1000)
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func join(list []string) string { return strings.Join(list, ", ") }
