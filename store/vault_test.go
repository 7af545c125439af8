package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"outrider/store"
	"outrider/store/internal/vfs"
	"outrider/store/storetest"
)

const vaultDir = "/vault"

var kek = [32]byte{1, 2, 3}

func vaultID(n int) (id [16]byte) {
	copy(id[:], fmt.Sprintf("secret %d", n))
	return id
}

func createVault(t testing.TB, d vfs.FS) *store.Vault {
	t.Helper()
	v, err := store.VaultOptions{FS: d}.Create(vaultDir, kek)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func reopenVault(t testing.TB, d vfs.FS, v *store.Vault) *store.Vault {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := store.VaultOptions{FS: d}.Open(vaultDir, kek)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// checkVault compares a vault with what should be in it.
func checkVault(t testing.TB, v *store.Vault, want map[int][]byte) {
	t.Helper()
	if v.Len() != len(want) {
		t.Fatalf("%d secrets, want %d", v.Len(), len(want))
	}
	for n, value := range want {
		got, err := v.Get(vaultID(n))
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("secret %d is %x (%v), want %x", n, got, err, value)
		}
	}
}

// Random changes, commits and reopens against a map.
func TestVaultModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := storetest.NewDisk()
		v, err := store.VaultOptions{FS: d}.Create(vaultDir, kek)
		if err != nil {
			t.Fatal(err)
		}
		committed, staged := map[int][]byte{}, map[int][]byte{}
		ids := rapid.IntRange(0, 300)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for n, value := range rapid.MapOfN(ids, rapid.SliceOfN(rapid.Byte(), 0, store.MaxSecret), 1, 60).Draw(t, "values") {
					if err := v.PutExpiring(vaultID(n), value, rapid.Uint64Range(0, 20000).Draw(t, "expires")); err != nil {
						t.Fatal(err)
					}
					staged[n] = value
				}
			},
			"shred": func(t *rapid.T) {
				n := ids.Draw(t, "id")
				if err := v.Shred(vaultID(n)); err != nil {
					t.Fatal(err)
				}
				delete(staged, n)
			},
			"commit": func(t *rapid.T) {
				if err := v.Commit(); err != nil {
					t.Fatal(err)
				}
				committed = clone(staged)
			},
			"reopen": func(t *rapid.T) {
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
				if v, err = (store.VaultOptions{FS: d}).Open(vaultDir, kek); err != nil {
					t.Fatal(err)
				}
				staged = clone(committed)
				if v.Len() != len(committed) {
					t.Fatalf("%d secrets after reopening, want %d", v.Len(), len(committed))
				}
			},
			"": func(t *rapid.T) {
				for n := range 301 {
					got, err := v.Get(vaultID(n))
					want, ok := staged[n]
					if ok && (err != nil || !bytes.Equal(got, want)) || !ok && !errors.Is(err, store.ErrNotFound) {
						t.Fatalf("secret %d is %x (%v), want %x (%v)", n, got, err, want, ok)
					}
				}
			},
		})
	})
}

