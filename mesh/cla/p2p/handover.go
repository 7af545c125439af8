package p2p

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// Secrets are what admitted neighbours hand to each other beside frames: the
// generations of the network secret, opaque here. The methods may be called
// at any time and from several goroutines.
type Secrets interface {
	// Held says what this node has, at most 8 KiB, not empty.
	Held() []byte
	// Give answers what a neighbour has said it holds with what it lacks, at
	// most 8 KiB, not empty. The peer has just been judged again.
	Give(peer identity.NodeID, held []byte) ([]byte, error)
	// Take takes what a neighbour has given.
	Take(peer identity.NodeID, given []byte) error
}

// Spread offers our secrets to all linked neighbours again: there may be one
// that could not be given before. It does not wait.
func (l *Layer) Spread() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil || l.secrets == nil {
		return
	}
	for _, p := range l.peers {
		if p.live != nil {
			c := p.live.conn
			l.wg.Go(func() { l.handOver(c) })
		}
	}
}

// handOver opens the stream on which two neighbours make their secrets equal.
// A peer of before this protocol answers "na", which ends it.
func (l *Layer) handOver(c *conn) {
	if l.secrets == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.profile.HelloTimeout)
	defer cancel()
	s, err := c.Open(ctx)
	if err != nil {
		return // the connection has ended
	}
	defer context.AfterFunc(ctx, s.Reset)()
	_ = s.SetDeadline(time.Now().Add(l.profile.HelloTimeout))
	if err := l.offerSecrets(c, s); err != nil {
		l.log.Debug("secrets not handed over", "peer", c.Peer().Short(), "err", err)
		s.Reset()
	}
}

func (l *Layer) offerSecrets(c *conn, s stream) error {
	if err := propose(s, protoSecret, block(l.secrets.Held())); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s, readBuffer)
	if err := agreed(r, protoSecret); err != nil {
		return err
	}
	held, err := readBlock(r, maxSecret)
	if err != nil {
		return err
	}
	given, err := readBlock(r, maxSecret)
	if err != nil {
		return err
	}
	if err := l.give(c, s, held); err != nil {
		return err
	}
	_ = s.Close()
	return l.secrets.Take(c.Peer(), given)
}

// answerSecrets is the other side of offerSecrets.
func (l *Layer) answerSecrets(c *conn, s stream, r *bufio.Reader) {
	err := func() error {
		held, err := readBlock(r, maxSecret)
		if err != nil {
			return err
		}
		if _, err := s.Write(block(l.secrets.Held())); err != nil {
			return err
		}
		if err := l.give(c, s, held); err != nil {
			return err
		}
		given, err := readBlock(r, maxSecret)
		if err != nil {
			return err
		}
		return l.secrets.Take(c.Peer(), given)
	}()
	if err != nil {
		l.log.Debug("secrets not handed over", "peer", c.Peer().Short(), "err", err)
		s.Reset()
		return
	}
	_ = s.Close()
}

// give hands the peer what it lacks, if it may stay: a revocation may have
// come a moment ago.
func (l *Layer) give(c *conn, s stream, held []byte) error {
	if !l.recheck(c) {
		return fmt.Errorf("peer may not stay: %w", identity.ErrRole)
	}
	given, err := l.secrets.Give(c.Peer(), held)
	if err != nil {
		return err
	}
	_, err = s.Write(block(given))
	return err
}

// block puts the length before b.
func block(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }
