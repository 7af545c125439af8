package envelope

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/identity"
)

// A Prekey is the public key with which others start epochs with a device.
type Prekey = identity.PrekeyBundle

// prekeys are the numbers of a device's own prekeys. The secrets are in the
// vault: a number whose secret is gone opens nothing.
type prekeys struct {
	next      uint32 // number of the next prekey, 1 at first
	nextReply uint32 // number of the next reply key, without replyBit
	list      []ownPrekey
	replies   []ownPrekey // handed out and not used
}

type ownPrekey struct {
	number    uint32
	notBefore time.Time // of a reply key: when it was made
	until     int64     // end of its secret, by the keyring's own age
}

func (p ownPrekey) notAfter() time.Time { return p.notBefore.Add(PrekeyLife) }

// Record of the prekeys: number, begin in seconds since 1970, end by age.
const prekeysRecord = "prekeys"

type wirePrekeys struct {
	_         struct{} `cbor:",toarray"`
	Version   uint64
	Next      uint32
	NextReply uint32
	List      [][3]uint64
	Replies   [][3]uint64
}

func (k *Keyring) loadPrekeys() error {
	k.prekeys = prekeys{next: 1}
	for name, value := range k.rec.Records(prekeysRecord) {
		if name != prekeysRecord {
			continue
		}
		var w wirePrekeys
		if err := identity.Unmarshal(value, &w); err != nil || w.Version != 1 {
			return malformed("record of prekeys")
		}
		k.prekeys = prekeys{w.Next, w.NextReply, ownPrekeys(w.List), ownPrekeys(w.Replies)}
	}
	k.indexInbox()
	return k.loadReplies()
}

func ownPrekeys(list [][3]uint64) (out []ownPrekey) {
	for _, p := range list {
		out = append(out, ownPrekey{uint32(p[0]), time.Unix(int64(p[1]), 0), int64(p[2])})
	}
	return out
}

func (k *Keyring) putPrekeysRecord() error {
	w := wirePrekeys{Version: 1, Next: k.prekeys.next, NextReply: k.prekeys.nextReply, List: [][3]uint64{}, Replies: [][3]uint64{}}
	for _, p := range k.prekeys.list {
		w.List = append(w.List, [3]uint64{uint64(p.number), uint64(max(0, p.notBefore.Unix())), uint64(p.until)})
	}
	for _, p := range k.prekeys.replies {
		w.Replies = append(w.Replies, [3]uint64{uint64(p.number), uint64(max(0, p.notBefore.Unix())), uint64(p.until)})
	}
	value, err := identity.Marshal(w)
	if err != nil {
		return err
	}
	if err := k.rec.PutRecord(prekeysRecord, value); err != nil {
		return fmt.Errorf("envelope: store record of prekeys: %w", err)
	}
	return nil
}

// indexInbox computes the inbox tags: of the last resort, of the newest
// WatchedPrekeys numbers whether their secrets are still there or not, and of
// the reply keys.
func (k *Keyring) indexInbox() {
	numbers := []uint32{0}
	for n := k.prekeys.next; n > 1 && len(numbers) <= WatchedPrekeys; n-- {
		numbers = append(numbers, n-1)
	}
	for _, p := range k.prekeys.replies {
		numbers = append(numbers, p.number)
	}
	k.inbox = make(map[identity.Tag]uint32, len(numbers)*len(k.self.TagKeys))
	for _, tagKey := range k.self.TagKeys {
		for _, n := range numbers {
			k.inbox[identity.InboxTag(tagKey, k.self.Device, n)] = n
		}
	}
}

// Prekeys returns the signed prekey bundles to publish: the last resort, the
// current one, and the one after, so that late news do no harm. It makes new
// ones when they are due; call it at start and once an hour.
func (k *Keyring) Prekeys() (current [][]byte, err error) {
	k.lock()
	defer k.mu.Unlock()
	now := k.now().Truncate(time.Minute)
	if err := k.makePrekeys(now); err != nil {
		return nil, err
	}
	last, err := k.lastResort(now)
	if err != nil {
		return nil, err
	}
	current = [][]byte{last}
	for _, p := range k.prekeys.list {
		if !p.notAfter().After(now) {
			continue
		}
		raw, err := k.publish(p.number, p.notBefore, p.notAfter())
		switch {
		case errors.Is(err, ErrNoSecret):
			continue // destroyed early, or never committed
		case err != nil:
			return nil, err
		}
		current = append(current, raw)
	}
	return current, nil
}

