package faults

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"outrider/field-tests/scenario"
)

// privateEnv tells this program that it runs in name spaces of its own, where
// it may mount what it likes: nobody else sees it, and it goes by itself.
const privateEnv = "OUTRIDER_FAULTS_PRIVATE"

// private runs the calling test again in a mount name space of its own, and
// returns true there. Without root it takes a user name space besides.
func private(t *testing.T) bool {
	t.Helper()
	if os.Getenv(privateEnv) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=12m")
	cmd.Env = append(os.Environ(), privateEnv+"=1", "OUTRIDER_BIN="+scenario.Binary(t))
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in name spaces of its own: %v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

// A smallDisk is a file system of a few megabytes, which can be filled.
type smallDisk struct {
	t   *testing.T
	dir string
}

func newSmallDisk(t *testing.T, mb int) *smallDisk {
	t.Helper()
	d := &smallDisk{t, t.TempDir()}
	if err := unix.Mount("none", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mb)); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

func (d *smallDisk) free() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// fill takes space until so many bytes are free.
func (d *smallDisk) fill(free int64) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for d.free() > free {
		if _, err := f.Write(make([]byte, min(64<<10, d.free()-free))); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// clear gives all of it back.
func (d *smallDisk) clear() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil {
		d.t.Fatal(err)
	}
}

const mb = 1_000_000

// TestFullDisk fills the disk of a node that has mail to carry, first to the
// floor that the node keeps free, then to the last byte. It refuses new mail
// with a clear code, stays up, loses nothing that it took, comes back from a
// kill when there is space again, and goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if !private(t) {
		return
	}
	d := newDuo(t)
	disk := newSmallDisk(t, 160)
	d.a = copyBox(t, disk.dir, d.a)
	d.must(configure(d.a, "[store]\nfree_floor_mb = 40\n", d.b.GossipAddr()))
	d.must(configure(d.b, "", d.a.GossipAddr()))
	d.up(d.a)
	d.login(d.a, "alice")
	file := make([]byte, 2*mb)
	rand.Read(file)
	var taken []string
	for i := range 5 {
		taken = append(taken, d.send(d.a, "bob", fmt.Sprintf("taken before, %d", i)).ID)
	}
	m, err := d.a.API.SendFile(d.ctx, "bob", "before.bin", bytes.NewReader(file))
	d.must(err)
	taken = append(taken, m.ID)

	p := &pair{a: d.a, b: d.b, tag: rawTag}
	l := &ledger{acked: map[[32]byte]bool{}, seen: map[[32]byte]bool{}}
	work, enough := context.WithCancel(d.ctx)
	defer enough()
	var worker sync.WaitGroup
	worker.Go(func() { p.submit(work, l, 7) })
	d.must(scenario.Poll(d.ctx, "the load to begin", func() (bool, error) { return l.size() > 0, nil }))
	disk.fill(39 * mb) // below the floor, under load
	d.refusesMail(file)
	disk.fill(0)
	d.refusesMail(file)
	enough()
	worker.Wait()
	d.failsWith(d.a, []string{"link", "down", d.bID}, "no space left")
	for _, id := range taken {
		d.await(d.a, id, "queued")
	}

	d.a.Kill()
	d.failsWith(d.a, []string{"up"}, "free some space")
	disk.clear()
	d.up(d.a, d.b)
	d.login(d.a, "alice")
	d.login(d.b, "bob")
	taken = append(taken, d.send(d.a, "bob", "taken after").ID)
	m, err = d.a.API.SendFile(d.ctx, "bob", "after.bin", bytes.NewReader(file))
	d.must(err)
	for _, id := range append(taken, m.ID) {
		d.await(d.a, id, "delivered", "read")
	}
	d.sameFile(d.b, "before.bin", file)
	d.sameFile(d.b, "after.bin", file)
	watching, stop := context.WithCancel(d.ctx)
	defer stop()
	worker.Go(func() { p.watch(watching, l) })
	d.must(scenario.Poll(d.ctx, "bundles acknowledged while the disk ran full", func() (bool, error) {
		m := l.missing()
		return m == 0, fmt.Errorf("%d of %d are missing", m, l.size())
	}))
	stop()
	worker.Wait()
	if in := d.inbox(d.b); len(in) != 8 {
		t.Errorf("bob has %d messages, want the 8 that were taken", len(in))
	}
	d.stop(d.a, d.b)
}

// refusesMail tries every way of sending: each must be told that there is no
// room, and none must leave anything behind.
func (d *duo) refusesMail(file []byte) {
	d.t.Helper()
	before := len(d.inbox(d.a))
	_, err := d.a.API.Send(d.ctx, "bob", "one more")
	d.refused(err, "store_full")
	_, err = d.a.API.SendFile(d.ctx, "bob", "one.more", bytes.NewReader(file))
	d.refused(err, "store_full")
	_, err = d.a.API.SendLocation(d.ctx, "bob", 48.1, 11.5, "one more")
	d.refused(err, "store_full")
	err = d.a.API.Do(d.ctx, "POST", "/v1/bundles?lifetime_min=60&tag="+rawTag, bytes.NewReader(file[:1000]), nil)
	d.refused(err, "store_full")
	if _, err := d.a.API.Status(d.ctx); err != nil {
		d.t.Errorf("the node suffers from a full disk: %v", err)
	}
	if after := len(d.inbox(d.a)); after != before {
		d.t.Errorf("%d refused messages are there all the same", after-before)
	}
}
