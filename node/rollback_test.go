package node

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/mesh/envelope"
	"outrider/mesh/identity"
	"outrider/store"
)

// recordMap is what a keyring keeps outside of its vault.
type recordMap map[string][]byte

func (m recordMap) PutRecord(key string, value []byte) error {
	if value == nil {
		delete(m, key)
	} else {
		m[key] = bytes.Clone(value)
	}
	return nil
}

func (m recordMap) Records(prefix string) iter.Seq2[string, []byte] {
	all := maps.Clone(m)
	return func(yield func(string, []byte) bool) {
		for k, v := range all {
			if strings.HasPrefix(k, prefix) && !yield(k, v) {
				return
			}
		}
	}
}

// A chatter is a device with a keyring over a real vault.
type chatter struct {
	t       *testing.T
	dir     string
	key     identity.PrivateKey
	user    identity.UserID
	known   map[identity.DeviceID]envelope.Device
	records recordMap
	vault   *store.Vault
	ring    *envelope.Keyring
}

func (c *chatter) open() {
	c.t.Helper()
	v, err := store.OpenVault(c.dir, [32]byte{1})
	if err != nil {
		c.t.Fatal(err)
	}
	c.vault = v
	c.ring, err = envelope.NewKeyring(vault{v}, c.records, envelope.Self{
		Network: identity.NetworkID{1}, TagKeys: [][32]byte{{2}}, User: c.user, Device: c.key.Public().DeviceID(), Key: c.key,
		NotAfter: time.Now().Add(time.Hour * 1000),
		Lookup: envelope.LookupFunc(func(d identity.DeviceID) (envelope.Device, bool) {
			x, ok := c.known[d]
			return x, ok
		}),
	}, time.Now)
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *chatter) close() {
	c.t.Helper()
	if err := c.vault.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func newChatter(t *testing.T, n byte, known map[identity.DeviceID]envelope.Device) *chatter {
	c := &chatter{
		t: t, dir: filepath.Join(t.TempDir(), fmt.Sprint("vault", n)), key: identity.PrivateKeyFromSeed([32]byte{n}),
		user: identity.UserID{n}, known: known, records: recordMap{},
	}
	known[c.key.Public().DeviceID()] = envelope.Device{User: c.user, Key: c.key.Public()}
	c.open()
	return c
}

func (c *chatter) prekey() *envelope.Prekey {
	c.t.Helper()
	raws, err := c.ring.Prekeys()
	if err != nil || len(raws) == 0 {
		c.t.Fatalf("%d prekeys: %v", len(raws), err)
	}
	k, err := identity.ParsePrekey(raws[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return envelope.ChoosePrekey([]envelope.Prekey{k}, time.Now(), envelope.DefaultMaxDelay, true)
}

// TestVaultPutBackFromACopy puts yesterday's files of a vault into its place,
// as a restored backup does. No message key is used twice, and every
// conversation starts anew.
func TestVaultPutBackFromACopy(t *testing.T) {
	known := map[identity.DeviceID]envelope.Device{}
	alice, bob := newChatter(t, 1, known), newChatter(t, 2, known)
	defer bob.close()
	bundleHeader := func(tag identity.Tag, _ envelope.PurgeKey) ([]byte, error) {
		return append([]byte("header"), tag[:]...), nil
	}
	to := envelope.Recipient{User: bob.user, Device: bob.key.Public().DeviceID(), DeviceKey: bob.key.Public(), Prekey: bob.prekey()}
	epoch, _, err := alice.ring.StartEpoch([]envelope.Recipient{to}, envelope.EpochOptions{Header: bundleHeader})
	if err != nil {
		t.Fatal(err)
	}
	used := map[uint32]bool{}
	draft := func(n int) {
		t.Helper()
		for range n {
			d, err := alice.ring.Draft(epoch)
			if err != nil {
				t.Fatal(err)
			}
			if used[d.Index()] {
				t.Fatalf("index %d is used twice", d.Index())
			}
			used[d.Index()] = true
		}
	}
	draft(5)
	alice.close()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(alice.dir)); err != nil {
		t.Fatal(err)
	}
	alice.open()
	if alice.ring.RolledBack() {
		t.Fatal("opening a vault passes for a rollback")
	}
	draft(200)
	alice.close()
	if err := os.RemoveAll(alice.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(alice.dir, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	alice.open()
	defer alice.close()
	if !alice.ring.RolledBack() {
		t.Error("the keyring does not know that its vault went back")
	}
	if info, ok := alice.ring.Info(epoch); !ok || !info.Due {
		t.Error("the epoch is not to be replaced")
	}
	draft(100)
}
