package node

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/offline/deeplink"
)

// childEnv makes this program one that changes a node's state until it is
// killed: see home_test.go.
const childEnv = "OUTRIDER_NODE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := blockForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if keyCost != kdf.Default() {
		fmt.Fprintln(os.Stderr, "passwords are not sealed at the default cost")
		os.Exit(1)
	}
	keyCost = kdf.Floor()
	code := m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// blockForEver blocks one made-up node after the other and says of each that
// it is durable, by a line on standard output. After blockLimit it ends.
func blockForEver(dir string) error {
	h, err := OpenHome(dir)
	if err != nil {
		return err
	}
	defer h.Close()
	out := bufio.NewWriterSize(os.Stdout, 64)
	for i := len(h.blockedNodes()); i < blockLimit(); i++ {
		if err := h.SetBlocked(madeUpNode(i), true); err != nil {
			return err
		}
		fmt.Fprintln(out, i+1)
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// blockLimit is how many nodes the child blocks at most: the environment's
// word, or as many as can be blocked.
func blockLimit() int {
	n := maxBlocked
	_, _ = fmt.Sscan(os.Getenv(childEnv+"_LIMIT"), &n)
	return n
}

func madeUpNode(i int) (id identity.NodeID) {
	id[0] = 0xee
	binary.BigEndian.PutUint32(id[28:], uint32(i))
	return id
}

// Passwords of these tests. They are long enough to be searched for.
const (
	adminPassword = "admin-password-of-this-test"
	alicePassword = "password-of-alice-in-this-test"
	bobPassword   = "password-of-bob-in-this-test"

	networkName = "eagle"
	aliceName   = "Alice Liddell-Hargreaves"
	bobName     = "Bob Cratchit-Fezziwig"
)

func newHome(t *testing.T) *Home {
	t.Helper()
	h, err := Init(filepath.Join(t.TempDir(), "node"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// template is the folder of a node that founded a network, hosts alice, and
// has issued a link for bob. It is made once: every password costs a
// derivation.
var template struct {
	once  sync.Once
	dir   string
	alice identity.UserID
	bob   UserLink
	err   error
}

func makeTemplate() {
	dir, err := os.MkdirTemp("", "outrider-node-test-")
	if err != nil {
		template.err = err
		return
	}
	template.dir = dir
	h, err := Init(filepath.Join(dir, "admin"))
	if err != nil {
		template.err = err
		return
	}
	defer h.Close()
	ctx := context.Background()
	if _, err = h.CreateNetwork(ctx, networkName, identity.PresetLean, []byte(adminPassword)); err == nil {
		template.alice, err = h.HostUser(ctx, UserRequest{Name: aliceName, AdminPassword: []byte(adminPassword)}, []byte(alicePassword))
	}
	if err == nil {
		template.bob, err = h.InviteUser(ctx, UserRequest{Name: bobName, AdminPassword: []byte(adminPassword), Addrs: []string{"127.0.0.1:9"}})
	}
	template.err = err
}

// founded returns a node that founded a network and hosts alice, in a folder
// of its own, and the link it has issued for bob.
func founded(t *testing.T) (h *Home, alice identity.UserID, bob UserLink) {
	t.Helper()
	template.once.Do(makeTemplate)
	if template.err != nil {
		t.Fatal(template.err)
	}
	dir := filepath.Join(t.TempDir(), "admin")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(template.dir, "admin"))); err != nil {
		t.Fatal(err)
	}
	return reopen(t, dir), template.alice, template.bob
}

func reopen(t *testing.T, dir string) *Home {
	t.Helper()
	h, err := OpenHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func joinRequest(l UserLink) JoinRequest {
	return JoinRequest{Link: deeplink.Link(l.Frame), LinkPassword: []byte(l.Password), Password: []byte(bobPassword)}
}

// A fixedClock is always right.
type fixedClock time.Time

func (c fixedClock) Now() time.Time { return time.Time(c) }
func (c fixedClock) Trusted() bool  { return true }

func today() identity.Clock { return fixedClock(time.Now()) }

// wantError fails unless err is not nil, wraps want if that is not nil, and
// says all the given words.
func wantError(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("error %q is not %q", err, want)
	}
	for _, w := range words {
		if !contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
