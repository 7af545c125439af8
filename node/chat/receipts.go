package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// owing is what receipts are owed in an epoch, as bits.
type owing byte

const (
	oweReceipt owing = 1 << iota // opened and durable, where there are several readers
	oweRead                      // shown
	oweFiles                     // files are complete, where there are several readers
)

// The types of receipts and the letters their records are kept under.
var receiptKinds = []struct {
	owed owing
	kind envelope.Type
	name string
}{
	{oweReceipt, envelope.TypeReceipt, "d/"},
	{oweRead, envelope.TypeRead, "r/"},
	{oweFiles, typeComplete, "f/"},
}

// receiptLife is how long receipts live. Newer ones say all that older ones do.
const receiptLife = 7 * 24 * time.Hour

func (s *Session) loadOwed() error {
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindReceipt)) {
		if err != nil {
			return fmt.Errorf("read owed receipts: %w", err)
		}
		id := p.Key[len(s.user)+1:]
		if len(id) != 8 || len(p.Value) != 1 {
			return errShape
		}
		s.owed[envelope.EpochID([]byte(id))] = owing(p.Value[0])
	}
	return nil
}

// owe adds to a tx that receipts are owed in an epoch. They are gathered for a
// moment, then sent.
func (s *Session) owe(t *tx, e envelope.EpochID, what owing) {
	all := s.owed[e] | what
	t.add(PutKV{Bucket: bucketChat, Key: s.key(kindReceipt, e[:]), Value: []byte{byte(all)}})
	t.then(func() {
		if len(s.owed) == 0 {
			s.owedAt = s.svc.cfg.Clock.Elapsed() + s.svc.cfg.ReceiptDelay
		}
		s.owed[e] |= what
	})
}

// sendReceipts sends what is owed in every epoch.
func (s *Session) sendReceipts(ctx context.Context) {
	for e, what := range s.owed {
		if s.closed {
			return
		}
		if err := s.sendReceiptsIn(ctx, e, what); err != nil {
			s.owedAt = s.svc.cfg.Clock.Elapsed() + time.Minute
			if !quiet(err) {
				s.log.Warn("chat: send receipts", "err", err)
			}
		}
	}
}

func (s *Session) sendReceiptsIn(ctx context.Context, e envelope.EpochID, what owing) error {
	info, ok := s.ring.Info(e)
	if ok {
		for _, k := range receiptKinds {
			if what&k.owed == 0 {
				continue
			}
			if err := s.sendReceipt(ctx, info, k.kind, k.name); err != nil {
				return err
			}
		}
	}
	if err := s.svc.cfg.Store.Commit(ctx, DeleteKV{Bucket: bucketChat, Key: s.key(kindReceipt, e[:])}); err != nil {
		return err
	}
	delete(s.owed, e)
	return nil
}

// sendReceipt sends one cumulative receipt and withdraws the one before.
func (s *Session) sendReceipt(ctx context.Context, info envelope.EpochInfo, kind envelope.Type, name string) error {
	var chains []envelope.ChainRanges
	switch kind {
	case envelope.TypeReceipt:
		chains = s.withoutHeld(info.ID, s.ring.Received(info.ID))
	case envelope.TypeRead:
		chains = s.noted(recShown, info.ID)
	default:
		chains = s.noted(recFiles, info.ID)
	}
	if chains = trim(chains); len(chains) == 0 {
		return nil
	}
	body, err := envelope.Receipt{Chains: chains}.Encode()
	if err != nil {
		return fmt.Errorf("chat: receipt: %w", err)
	}
	b, err := s.sendControl(ctx, info.ID, kind, body, bundle.Priority, receiptLife)
	if errors.Is(err, envelope.ErrUnknownEpoch) || errors.Is(err, envelope.ErrReceiveOnly) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.supersedeReceipt(ctx, recNewest+info.ID.String()+"/"+name, b)
}

// trim keeps a receipt within its limits. The oldest ranges go first: they
// have been told before.
func trim(chains []envelope.ChainRanges) []envelope.ChainRanges {
	chains = chains[max(0, len(chains)-envelope.MaxChains):]
	for i, c := range chains {
		chains[i].Ranges = c.Ranges[max(0, len(c.Ranges)-envelope.MaxRanges):]
	}
	return chains
}

// supersedeReceipt purges our previous receipt of a kind, where its readers
// cannot do that themselves.
func (s *Session) supersedeReceipt(ctx context.Context, name string, b sealedBundle) error {
	if b.sole {
		return nil
	}
	var old sealedRecord
	if s.readRecord(name, &old) {
		if rec, err := s.purgeRecord(old); err == nil {
			if err := s.svc.cfg.Agent.Purge(ctx, rec); err != nil && !errors.Is(err, ErrNotFound) {
				s.log.Debug("chat: withdraw an old receipt", "err", err) // its lifetime ends it
			}
		}
	}
	t := s.begin()
	s.record(t, name, b.rec)
	return s.commitRows(ctx, t)
}

