package api

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

// A Hub keeps the newest events of every unlocked user, and of the node, in
// bounded rings, so that a stream that was cut resumes where it was. Give
// Hub.Update to chat and Hub.Link to whoever watches links. Publishing never
// blocks: a stream that is too slow loses its place and is told so.
type Hub struct {
	epoch string // distinguishes the ids of this run from those of earlier ones

	mu    sync.Mutex
	node  *ring
	users map[identity.UserID]*ring
}

// NewHub returns an empty hub.
func NewHub() *Hub {
	var b [4]byte
	rand.Read(b[:])
	return &Hub{epoch: hex.EncodeToString(b[:]), node: newRing(), users: make(map[identity.UserID]*ring)}
}

// Update publishes what changed for a user. Banner updates go to everybody.
// It is what chat.Config.Notify takes.
func (h *Hub) Update(user identity.UserID, u chat.Update) {
	switch u.Kind {
	case chat.UpdateBanner:
		if u.Banner != nil {
			h.all("banner", bannerView(*u.Banner))
		}
	case chat.UpdateContact:
		h.one(user, "contact", struct{}{})
	case chat.UpdateArchive:
		h.one(user, "archive", struct{}{})
	case chat.UpdatePolicy:
		h.one(user, "policy", struct{}{})
	default:
		if u.Message != nil {
			h.one(user, string(u.Kind), messageView(*u.Message))
		}
	}
}

// Link publishes a change of a link.
func (h *Hub) Link(l Link) { h.all("link", linkView(l)) }

func (h *Hub) one(user identity.UserID, kind string, data any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.users[user]; r != nil {
		r.add(kind, encode(data))
	}
}

func (h *Hub) all(kind string, data any) {
	b := encode(data)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.node.add(kind, b)
	for _, r := range h.users {
		r.add(kind, b)
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("api: encode event: %v", err)) // our own types
	}
	return b
}

// open starts keeping events of a user.
func (h *Hub) open(user identity.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users[user] == nil {
		h.users[user] = newRing()
	}
}

// close forgets a user's events; streams of the user end.
func (h *Hub) close(user identity.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.users[user]; r != nil {
		r.end()
		delete(h.users, user)
	}
}

// ringOf returns the user's ring, or the node's for nil.
func (h *Hub) ringOf(user *identity.UserID) *ring {
	h.mu.Lock()
	defer h.mu.Unlock()
	if user == nil {
		return h.node
	}
	return h.users[*user]
}

func (h *Hub) idText(seq uint64) string { return h.epoch + "-" + strconv.FormatUint(seq, 10) }

// position reads a Last-Event-ID. ok is false for ids of another run and for
// anything that is not an id.
func (h *Hub) position(id string) (seq uint64, ok bool) {
	epoch, n, found := strings.Cut(id, "-")
	if !found || epoch != h.epoch {
		return 0, false
	}
	seq, err := strconv.ParseUint(n, 10, 64)
	return seq, err == nil
}

// An event is one entry of a ring.
type event struct {
	seq  uint64
	kind string
	data []byte
}

// A ring holds the newest events, bounded in number and bytes. Sequence
// numbers begin at 1 and have no gaps.
type ring struct {
	mu     sync.Mutex
	events []event
	bytes  int
	last   uint64
	more   chan struct{} // closed and replaced at each event
	ended  bool
}

func newRing() *ring { return &ring{more: make(chan struct{})} }

func (r *ring) add(kind string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.last++
	r.events = append(r.events, event{seq: r.last, kind: kind, data: data})
	r.bytes += len(data)
	drop := 0
	for len(r.events)-drop > ringEvents || r.bytes > ringBytes && len(r.events)-drop > 1 {
		r.bytes -= len(r.events[drop].data)
		r.events[drop] = event{}
		drop++
	}
	r.events = r.events[drop:]
	close(r.more)
	r.more = make(chan struct{})
}

func (r *ring) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.ended = true
		close(r.more)
	}
}

// after returns the events that follow seq. When some of them are gone, or seq
// lies in the future, reset is set and the reader continues behind last. The
// channel is closed when there is more.
func (r *ring) after(seq uint64) (evs []event, last uint64, reset bool, more <-chan struct{}, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.last + 1 - uint64(len(r.events))
	if seq > r.last || seq+1 < oldest {
		return nil, r.last, true, r.more, r.ended
	}
	evs = append(evs, r.events[seq+1-oldest:]...)
	return evs, r.last, false, r.more, r.ended
}
