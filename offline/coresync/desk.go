package coresync

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// What the desk chose for its streams.
const (
	boxAge      = 30 * 24 * time.Hour // the longest lifetime of a bundle
	deskQueue   = "desk"
	deskWork    = 32 // questions answered at once
	ackWait     = time.Minute
	metaCore    = "outrider-core"
	deskTimeout = 15 * time.Second // for the servers; less than askTimeout, so that who asks hears of it
	streamWait  = 30 * time.Second // for the servers to choose a leader, at the start
)

// DeskConfig is how the desk reaches its servers, and how much they keep.
type DeskConfig struct {
	Config
	Replicas   int
	BoxBytes   int64
	FilesBytes int64
}

// A Desk is the core's own service. It makes the streams, gives each node the
// mailboxes it names, and tells what is there of a file. It keeps no state:
// several may run, and each question is answered by one of them.
//
// It stands between the nodes and JetStream's own interface because that
// knows wildcards: a node that may set the filter of its consumer, or ask for
// a message by subject, can ask for everybody's.
type Desk struct {
	cfg   DeskConfig
	seed  Seed
	trust *trust
	log   *slog.Logger
	core  [16]byte
	js    jetstream.JetStream
	nodes keyed // a node's consumers change one after the other
}

// NewDesk makes a desk; Run starts it.
func NewDesk(c DeskConfig, log *slog.Logger) (*Desk, error) {
	d := &Desk{cfg: c, log: log}
	var err error
	if d.seed, err = ReadSeed(c.SeedFile); err != nil {
		return nil, err
	}
	d.trust, err = newTrust(c.Config, func(error) {})
	return d, err
}

// Run serves until ctx ends or the streams cannot be made. It calls ready,
// unless nil, when questions are answered.
func (d *Desk) Run(ctx context.Context, ready func()) error {
	nc, err := d.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := d.makeStreams(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	questions := make(chan *nats.Msg, 4096) // the library drops what is more; it is asked again
	sub, err := nc.ChanQueueSubscribe(deskSubject("*"), deskQueue, questions)
	if err != nil {
		return fmt.Errorf("coresync: desk: %v", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.FlushTimeout(askTimeout); err != nil {
		return fmt.Errorf("coresync: desk: %v", err)
	}
	if ready != nil {
		ready()
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for range deskWork {
		workers.Go(func() { d.work(ctx, questions) })
	}
	<-ctx.Done()
	return nil
}

func (d *Desk) connect() (*nats.Conn, error) {
	nc, err := nats.Connect(strings.Join(serverURLs(d.cfg.Servers), ","), nats.Nkey(d.seed.Node, d.seed.pair.Sign), nats.Secure(d.trust.tls),
		nats.CustomInboxPrefix(inboxPrefix(d.seed.Node)), nats.MaxReconnects(-1), nats.ReconnectWait(retryWait), nats.ReconnectJitter(retryJitter, retryJitter),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsOut), nats.IgnoreDiscoveredServers())
	if err != nil {
		return nil, translate(err)
	}
	if d.js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("coresync: desk: %v", err)
	}
	return nc, nil
}

// count tells how many messages lie on subjects.
func (d *Desk) count(ctx context.Context, subjects string) (n int, err error) {
	nc, err := d.connect()
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	stream := streamBox
	if strings.HasPrefix(subjects, "or.f.") {
		stream = streamFiles
	}
	st, err := d.js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("coresync: count: %v", err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(subjects))
	if err != nil {
		return 0, fmt.Errorf("coresync: count: %v", err)
	}
	for _, k := range info.State.Subjects {
		n += int(k)
	}
	return n, nil
}

func (d *Desk) work(ctx context.Context, questions <-chan *nats.Msg) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-questions:
			// The desk may write where nodes may not: what it answers goes
			// back to whoever asked, and nowhere else.
			node := strings.TrimPrefix(m.Subject, deskSubject(""))
			if !validNode(node) || !strings.HasPrefix(m.Reply, inboxPrefix(node)+".") {
				d.log.Warn("a question that asks for an answer to somebody else was dropped")
				continue
			}
			raw, err := identity.Marshal(d.reply(ctx, m))
			if err == nil {
				err = m.Respond(raw)
			}
			if err != nil {
				d.log.Warn("an answer of the desk could not be sent", "err", err)
			}
		}
	}
}