// makePrekeys sees to it that one prekey is good now and one after it.
func (k *Keyring) makePrekeys(now time.Time) error {
	var begins []time.Time
	switch newest, ok := k.newestPrekey(); {
	case !ok || !newest.notAfter().After(now) || newest.notBefore.After(now.Add(PrekeyLife)):
		begins = []time.Time{now, now.Add(PrekeyLife)} // first start, long away, or the clock was far ahead
	case !newest.notBefore.After(now):
		begins = []time.Time{newest.notAfter()}
	default:
		return nil
	}
	var made []ownPrekey
	for i, begin := range begins {
		p := ownPrekey{k.prekeys.next + uint32(i), begin, k.age.after(begin.Add(PrekeyLife + k.self.MaxDelay).Sub(now))}
		if err := k.makeSeed(p.number); err != nil {
			return err
		}
		made = append(made, p)
	}
	// The secrets first: a number without a secret must not get out. Numbers
	// that were not recorded are made again.
	if err := k.box.commit(); err != nil {
		return err
	}
	before := k.prekeys
	k.prekeys.list = append(slices.Clone(k.prekeys.list), made...)
	k.prekeys.next += uint32(len(made))
	if err := k.putPrekeysRecord(); err != nil {
		k.prekeys = before
		return err
	}
	k.indexInbox()
	return nil
}

func (k *Keyring) newestPrekey() (ownPrekey, bool) {
	if len(k.prekeys.list) == 0 {
		return ownPrekey{}, false
	}
	return k.prekeys.list[len(k.prekeys.list)-1], true
}

func (k *Keyring) makeSeed(number uint32) error {
	var seed key
	rand.Read(seed[:])
	defer clear(seed[:])
	return k.box.put(k.box.prekeyID(number), seed[:])
}

// lastResort returns the prekey with number 0. It lives as long as the device
// certificate, which is why it gives no forward secrecy.
func (k *Keyring) lastResort(now time.Time) ([]byte, error) {
	end := k.self.NotAfter
	if !end.After(now) {
		end = now.Add(PrekeyLife) // the certificate is in doubt; the roster judges that
	}
	raw, err := k.publish(0, end.Add(-lastResortSpan), end)
	if !errors.Is(err, ErrNoSecret) {
		return raw, err
	}
	if err := errors.Join(k.makeSeed(0), k.box.commit()); err != nil {
		return nil, err
	}
	return k.publish(0, end.Add(-lastResortSpan), end)
}

// lastResortSpan dates a last-resort bundle back from its end, so that its
// bytes do not change from call to call.
const lastResortSpan = 10 * 365 * 24 * time.Hour

func (k *Keyring) publish(number uint32, notBefore, notAfter time.Time) ([]byte, error) {
	seed, err := k.box.getKey(k.box.prekeyID(number))
	if err != nil {
		return nil, err
	}
	defer clear(seed[:])
	public, err := kemPublic(seed)
	if err != nil {
		return nil, err
	}
	bundle, err := Prekey{Number: number, NotBefore: notBefore, NotAfter: notAfter, KEM: KEMID, Public: public}.Sign(k.self.Network, k.self.Key)
	if err != nil {
		return nil, fmt.Errorf("envelope: publish prekey: %w", err)
	}
	return bundle.Raw(), nil
}

// ChoosePrekey picks the prekey to start an epoch with from what is known of
// a device: the newest that is good now; else the one to come or the newest
// one past, as long as its owner keeps the secret; else the last resort if the
// network's policy permits it. nil means: wait for keys.
func ChoosePrekey(known []Prekey, now time.Time, maxDelay time.Duration, allowLastResort bool) *Prekey {
	var best, last *Prekey
	for i, p := range known {
		switch {
		case p.Number == 0:
			last = &known[i]
		case !p.NotAfter.Add(maxDelay).After(now):
		case best == nil || preferPrekey(p, *best, now):
			best = &known[i]
		}
	}
	if best == nil && allowLastResort {
		return last
	}
	return best
}

// preferPrekey: good now before not good now, then the higher number.
func preferPrekey(a, b Prekey, now time.Time) bool {
	good := func(p Prekey) bool { return !p.NotBefore.After(now) && p.NotAfter.After(now) }
	if good(a) != good(b) {
		return good(a)
	}
	return a.Number > b.Number
}

// sweepPrekeys destroys the secrets of prekeys that no wrap in transit can
// need any more (crypto.md 4.2), and of numbers whose tags are not watched.
func (k *Keyring) sweepPrekeys() error {
	list, err1 := k.sweepList(k.prekeys.list, WatchedPrekeys)
	replies, err2 := k.sweepList(k.prekeys.replies, maxReplies)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if len(list) == len(k.prekeys.list) && len(replies) == len(k.prekeys.replies) {
		return nil
	}
	k.prekeys.list, k.prekeys.replies = list, replies
	k.indexInbox()
	return k.putPrekeysRecord()
}

func (k *Keyring) sweepList(list []ownPrekey, limit int) (kept []ownPrekey, err error) {
	for i, p := range list {
		if p.until > k.age.now && len(list)-i <= limit {
			kept = append(kept, p)
		} else if err := k.box.shred(k.box.prekeyID(p.number)); err != nil {
			return nil, err
		}
	}
	return kept, nil
}