func clone(m map[int][]byte) map[int][]byte {
	out := make(map[int][]byte, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// The power is cut at every change of the disk, several ways each: the vault
// then holds the state before the commit or after it, and after it if Commit
// had returned.
func TestVaultPowerCut(t *testing.T) {
	lost, err := cutVaultEverywhere(func(d *storetest.Disk) vfs.FS { return d })
	if err != nil {
		t.Fatal(err)
	}
	if lost != 0 {
		t.Fatalf("%d acknowledged commits lost", lost)
	}
}

// Without syncs the same test must find losses.
func TestVaultPowerCutControl(t *testing.T) {
	lost, err := cutVaultEverywhere(func(d *storetest.Disk) vfs.FS { return vfs.NoSync{FS: d} })
	if lost == 0 && err == nil {
		t.Fatal("nothing was lost although nothing was synced: the test proves nothing")
	}
}

// vaultSteps is a run of commits over a vault; after step i the content is
// states[i].
func vaultStates() (states []map[int][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	now := map[int][]byte{}
	for range 6 {
		next := clone(now)
		for range 25 {
			n := r.IntN(80)
			if r.IntN(3) == 0 {
				delete(next, n)
			} else {
				next[n] = []byte(fmt.Sprintf("value %d", r.Uint64()))
			}
		}
		states = append(states, next)
		now = next
	}
	return states
}

// runVault brings a vault from state to state and returns how many were
// acknowledged.
func runVault(fsys vfs.FS, states []map[int][]byte) (acked int, err error) {
	v, err := store.VaultOptions{FS: fsys}.Create(vaultDir, kek)
	if err != nil {
		return 0, err
	}
	now := map[int][]byte{}
	for _, next := range states {
		for n := range now {
			if _, stays := next[n]; !stays {
				if err := v.Shred(vaultID(n)); err != nil {
					return acked, err
				}
			}
		}
		for n, value := range next {
			if !bytes.Equal(now[n], value) {
				if err := v.Put(vaultID(n), value); err != nil {
					return acked, err
				}
			}
		}
		if err := v.Commit(); err != nil {
			return acked, err
		}
		acked++
		now = next
	}
	return acked, nil
}

func cutVaultEverywhere(wrap func(*storetest.Disk) vfs.FS) (lost int, err error) {
	states := vaultStates()
	whole := storetest.NewDisk()
	if _, err := runVault(wrap(whole), states); err != nil {
		return 0, err
	}
	for cut := range whole.Changes() + 1 {
		for seed := range 6 {
			d := storetest.NewDisk()
			d.CutAfter(cut)
			acked, _ := runVault(wrap(d), states)
			after := d.PowerCut(rand.New(rand.NewPCG(uint64(cut), uint64(seed))))
			ok, err := vaultIsOneOf(after, states, acked)
			if err != nil {
				return lost, fmt.Errorf("cut at change %d, seed %d, %d acknowledged: %w", cut, seed, acked, err)
			}
			if !ok {
				lost++
			}
		}
	}
	return lost, nil
}

// vaultIsOneOf reports whether a vault holds the acknowledged state, or the
// one after.
func vaultIsOneOf(d *storetest.Disk, states []map[int][]byte, acked int) (bool, error) {
	v, err := store.VaultOptions{FS: d}.Open(vaultDir, kek)
	if errors.Is(err, store.ErrNotFound) && acked == 0 {
		_, err := store.VaultOptions{FS: d}.Create(vaultDir, kek)
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	defer v.Close()
	candidates := []map[int][]byte{{}}
	if acked > 0 {
		candidates[0] = states[acked-1]
	}
	if acked < len(states) {
		candidates = append(candidates, states[acked])
	}
	for _, want := range candidates {
		if vaultHolds(v, want) {
			return true, nil
		}
	}
	return false, nil
}

func vaultHolds(v *store.Vault, want map[int][]byte) bool {
	for n, value := range want {
		if got, err := v.Get(vaultID(n)); err != nil || !bytes.Equal(got, value) {
			return false
		}
	}
	return v.Len() == len(want)
}

func TestVaultConcurrentCommitsShareSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := storetest.NewDisk()
		v := createVault(t, d)
		defer v.Close()
		// The first commit is held at its first write until all others wait.
		const others = 20
		release, entered := make(chan struct{}), make(chan struct{})
		var once sync.Once
		d.OnOp = func(string, string) error {
			once.Do(func() { close(entered); <-release })
			return nil
		}
		before := v.Syncs()
		var wg sync.WaitGroup
		commit := func(n int) {
			s := v.NewSession()
			if err := errors.Join(s.Put(vaultID(n), []byte{byte(n)}), s.Commit()); err != nil {
				t.Error(err)
			}
		}
		wg.Go(func() { commit(0) })
		<-entered
		for n := range others {
			wg.Go(func() { commit(n + 1) })
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if v.Len() != others+1 {
			t.Fatalf("%d secrets, want %d", v.Len(), others+1)
		}
		if got := v.Syncs() - before; got > 6 {
			t.Fatalf("%d syncs for %d commits of which %d waited together", got, others+1, others)
		}
	})
}

func TestVaultSessionsAreApart(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	a, b := v.NewSession(), v.NewSession()
	must(t, a.Put(vaultID(1), []byte("a")))
	must(t, b.Put(vaultID(2), []byte("b")))
	_, err := b.Get(vaultID(1))
	wantErr(t, err, store.ErrNotFound)
	must(t, b.Commit())
	v = reopenVault(t, d, v)
	checkVault(t, v, map[int][]byte{2: []byte("b")})
	must(t, v.Close())
}

func TestVaultErrors(t *testing.T) {
	d := storetest.NewDisk()
	o := store.VaultOptions{FS: d}
	_, err := o.Open(vaultDir, kek)
	wantErr(t, err, store.ErrNotFound)
	v := createVault(t, d)
	_, err = o.Open(vaultDir, kek)
	wantErr(t, err, store.ErrInUse)
	_, err = o.Create(vaultDir, kek)
	wantErr(t, err, store.ErrInUse)
	wantErr(t, v.Put(vaultID(1), make([]byte, store.MaxSecret+1)), store.ErrTooLarge)
	must(t, v.Put(vaultID(1), make([]byte, store.MaxSecret)))
	must(t, v.Commit())
	v.Lock()
	_, err = v.Get(vaultID(1))
	wantErr(t, err, store.ErrLocked)
	wantErr(t, v.Put(vaultID(1), nil), store.ErrLocked)
	wantErr(t, v.Commit(), store.ErrLocked)
	must(t, v.Close())
	_, err = o.Create(vaultDir, kek)
	wantErr(t, err, store.ErrExists)
	_, err = o.Open(vaultDir, [32]byte{9})
	wantErr(t, err, store.ErrWrongKey)
	v, err = o.Open(vaultDir, kek)
	must(t, err)
	checkVault(t, v, map[int][]byte{1: make([]byte, store.MaxSecret)})
	must(t, v.Close())
}

func TestVaultRekey(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	must(t, v.Put(vaultID(1), []byte("x")))
	must(t, v.Commit())
	fresh := [32]byte{7}
	must(t, v.Rekey(fresh))
	must(t, v.Put(vaultID(2), []byte("y")))
	must(t, v.Commit())
	must(t, v.Close())
	_, err := store.VaultOptions{FS: d}.Open(vaultDir, kek)
	wantErr(t, err, store.ErrWrongKey)
	v, err = store.VaultOptions{FS: d}.Open(vaultDir, fresh)
	must(t, err)
	checkVault(t, v, map[int][]byte{1: []byte("x"), 2: []byte("y")})
	must(t, v.Close())
}

func TestVaultShredBefore(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	for n := range 100 {
		must(t, v.PutExpiring(vaultID(n), []byte{1}, uint64(3600+n*60)))
	}
	must(t, v.Put(vaultID(1000), []byte("stays")))
	must(t, v.Commit())
	n, err := v.ShredBefore(2*3600 + 100)
	must(t, err)
	if n != 60 {
		t.Fatalf("%d secrets of the first hour shredded, want 60", n)
	}
	must(t, v.Commit())
	if v.Len() != 41 {
		t.Fatalf("%d secrets left, want 41", v.Len())
	}
	must(t, v.Close())
}

// A damaged page is an error that says what to do; salvage goes on without it.
func TestVaultDamagedPage(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	for n := range 100 {
		must(t, v.Put(vaultID(n), []byte{byte(n)}))
	}
	must(t, v.Commit())
	must(t, v.Close())
	pages := len(d.Content(vaultDir+"/pages")) / 4096
	opened, refused := 0, 0
	for page := range pages {
		d.Damage(vaultDir+"/pages", int64(page)*4096+100)
		v, err := store.VaultOptions{FS: d}.Open(vaultDir, kek)
		if err == nil { // a page not in use
			opened++
			must(t, v.Close())
		} else {
			wantErr(t, err, store.ErrCorrupt)
			refused++
			salvageVault(t, d, err)
		}
		d.Damage(vaultDir+"/pages", int64(page)*4096+100) // and back
	}
	if refused != 5 { // three leaves, index, root
		t.Fatalf("%d damaged pages of %d refused, want 5", refused, pages)
	}
}

func salvageVault(t *testing.T, d *storetest.Disk, cause error) {
	t.Helper()
	v, err := store.VaultOptions{FS: d, Salvage: true}.Open(vaultDir, kek)
	if strings.Contains(cause.Error(), "root page") {
		wantErr(t, err, store.ErrCorrupt)
		return
	}
	must(t, err)
	if v.Len() >= 100 {
		t.Fatalf("%d secrets although a page is damaged", v.Len())
	}
	must(t, v.Close())
}

// What was shredded or overwritten cannot be had from everything the disk ever
// held and the anchor of now, also with the key encryption key; what was not
// can, which shows that the attack works.
func TestVaultShreddedIsGone(t *testing.T) {
	if found := attackVault(t, func(*store.Vault) {}); found != 0 {
		t.Fatalf("%d values recovered that were shredded or overwritten", found)
	}
}

// If pages were written again under their old keys, the same attack must
// succeed.
func TestVaultShreddedIsGoneControl(t *testing.T) {
	if found := attackVault(t, store.ReuseVaultKeys); found == 0 {
		t.Fatal("nothing recovered although keys were used again: the test proves nothing")
	}
}

// attackVault works on a vault while it records every page and every anchor,
// then plays who has the whole record, the anchor file of now, and the key.
// It returns the number of values recovered that should be gone.
func attackVault(t *testing.T, prepare func(*store.Vault)) (recovered int) {
	d := storetest.NewDisk()
	var log [][]byte // every page ever written
	d.OnWrite = func(name string, _ int64, data []byte) {
		if strings.HasSuffix(name, "/pages") {
			log = append(log, data)
		}
	}
	v := createVault(t, d)
	prepare(v)
	r := rand.New(rand.NewPCG(5, 6))
	live, gone := map[string]bool{}, map[string]bool{}
	now := map[int]string{}
	for step := range 40 {
		for range 12 {
			n := r.IntN(150)
			if was, ok := now[n]; ok {
				delete(live, was)
				gone[was] = true
				delete(now, n)
			}
			if r.IntN(3) == 0 {
				must(t, v.Shred(vaultID(n)))
				continue
			}
			now[n] = fmt.Sprintf("step %d value %d", step, r.Uint64())
			live[now[n]] = true
			must(t, v.PutExpiring(vaultID(n), []byte(now[n]), uint64(n)*200))
		}
		must(t, v.Commit())
		if step%10 == 9 {
			v = reopenVault(t, d, v)
			prepare(v)
		}
		got := store.AttackVault(d.Content(vaultDir+"/anchor"), kek, log)
		for value := range live {
			if !got[value] {
				t.Fatalf("step %d: the attack does not find a value that is there", step)
			}
		}
		for value := range got {
			if gone[value] {
				recovered++
			}
		}
	}
	must(t, v.Close())
	return recovered
}

// After a commit that shreds, and after opening a vault in which a crash left
// two anchors, the disk holds one.
func TestVaultKeepsOneAnchor(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	must(t, v.Put(vaultID(1), []byte("x")))
	must(t, v.Commit())
	must(t, v.Shred(vaultID(1)))
	must(t, v.Commit())
	if n := store.Anchors(d.Durable(vaultDir+"/anchor"), kek); n != 1 {
		t.Fatalf("%d anchors after a commit that shreds, want 1", n)
	}
	must(t, v.Put(vaultID(2), []byte("y")))
	must(t, v.Commit())
	if n := store.Anchors(d.Durable(vaultDir+"/anchor"), kek); n != 2 {
		t.Fatalf("%d anchors after a commit that only adds, want 2", n)
	}
	v = reopenVault(t, d, v)
	if n := store.Anchors(d.Durable(vaultDir+"/anchor"), kek); n != 1 {
		t.Fatalf("%d anchors after opening, want 1", n)
	}
	must(t, v.Close())
}

func TestVaultFailedSyncEndsIt(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	must(t, v.Put(vaultID(1), []byte("x")))
	must(t, v.Commit())
	broken := errors.New("the disk is dying")
	d.OnOp = func(op, name string) error {
		if op == "sync" && strings.HasSuffix(name, "/anchor.new") {
			return broken
		}
		return nil
	}
	must(t, v.Put(vaultID(2), []byte("y")))
	wantErr(t, v.Commit(), store.ErrBroken)
	d.OnOp = nil
	wantErr(t, v.Commit(), store.ErrBroken)
	v = reopenVault(t, d, v)
	if v.Len() != 1 && v.Len() != 2 {
		t.Fatalf("%d secrets", v.Len())
	}
	must(t, v.Close())
}

// A full disk is an error, loses nothing, and ends when there is space again.
func TestVaultFullDisk(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	must(t, v.Put(vaultID(1), []byte("x")))
	must(t, v.Commit())
	free, err := d.Free("/")
	must(t, err)
	d.Capacity = 1<<40 - free + 4096
	must(t, v.Put(vaultID(2), []byte("y")))
	must(t, v.PutExpiring(vaultID(3), []byte("z"), 7200))
	wantErr(t, v.Commit(), store.ErrFull)
	d.Capacity = 0
	must(t, v.Commit())
	v = reopenVault(t, d, v)
	checkVault(t, v, map[int][]byte{1: []byte("x"), 2: []byte("y"), 3: []byte("z")})
	must(t, v.Close())
}

func TestDestroyVault(t *testing.T) {
	d := storetest.NewDisk()
	v := createVault(t, d)
	must(t, v.Put(vaultID(1), []byte("x")))
	must(t, v.Commit())
	erased := 0
	d.OnWrite = func(name string, _ int64, data []byte) {
		if strings.HasSuffix(name, "/anchor") && bytes.Equal(data, make([]byte, len(data))) {
			erased++
		}
	}
	must(t, v.Close())
	must(t, store.DestroyVault(vaultDir, store.VaultOptions{FS: d}))
	must(t, store.DestroyVault(vaultDir, store.VaultOptions{FS: d}))
	_, err := store.VaultOptions{FS: d}.Open(vaultDir, kek)
	wantErr(t, err, store.ErrNotFound)
	if erased != 2 {
		t.Fatalf("%d slots of the anchor overwritten, want 2", erased)
	}
}