// makeStreams makes what is missing and learns which core this is.
func (d *Desk) makeStreams(ctx context.Context) error {
	var id [16]byte
	_, _ = rand.Read(id[:])
	box := jetstream.StreamConfig{
		Name: streamBox, Subjects: []string{"or.b.>"}, MaxAge: boxAge, MaxBytes: d.cfg.BoxBytes, MaxMsgSize: maxParcel,
		Metadata: map[string]string{metaCore: hex.EncodeToString(id[:])},
	}
	files := jetstream.StreamConfig{Name: streamFiles, Subjects: []string{"or.f.>"}, MaxAge: boxAge, MaxBytes: d.cfg.FilesBytes, MaxMsgSize: maxChunk}
	for _, c := range []jetstream.StreamConfig{box, files} {
		c.Storage, c.Replicas, c.Retention = jetstream.FileStorage, d.cfg.Replicas, jetstream.LimitsPolicy
		c.Discard, c.DiscardNewPerSubject, c.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
		c.Duplicates = time.Second // ids are subjects; the library's window of message ids is not used
		c.DenyDelete, c.DenyPurge, c.AllowDirect = true, true, true
		if err := d.makeStream(ctx, c); err != nil {
			return err
		}
	}
	st, err := d.js.Stream(ctx, streamBox)
	if err != nil {
		return fmt.Errorf("coresync: desk: stream BOX: %v", err)
	}
	raw, err := hex.DecodeString(st.CachedInfo().Config.Metadata[metaCore])
	if err != nil || len(raw) != len(d.core) {
		return errors.New("coresync: desk: the stream BOX was not made by a desk; remove it or use another account")
	}
	d.core = [16]byte(raw)
	return nil
}

// makeStream makes a stream unless it is there. The servers may still be
// choosing a leader.
func (d *Desk) makeStream(ctx context.Context, c jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	for {
		try, done := context.WithTimeout(ctx, 2*time.Second)
		_, err := d.js.Stream(try, c.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			_, err = d.js.CreateStream(try, c)
		}
		done()
		if err == nil {
			return nil
		}
		if !pause(ctx, context.Background(), 50*time.Millisecond) {
			return fmt.Errorf("coresync: desk: stream %s: %v", c.Name, err)
		}
	}
}

func (d *Desk) reply(ctx context.Context, m *nats.Msg) answer {
	node := strings.TrimPrefix(m.Subject, deskSubject(""))
	q, err := parseQuestion(m.Data)
	if err != nil {
		return answer{Verdict: deskBad}
	}
	ctx, cancel := context.WithTimeout(ctx, deskTimeout)
	defer cancel()
	a, err := d.answer(ctx, node, q)
	if err != nil {
		d.log.Warn("the desk could not answer", "question", q.Ask, "err", err)
		return answer{Verdict: deskFailed}
	}
	if a.Verdict == 0 {
		a.Verdict = deskOK
	}
	return a
}

func (d *Desk) answer(ctx context.Context, node string, q question) (answer, error) {
	switch q.Ask {
	case askHello:
		return answer{Core: d.core[:], Now: time.Now().UnixNano()}, nil
	case askBoxes:
		unlock := d.nodes.lock(node)
		defer unlock()
		since, err := d.setBoxes(ctx, node, q)
		return answer{Since: since.UnixNano()}, err
	case askList:
		return d.list(ctx, q)
	case askBox:
		return d.box(ctx, q.Name)
	case askCheck:
		return d.check(ctx, identity.Tag(q.Tag), bundle.ID(q.ID))
	case askHave:
		return d.have(ctx, blob.Root(q.Root))
	default:
		return d.chunk(ctx, chunkSubject(q.Node, blob.Root(q.Root), int(q.Index)))
	}
}

// filters are the subjects of a list of mailboxes; there is always one, as
// none at all would stand for everything.
func filters(tags, purges []identity.Tag) (list []string) {
	for _, t := range tags {
		list = append(list, boxFilters(t))
	}
	for _, t := range purges {
		if !slices.Contains(tags, t) {
			list = append(list, purgeFilters(t))
		}
	}
	if len(list) == 0 {
		list = []string{"or.b.none.none"}
	}
	slices.Sort(list)
	return list
}