// sendControl seals and submits a message that users do not see. It is not
// kept: whoever calls keeps what makes it be sent again.
func (s *Session) sendControl(ctx context.Context, e envelope.EpochID, kind envelope.Type, body []byte, p bundle.Precedence, life time.Duration) (sealedBundle, error) {
	life = min(life, s.svc.cfg.MaxTTL)
	s.lastSent = max(s.lastSent+1, s.nowMS())
	b, err := s.seal(e, p, life, envelope.Inner{Type: kind, Sent: uint64(s.lastSent), TTL: life.Truncate(time.Second), Body: body}, false)
	if err != nil {
		return b, err
	}
	if err := s.svc.cfg.Agent.Submit(ctx, b.bundle); err != nil {
		return b, fmt.Errorf("chat: hand over: %w", err)
	}
	return b, nil
}

// noteIndex adds a received message to the ranges kept under a name, to be
// told to its author.
func (s *Session) noteIndex(t *tx, name string, r *record) {
	e := r.Sealed.Epoch
	chains := s.noted(name, e)
	i := slices.IndexFunc(chains, func(c envelope.ChainRanges) bool { return c.Slot == r.Sealed.Slot })
	if i < 0 {
		chains = append(chains, envelope.ChainRanges{Epoch: e, Slot: r.Sealed.Slot})
		i = len(chains) - 1
	}
	chains[i].Ranges = addIndex(chains[i].Ranges, r.Sealed.Index)
	body, err := envelope.Receipt{Chains: trim(chains)}.Encode()
	if err != nil {
		t.err = errors.Join(t.err, err)
		return
	}
	s.record(t, name+e.String(), body)
}

func (s *Session) noted(name string, e envelope.EpochID) []envelope.ChainRanges {
	var body []byte
	if !s.readRecord(name+e.String(), &body) {
		return nil
	}
	r, err := envelope.ParseReceipt(body)
	if err != nil {
		return nil
	}
	return r.Chains
}

// addIndex adds one index to ascending ranges.
func addIndex(rs []envelope.Range, n uint32) []envelope.Range {
	i, _ := slices.BinarySearchFunc(rs, n, func(r envelope.Range, n uint32) int {
		switch {
		case r.To < n:
			return -1
		case r.From > n:
			return 1
		}
		return 0
	})
	if i < len(rs) && rs[i].From <= n {
		return rs
	}
	rs = slices.Insert(slices.Clone(rs), i, envelope.Range{From: n, To: n})
	if i+1 < len(rs) && rs[i+1].From == n+1 {
		rs[i].To = rs[i+1].To
		rs = slices.Delete(rs, i+1, i+2)
	}
	if i > 0 && rs[i-1].To+1 == n {
		rs[i-1].To = rs[i].To
		rs = slices.Delete(rs, i, i+1)
	}
	return rs
}

// maxNews bounds the work that one receipt can cause.
const maxNews = 4096

// takeReceipt acts on a receipt of another device: for messages of ours, on
// their state; for what another device of our own user has read, on ours.
func (s *Session) takeReceipt(o *opening, m *envelope.Opened) error {
	rec, err := envelope.ParseReceipt(m.Inner.Body)
	if err != nil {
		return err
	}
	o.deferred = append(o.deferred, func() error { return s.takeChains(o, m, rec) })
	return nil
}

func (s *Session) takeChains(o *opening, m *envelope.Opened, rec envelope.Receipt) error {
	for _, c := range rec.Chains {
		info, ok := s.ring.Info(c.Epoch)
		if !ok || int(c.Slot) >= len(info.Members) || !isMember(info, m.Device) {
			continue
		}
		if author := info.Members[c.Slot]; author.User != s.user && m.User != s.user {
			continue
		}
		if err := s.takeRanges(o, m, c); err != nil {
			return err
		}
	}
	return nil
}

func isMember(info envelope.EpochInfo, d identity.DeviceID) bool {
	return slices.ContainsFunc(info.Members, func(m envelope.Member) bool { return m.Device == d })
}

