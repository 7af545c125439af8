package faults

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"testing"

	"outrider/field-tests/scenario"
)

// TestTermDuringUpload stops a node while a file comes in: it ends with 0, the
// half of the file is gone after the restart, and the whole of it can be sent.
func TestTermDuringUpload(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	d.up(d.a, d.b)
	d.login(d.a, "alice")
	d.login(d.b, "bob")
	content := make([]byte, 3<<20)
	rand.Read(content)
	empty := blobUse(t, d.a.Dir)

	body, feed := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := d.a.API.SendFile(d.ctx, "bob", "map.bin", body)
		sent <- err
	}()
	_, err := feed.Write(content[:2<<20])
	d.must(err)
	d.must(scenario.Poll(d.ctx, "the first half to be on disk", func() (bool, error) {
		n := blobUse(t, d.a.Dir) - empty
		return n > 1<<20, fmt.Errorf("%d bytes are", n)
	}))
	d.stop(d.a)
	feed.CloseWithError(errors.New("the test is over"))
	if err := <-sent; err == nil {
		t.Error("half a file was acknowledged")
	}

	d.up(d.a)
	d.login(d.a, "alice")
	if n := blobUse(t, d.a.Dir) - empty; n > 1<<20 {
		t.Errorf("%d bytes of half a file stayed", n)
	}
	if in := d.inbox(d.a); len(in) != 0 {
		t.Errorf("half a message stayed: %v", in)
	}
	m, err := d.a.API.SendFile(d.ctx, "bob", "map.bin", bytes.NewReader(content))
	d.must(err)
	d.await(d.a, m.ID, "delivered")
	d.sameFile(d.b, "map.bin", content)
	d.stop(d.a, d.b)
}

// sameFile fails the test unless the file of that name at b is complete and
// has this content.
func (d *duo) sameFile(b *scenario.Box, name string, content []byte) {
	d.t.Helper()
	d.must(scenario.Poll(d.ctx, name+" at "+b.Name, func() (bool, error) {
		m := d.inbox(b)[name]
		if m.File == nil || !m.File.Complete {
			return false, fmt.Errorf("it is not complete: %+v", m.File)
		}
		var got bytes.Buffer
		if err := b.API.File(d.ctx, m.ID, &got); err != nil {
			return false, err
		}
		if !bytes.Equal(got.Bytes(), content) {
			return false, errors.New("it has other bytes")
		}
		return true, nil
	}))
}

// blobUse is how much a node's files take on its disk, in bytes.
func blobUse(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "db", "blobs"), func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// TestBusyPort: a port that is taken is named, with what to do, and so that a
// script sees it.
func TestBusyPort(t *testing.T) {
	d := newDuo(t)
	for what, port := range map[string]int{"gossip": d.a.Gossip, "mesh": d.a.Mesh, "page": d.a.Page} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		d.must(err)
		t.Run(what, func(t *testing.T) {
			d := *d
			d.t = t
			d.failsWith(d.a, []string{"up"}, fmt.Sprint(port), "in use", "outrider config check")
			out, err := d.a.CLI(d.ctx, "", "config", "check")
			if err == nil {
				t.Errorf("config check sees nothing: %s", out)
			} else {
				says(t, err.Error()+out, fmt.Sprint(port))
			}
		})
		l.Close()
	}
	d.up(d.a)
	d.stop(d.a)
}
