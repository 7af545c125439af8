package coresync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"outrider/mesh/identity"
)

// errLost ends a publish of which no answer will come any more, errCut one
// whose connection has ended. Both are tried again.
var (
	errLost = errors.New("coresync: no answer came")
	errCut  = errors.New("coresync: the connection was cut")
)

// A session is one connection, from its greeting to its cut.
type session struct {
	nc    *nats.Conn
	node  string
	core  [16]byte
	began time.Time // of our clock, when the core's said...
	now   int64     // ...this, in ns

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	acked  atomic.Uint64 // publishes answered

	mu      sync.Mutex
	seq     uint64
	under   map[uint64]*publish
	top     uint64    // highest number that was answered
	last    time.Time // when the last answer came
	patient int       // quiet times in a row: each is twice as long
}

// A publish is one message that waits for its answer.
type publish struct {
	subject   string
	size      int
	sent      time.Time
	overtaken time.Time // when a later one was answered
	fail      context.CancelCauseFunc
}

// coreTime is what the core's clock says now.
func (s *session) coreTime() time.Time { return time.Unix(0, s.now).Add(time.Since(s.began)) }

// heard is the library's error handler. What is not permitted is told there
// and nowhere else: the publish itself just gets no answer.
func (s *session) heard(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	text := err.Error()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.under {
		if strings.Contains(text, `"`+p.subject+`"`) {
			p.fail(fmt.Errorf("%w: not permitted: %s", ErrRefused, p.subject))
		}
	}
}

// publish sends one message to a stream and waits until it is stored there.
// present says that it was already.
func (s *session) publish(ctx context.Context, stream, subject string, data []byte) (present bool, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stop := context.AfterFunc(s.ctx, func() { fail(errCut) })
	defer stop()
	num := s.enter(subject, len(data), fail)
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{"Nats-Expected-Stream": {stream}}}
	reply, err := s.nc.RequestMsgWithContext(ctx, msg)
	s.leave(num, err == nil)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return false, cause
		}
		return false, s.sending(err)
	}
	return readPubAck(reply.Data)
}

// sending judges an error of the library's: all but a refusal is worth
// another try.
func (s *session) sending(err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrPermissionViolation):
		return translate(err)
	case errors.Is(err, nats.ErrNoResponders): // while the servers choose a leader
		return errLost
	}
	return errCut
}

// readPubAck reads JetStream's answer to a publish.
func readPubAck(data []byte) (present bool, err error) {
	var ack struct {
		Stream    string `json:"stream"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return false, errLost
	}
	switch {
	case ack.Error == nil && ack.Stream != "":
		return ack.Duplicate, nil
	case ack.Error == nil:
		return false, errLost
	case strings.Contains(ack.Error.Description, "maximum messages per subject"):
		return true, nil
	case strings.Contains(ack.Error.Description, "maximum bytes"), strings.Contains(ack.Error.Description, "maximum messages"),
		strings.Contains(ack.Error.Description, "insufficient"), strings.Contains(ack.Error.Description, "resource"):
		return false, fmt.Errorf("%w: %s", ErrFull, ack.Error.Description)
	case ack.Error.Code == 503 || ack.Error.Code >= 500:
		return false, errLost
	}
	return false, fmt.Errorf("%w: %s", ErrRefused, ack.Error.Description)
}

func (s *session) enter(subject string, size int, fail context.CancelCauseFunc) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.under[s.seq] = &publish{subject: subject, size: size, sent: time.Now(), fail: fail}
	return s.seq
}

func (s *session) leave(num uint64, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.under, num)
	if answered {
		s.top, s.last, s.patient = max(s.top, num), time.Now(), 0
		s.acked.Add(1)
	}
}

// watch gives up publishes whose answer will not come, although the
// connection lives: a server that dies takes with it what it had not passed
// on.
func (s *session) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.sweep(time.Now())
		}
	}
}

func (s *session) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	largest, oldest := 0, now
	for num, p := range s.under {
		largest = max(largest, p.size)
		if p.sent.Before(oldest) {
			oldest = p.sent
		}
		if num < s.top && p.overtaken.IsZero() {
			p.overtaken = now
		}
		if !p.overtaken.IsZero() && now.Sub(p.overtaken) > lostAfter {
			p.fail(errLost)
		}
	}
	quiet := quietAfter + time.Duration(largest)*time.Second/quietRate
	quiet = min(quiet<<min(s.patient, 8), quietMax)
	if len(s.under) == 0 || now.Sub(later(oldest, s.last)) < quiet {
		return
	}
	s.patient++
	for _, p := range s.under {
		p.fail(errLost)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ask asks the desk.
func (s *session) ask(ctx context.Context, q question) (a answer, err error) {
	raw, err := identity.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("coresync: ask: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	reply, err := s.nc.RequestWithContext(ctx, deskSubject(s.node), raw)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return a, errors.New("coresync: the core's desk does not run; start outrider core desk there")
	case s.ctx.Err() != nil:
		return a, errCut
	case err != nil:
		return a, fmt.Errorf("coresync: the core's desk does not answer: %w", errLost)
	}
	if a, err = parseAnswer(reply.Data); err != nil {
		return a, err
	}
	switch a.Verdict {
	case deskBad:
		return a, fmt.Errorf("%w: the desk does not take question %d", ErrRefused, q.Ask)
	case deskFailed:
		return a, fmt.Errorf("coresync: the desk cannot answer now: %w", errLost)
	}
	return a, nil
}

// hello learns which core this is and what its clock says.
func (s *session) hello() error {
	a, err := s.ask(s.ctx, question{Ask: askHello})
	if err != nil {
		return err
	}
	if len(a.Core) != len(s.core) {
		return fmt.Errorf("coresync: the desk does not say which core this is: %w", ErrMalformed)
	}
	s.core, s.began, s.now = [16]byte(a.Core), time.Now(), a.Now
	return nil
}

// hasChunk reads a bitmap of chunks.
func hasChunk(bits []byte, i int) bool { return i/8 < len(bits) && bits[i/8]>>(i%8)&1 == 1 }

func chunksOf(bits []byte, total int) (list []int) {
	for i := range min(total, 8*len(bits)) {
		if hasChunk(bits, i) {
			list = append(list, i)
		}
	}
	return list
}
