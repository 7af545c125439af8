package kdf

import (
	"bytes"
	"context"
	"crypto/fips140"
	"encoding/hex"
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
)

var (
	password = []byte("correct horse battery")
	salt     = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
)

// TestVectors are frozen: what was locked with them must open for ever. The
// PBKDF2 line was computed with Python's hashlib.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		name string
		p    Params
		want string
	}{
		{"pbkdf2", DefaultPBKDF2(), "bb06c8c0b1dd5bfd4e40f4e297a2d0e64da7ef94b4b8ec20989021c8b41536ad"},
		{"argon2id, floor", Floor(), "aaecaeb1f79eb8019ba62c34f62fa3e15289f88ff98779ae81de07821992ff1f"},
		{"argon2id, default", Params{Argon2id, 64 << 10, 3, 4}, "5995fc5ddabdb7f10fae2ad796270c269821d70b0efb8fb60262a81f1b6f0eb8"},
	} {
		got, err := Derive(t.Context(), password, salt, v.p)
		if err != nil || hex.EncodeToString(got[:]) != v.want {
			t.Errorf("%s: %x %v", v.name, got, err)
		}
	}
}

// TestArgon2Library checks the library against the reference implementation's
// own test (P-H-C/phc-winner-argon2, src/test.c).
func TestArgon2Library(t *testing.T) {
	got := argon2.IDKey([]byte("password"), []byte("somesalt"), 2, 65536, 1, 32)
	if hex.EncodeToString(got) != "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7" {
		t.Errorf("%x", got)
	}
}

// TestRefusedBeforeWork asks for parameters one past each limit. With 4 TiB
// among them, a test that ends has proven the rest.
func TestRefusedBeforeWork(t *testing.T) {
	for name, p := range map[string]Params{
		"zero":                  {},
		"unknown":               {3, 64 << 10, 3, 4},
		"memory above":          {Argon2id, 65 << 10, 3, 4},
		"memory 4 TiB":          {Argon2id, 1<<32 - 1024, 3, 4},
		"memory below":          {Argon2id, 18 << 10, 3, 4},
		"memory odd":            {Argon2id, 64<<10 - 1, 3, 4},
		"passes above":          {Argon2id, 64 << 10, 7, 4},
		"passes below":          {Argon2id, 64 << 10, 1, 4},
		"lanes above":           {Argon2id, 64 << 10, 3, 5},
		"no lanes":              {Argon2id, 64 << 10, 3, 0},
		"iterations above":      {PBKDF2, 0, 2_000_001, 0},
		"iterations below":      {PBKDF2, 0, 599_999, 0},
		"pbkdf2 with memory":    {PBKDF2, 1024, 600_000, 0},
		"passes 2^32-1":         {Argon2id, 64 << 10, 1<<32 - 1, 4},
		"iterations out of u24": {PBKDF2, 0, 1 << 24, 0},
	} {
		if _, err := Derive(t.Context(), password, salt, p); !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Derive(t.Context(), make([]byte, MaxPassword+1), salt, Floor()); !errors.Is(err, ErrParams) {
		t.Errorf("long password: %v", err)
	}
}

func TestParamsComeBack(t *testing.T) {
	for _, p := range []Params{Default(), Floor(), DefaultPBKDF2(), {Argon2id, 64 << 10, 6, 4}, {PBKDF2, 0, 2_000_000, 0}} {
		if got, err := FromBytes(p.Bytes()); err != nil || got != p {
			t.Errorf("%+v: %+v %v", p, got, err)
		}
	}
	for _, b := range [][4]byte{{}, {1, 65, 3, 4}, {1, 255, 255, 255}, {2, 0, 0, 0}, {2, 255, 255, 255}, {9, 64, 3, 4}} {
		if _, err := FromBytes(b); !errors.Is(err, ErrParams) {
			t.Errorf("%v: %v", b, err)
		}
	}
}

// TestQueue holds the one turn there is, fills the queue behind it, and looks
// at who is sent away.
func TestQueue(t *testing.T) {
	running <- struct{}{}
	queue <- struct{}{} // the one that runs
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for range maxWaiting {
		go func() {
			_, err := Derive(ctx, password, salt, Floor())
			done <- err
		}()
	}
	for deadline := time.Now().Add(time.Minute); len(queue) < 1+maxWaiting; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d in the queue", len(queue))
		}
	}
	if _, err := Derive(t.Context(), password, salt, Floor()); !errors.Is(err, ErrBusy) {
		t.Errorf("fifth to wait: %v", err)
	}
	cancel()
	for range maxWaiting {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	<-running
	<-queue
	if _, err := Derive(t.Context(), password, salt, Floor()); err != nil || len(queue) != 0 || len(running) != 0 {
		t.Errorf("afterwards: %v, %d wait, %d run", err, len(queue), len(running))
	}
}

func TestMemoryComesBack(t *testing.T) {
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Derive(t.Context(), password, salt, Params{Argon2id, 64 << 10, 2, 1}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys-after.HeapReleased) - int64(before.HeapSys-before.HeapReleased); grown > 8<<20 {
		t.Errorf("%d MiB are still held", grown>>20)
	}
}

func TestLock(t *testing.T) {
	secret := []byte("the admin's key")
	sealed, err := Lock(t.Context(), password, secret, []byte("admin"), Floor())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret) {
		t.Fatal("not sealed")
	}
	if got, err := Unlock(t.Context(), password, sealed, []byte("admin")); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := Unlock(t.Context(), []byte("wrong horse battery"), sealed, []byte("admin")); !errors.Is(err, ErrPassword) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := Unlock(t.Context(), password, sealed, []byte("user")); !errors.Is(err, ErrPassword) {
		t.Errorf("another purpose: %v", err)
	}
	for _, at := range []int{0, 3, 4, 5, 6, 7, 22, 23, 35, len(sealed) - 1} {
		bad := bytes.Clone(sealed)
		bad[at] ^= 0x40
		if _, err := Unlock(t.Context(), password, bad, []byte("admin")); !errors.Is(err, ErrPassword) && !errors.Is(err, ErrParams) && !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for _, n := range []int{0, 2, 3, 23, 50} {
		if _, err := Unlock(t.Context(), password, sealed[:n], []byte("admin")); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := Lock(t.Context(), password, make([]byte, MaxLocked+1), []byte("x"), Floor()); err == nil || strings.Contains(err.Error(), "password") {
		t.Errorf("too large: %v", err)
	}
	if _, err := Unlock(t.Context(), password, append([]byte(lockMagic), make([]byte, MaxLocked+100)...), []byte("x")); !errors.Is(err, ErrDamaged) {
		t.Errorf("too large: %v", err)
	}
}

func TestDefaultFollowsFIPS(t *testing.T) {
	if p := Default(); (p.ID == PBKDF2) != fips140.Enabled() || p.Check() != nil {
		t.Errorf("%+v", p)
	}
}

// FuzzUnlock looks for a header that gets past the bounds.
func FuzzUnlock(f *testing.F) {
	f.Add([]byte("OL1\x01\x40\x03\x04" + strings.Repeat("s", 44)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a header that passes would have to derive: it must not cost that here
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Unlock(ctx, password, b, []byte("x"))
		if got != nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrParams) && !errors.Is(err, context.Canceled) {
			t.Fatalf("%x %v", got, err)
		}
	})
}