func (s *Session) takeRanges(o *opening, m *envelope.Opened, c envelope.ChainRanges) error {
	name := fmt.Sprintf("%s%v/%d/%d/%v", recAcked, c.Epoch, m.Inner.Type, c.Slot, m.Device)
	var body []byte
	var seen []envelope.Range
	if s.readRecord(name, &body) {
		if r, err := envelope.ParseReceipt(body); err == nil && len(r.Chains) == 1 {
			seen = r.Chains[0].Ranges
		}
	}
	acted := slices.Clone(seen)
	for n := range news(c.Ranges, seen) {
		key := s.placeKey(c.Epoch, c.Slot, n)
		if err := s.takeReceived(o, m, key); err != nil {
			return err
		}
		acted = addIndex(acted, n)
	}
	if len(acted) > envelope.MaxRanges {
		acted = acted[len(acted)-envelope.MaxRanges:]
	}
	body, err := envelope.Receipt{Chains: []envelope.ChainRanges{{Epoch: c.Epoch, Slot: c.Slot, Ranges: acted}}}.Encode()
	if err != nil {
		return err
	}
	s.record(o.t, name, body)
	return nil
}

// news yields the indexes in told that are not in seen, at most maxNews.
func news(told, seen []envelope.Range) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		left := maxNews
		for _, r := range told {
			for n := uint64(r.From); n <= uint64(r.To); n++ {
				if i := slices.IndexFunc(seen, func(s envelope.Range) bool { return uint64(s.From) <= n && n <= uint64(s.To) }); i >= 0 {
					n = uint64(seen[i].To)
					continue
				}
				if left--; left < 0 || !yield(uint32(n)) {
					return
				}
			}
		}
	}
}

// takeReceived acts on a receipt for one message.
func (s *Session) takeReceived(o *opening, m *envelope.Opened, key string) error {
	r, err := o.at(s, key)
	if err != nil || r == nil {
		return err // a receipt for a receipt, or for what has expired
	}
	if !r.Out {
		if m.User == s.user && m.Inner.Type == envelope.TypeRead {
			s.readElsewhere(o, r)
		}
		return nil
	}
	if r.State == StateRecalled {
		return nil
	}
	d := r.reader(m)
	d.Got = true
	switch m.Inner.Type {
	case envelope.TypeRead:
		d.Read = true
	case typeComplete:
		d.File = true
	}
	s.delivered(o.t, r)
	o.after = append(o.after, func(ctx context.Context) { s.afterReceipt(ctx, r) })
	return nil
}

// reader finds the entry of a receipt's device.
func (r *record) reader(m *envelope.Opened) *deviceRecord {
	i := slices.IndexFunc(r.Devices, func(d deviceRecord) bool { return d.ID == m.Device })
	if i < 0 {
		r.Devices = append(r.Devices, deviceRecord{ID: m.Device, Own: m.User != r.Peer})
		i = len(r.Devices) - 1
	}
	return &r.Devices[i]
}

// at finds the message at a place, as this batch leaves it; nil if there is
// none.
func (o *opening) at(s *Session, key string) (*record, error) {
	if r := o.t.places[key]; r != nil {
		return r, nil
	}
	b, err := s.svc.cfg.Store.Get(bucketChat, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) != len(MessageID{}) {
		return nil, errShape
	}
	id := MessageID(b)
	if r := o.t.rows[id]; r != nil {
		return r, nil
	}
	r, err := s.get(id)
	if errors.Is(err, ErrNotFound) || errors.Is(err, errUnreadable) {
		return nil, nil
	}
	return r, err
}

// afterReceipt releases what all readers have.
func (s *Session) afterReceipt(ctx context.Context, r *record) {
	if !r.Synced && !r.Sole && r.Sealed != nil && r.settled() {
		for _, b := range []*sealedRecord{r.Sealed, r.blob()} {
			if b != nil {
				s.purgeOwn(ctx, *b)
			}
		}
	}
	s.changed(r)
}

// purgeOwn removes one of our bundles from the mesh.
func (s *Session) purgeOwn(ctx context.Context, b sealedRecord) {
	rec, err := s.purgeRecord(b)
	if err == nil {
		err = s.svc.cfg.Agent.Purge(ctx, rec)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.log.Warn("chat: purge", "bundle", b.ID, "err", err) // its lifetime ends it
	}
}

// settled tells whether all readers have all of the message.
func (r *record) settled() bool {
	if r.Sole {
		return len(r.Devices) > 0 && r.Devices[0].Got && (r.File == nil || r.File.Arrived)
	}
	return len(r.Devices) > 0 && !slices.ContainsFunc(r.Devices, func(d deviceRecord) bool {
		return !d.Got || r.File != nil && !d.File
	})
}

// delivered writes what is known of a message's readers. A message that all of
// them have is no longer looked after.
func (s *Session) delivered(t *tx, r *record) {
	s.change(t, r)
	if r.settled() && !r.Synced {
		t.add(s.openDrops(r)...)
		t.then(func() { delete(s.outgoing, r.Msg) })
	}
}
