package p2p

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"outrider/mesh/identity"
)

// A purse is the secrets of one node: words that grow.
type purse struct {
	mu    sync.Mutex
	words []byte
	mute  error // of Give
	grown chan struct{}
}

func newPurse(words string) *purse {
	return &purse{words: []byte(words), grown: make(chan struct{}, 100)}
}

func (p *purse) Held() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.words)
}

func (p *purse) Give(_ identity.NodeID, held []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []byte{'.'}
	for _, w := range p.words {
		if !bytes.Contains(held, []byte{w}) {
			out = append(out, w)
		}
	}
	return out, p.mute
}

func (p *purse) Take(_ identity.NodeID, given []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.words = append(p.words, given[1:]...)
	slices.Sort(p.words)
	p.grown <- struct{}{}
	return nil
}

func (p *purse) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(patience)
	for string(p.Held()) != want {
		select {
		case <-p.grown:
		case <-deadline:
			t.Fatalf("the purse holds %q, want %q", p.Held(), want)
		}
	}
}

// A new link makes the secrets of both ends equal, and so does Spread later;
// over QUIC as well.
func TestHandOver(t *testing.T) {
	for name, quic := range map[string]bool{"tcp": false, "quic": true} {
		t.Run(name, func(t *testing.T) {
			pa, pb := newPurse("abc"), newPurse("cd")
			with := func(p *purse) func(*Config) {
				return func(c *Config) { c.Secrets, c.Profile.QUIC = p, quic }
			}
			a, b, la, lb := linked(t, newLayer(t, 0, with(pa)), newLayer(t, 1, with(pb)))
			pa.await(t, "abcd")
			pb.await(t, "abcd")
			if err := pb.Take(identity.NodeID{}, []byte(".e")); err != nil {
				t.Fatal(err)
			}
			b.Spread()
			pa.await(t, "abcde")
			passes(t, la, lb)
			_ = a
		})
	}
}

// A peer that does not know the protocol, and one whose secrets fail, keep
// their link.
func TestHandOverFails(t *testing.T) {
	broken := newPurse("ab")
	broken.mute = errors.New("no")
	for name, other := range map[string]func(*Config){
		"unknown there": func(*Config) {},
		"broken there":  func(c *Config) { c.Secrets = broken },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPurse("c")
			_, _, la, lb := linked(t, newLayer(t, 0, func(c *Config) { c.Secrets = p }), newLayer(t, 1, other))
			passes(t, la, lb)
			passes(t, lb, la)
			if got := string(p.Held()); got != "c" {
				t.Errorf("the purse holds %q", got)
			}
		})
	}
}

// A revoked peer with an open connection asks: it gets nothing, and loses the
// connection. A stranger is not served at all.
func TestHandOverOnlyToTheAdmitted(t *testing.T) {
	p, thief, doors := newPurse("-"), newPurse("-"), newClub("ours")
	_, b, _, lb := linked(t, newLayer(t, 0, func(c *Config) { c.Secrets, c.Admission = p, doors }), newLayer(t, 1, func(c *Config) { c.Secrets = thief }))
	<-thief.grown        // what a new link brings is over
	doors.revoke(b.self) // and nobody has called Recheck yet
	if err := p.Take(identity.NodeID{}, []byte(".secret")); err != nil {
		t.Fatal(err)
	}
	b.Spread()
	wantEnd(t, lb)
	if got := string(thief.Held()); got != "-" {
		t.Errorf("the thief holds %q", got)
	}

	victim := start(t, newLayer(t, 2, func(c *Config) { c.Secrets = p }))
	s, err := stranger(t, victim, 3, nil).Open(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := propose(s, protoSecret, block([]byte("-"))); err != nil {
		t.Fatal(err)
	}
	if err := agreed(bufio.NewReader(s), protoSecret); err == nil {
		t.Error("a stranger was served")
	}
}

// Blocks beyond the limit end the stream, not the link.
func TestHandOverLimits(t *testing.T) {
	for name, size := range map[string]int{"one past the limit": maxSecret + 1, "4 GiB": 1 << 32} {
		t.Run(name, func(t *testing.T) {
			p := newPurse("a")
			a, b, la, lb := linked(t, newLayer(t, 0, nil), newLayer(t, 1, func(c *Config) { c.Secrets = p }))
			a.mu.Lock()
			c := a.peers[b.self].live.conn
			a.mu.Unlock()
			s, err := c.Open(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := propose(s, protoSecret, binary.AppendUvarint(nil, uint64(size))); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(s)
			if agreed(r, protoSecret) == nil {
				if _, err := readBlock(r, maxSecret); err == nil {
					t.Error("an answer came")
				}
			}
			passes(t, la, lb)
		})
	}
}
