package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"outrider/offline/compliance"
)

// Limits of what is looked at.
const (
	archiveBehind   = time.Hour // a copy that waits longer has been forgotten
	archiveFreeMin  = 64 << 20  // bytes: less, and the next files do not fit
	archiveReadMost = 256 << 20 // bytes of journals; more is for `outrider compliance verify`
)

// Archive is what the node tells of one archive reader.
type Archive struct {
	Reader  string
	Keys    bool
	Here    bool
	Waiting int
	Oldest  time.Time // zero: not known
	Folder  string    // where an archiver writes, empty: none was seen
	Seen    time.Time
}

// checkArchive looks at the archive that the network's configuration names.
func checkArchive(_ context.Context, e Env) (out []Finding) {
	for _, a := range e.Running.Archives {
		if !a.Keys {
			out = append(out, found("archive-keys", "reader", a.Reader))
		}
		if late := a.Waiting > 0 && e.Now().Sub(a.Oldest) > archiveBehind && e.Now().Sub(a.Seen) > archiveBehind; a.Here && late {
			out = append(out, found("archive-behind", "reader", a.Reader, "count", fmt.Sprint(a.Waiting)))
		}
		if a.Folder != "" {
			out = append(out, archiveFolder(a.Folder)...)
		}
	}
	return out
}

// archiveFolder looks at an archive's folder.
func archiveFolder(dir string) []Finding {
	st, err := os.Stat(dir)
	switch {
	case err == nil && !st.IsDir(), errors.Is(err, os.ErrNotExist):
		return []Finding{found("archive-folder", "folder", dir, "why", "it is not there")}
	case err != nil:
		return nil // not for our eyes
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); errors.Is(err, unix.EROFS) {
		return []Finding{found("archive-folder", "folder", dir, "why", "its disk is mounted read-only")}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Bavail*uint64(fs.Bsize) < archiveFreeMin {
		return []Finding{found("archive-full", "folder", dir, "free", fmt.Sprintf("%d MB", fs.Bavail*uint64(fs.Bsize)/1e6))}
	}
	if size, err := journalBytes(dir); err != nil || size > archiveReadMost {
		return nil
	}
	rep, err := compliance.Verify(compliance.Options{Dir: dir}, nil, nil)
	if err != nil || rep.Sound() {
		return nil
	}
	for _, f := range rep.Findings {
		if !f.Note {
			return []Finding{found("archive-broken", "folder", dir, "where", fmt.Sprintf("%s:%d", f.File, f.Line), "what", f.Text)}
		}
	}
	return nil
}

func journalBytes(dir string) (n int64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, f := range files {
		st, serr := os.Stat(f)
		if serr != nil {
			return 0, serr
		}
		n += st.Size()
	}
	return n, err
}