// setBoxes changes what a node's consumer delivers. It delivers what comes
// from now on; what lies there already the node finds in a list. It returns when
// the consumer was made.
func (d *Desk) setBoxes(ctx context.Context, node string, q question) (since time.Time, err error) {
	c, err := d.js.CreateOrUpdateConsumer(ctx, streamBox, jetstream.ConsumerConfig{
		Durable: consumerOf(node), FilterSubjects: filters(unpackTags(q.Tags), unpackTags(q.Purges)), DeliverPolicy: jetstream.DeliverNewPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: pullWindow, MaxDeliver: -1, Replicas: d.cfg.Replicas,
	})
	if err != nil {
		return since, err
	}
	if q.Again && c.CachedInfo().NumAckPending > 0 {
		// What a cut has swallowed would come again after ackWait only.
		_, err = d.js.ResetConsumer(ctx, streamBox, consumerOf(node))
	}
	return c.CachedInfo().Created, err
}

// list names what lies in mailboxes, in a fixed order, from a name on.
func (d *Desk) list(ctx context.Context, q question) (a answer, err error) {
	st, err := d.js.Stream(ctx, streamBox)
	if err != nil {
		return a, err
	}
	var names []string
	for _, f := range filters(unpackTags(q.Tags), unpackTags(q.Purges)) {
		info, err := st.Info(ctx, jetstream.WithSubjectFilter(f))
		if err != nil {
			return a, err
		}
		for subject := range info.State.Subjects {
			n, err := parseBox(subject)
			if err != nil {
				continue
			}
			if raw := n.pack(); string(raw) > string(q.Name) {
				names = append(names, string(raw))
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	a.More = len(names) > listNames
	a.Data = []byte(strings.Join(names[:min(len(names), listNames)], ""))
	return a, nil
}

// box is one thing of a list.
func (d *Desk) box(ctx context.Context, name []byte) (answer, error) {
	subject, _, _, err := unpackName(name)
	if err != nil {
		return answer{Verdict: deskBad}, nil
	}
	m, err := d.last(ctx, streamBox, subject)
	if err != nil || m == nil {
		return answer{Verdict: deskAbsent}, err
	}
	return answer{Data: m.Data, Stored: m.Time.UnixNano()}, nil
}

// check says whether what lies under a bundle's name is that bundle.
func (d *Desk) check(ctx context.Context, tag identity.Tag, id bundle.ID) (answer, error) {
	subject := boxSubject(tag, id)
	m, err := d.last(ctx, streamBox, subject)
	if err != nil || m == nil {
		return answer{Verdict: deskAbsent}, err
	}
	if _, err := openParcel(subject, m.Data); err != nil {
		return answer{Verdict: deskForged}, nil
	}
	return answer{}, nil
}

// last is the one message of a subject, nil if there is none.
func (d *Desk) last(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	st, err := d.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	m, err := st.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// have says who has put which chunks of a file.
func (d *Desk) have(ctx context.Context, root blob.Root) (answer, error) {
	st, err := d.js.Stream(ctx, streamFiles)
	if err != nil {
		return answer{}, err
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter("or.f.*."+root.String()+".*"))
	if err != nil {
		return answer{}, err
	}
	var a answer
	for subject := range info.State.Subjects {
		node, index, ok := parseChunkSubject(subject, root)
		if !ok || index < 0 {
			continue
		}
		i := slices.IndexFunc(a.Holders, func(h holder) bool { return h.Node == node })
		if i < 0 {
			if len(a.Holders) == maxHolders {
				continue
			}
			i = len(a.Holders)
			a.Holders = append(a.Holders, holder{Node: node})
		}
		h := &a.Holders[i]
		if missing := index/8 + 1 - len(h.Chunks); missing > 0 {
			h.Chunks = append(h.Chunks, make([]byte, missing)...)
		}
		h.Chunks[index/8] |= 1 << (index % 8)
	}
	slices.SortFunc(a.Holders, func(x, y holder) int { return bytes.Compare([]byte(x.Node), []byte(y.Node)) })
	return a, nil
}

func (d *Desk) chunk(ctx context.Context, subject string) (answer, error) {
	m, err := d.last(ctx, streamFiles, subject)
	if err != nil || m == nil {
		return answer{Verdict: deskAbsent}, err
	}
	return answer{Data: m.Data}, nil
}

// keyed is a lock for each name.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*entry
}

type entry struct {
	sync.Mutex
	users int
}

func (k *keyed) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*entry{}
	}
	e := k.locks[name]
	if e == nil {
		e = &entry{}
		k.locks[name] = e
	}
	e.users++
	k.mu.Unlock()
	e.Lock()
	return func() {
		e.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(k.locks, name)
		}
	}
}
