package p2p

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"outrider/mesh/identity"
)

// multistream-select 1.0.0: each side names the negotiation protocol, the
// opener proposes a protocol, the other side repeats it or says "na". A token
// is a uvarint length, the text, and a line feed that the length counts.

var errNoProtocol = errors.New("no protocol in common")

func appendToken(b []byte, token string) []byte {
	b = binary.AppendUvarint(b, uint64(len(token)+1))
	b = append(b, token...)
	return append(b, '\n')
}

// readToken reads one token byte-exact, so that it may stand before bytes
// that belong to somebody else.
func readToken(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	if n[0] == 0 || n[0] > maxToken {
		return "", fmt.Errorf("token of %d bytes: %w", n[0], identity.ErrMalformed)
	}
	b := make([]byte, n[0])
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	if b[len(b)-1] != '\n' {
		return "", fmt.Errorf("token without line feed: %w", identity.ErrMalformed)
	}
	return string(b[:len(b)-1]), nil
}

// propose opens a stream for proto and sends first behind the proposal,
// without waiting for the answer, which agreed must read.
func propose(w io.Writer, proto string, first []byte) error {
	b := appendToken(nil, protoMultistream)
	b = appendToken(b, proto)
	_, err := w.Write(append(b, first...))
	return err
}

// agreed reads the answer to propose.
func agreed(r io.Reader, proto string) error {
	for _, want := range []string{protoMultistream, proto} {
		got, err := readToken(r)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%q where %q was proposed: %w", got, want, errNoProtocol)
		}
	}
	return nil
}

// choose answers the other side's proposals until one is among ours. It reads
// no further than the proposal.
func choose(rw io.ReadWriter, ours ...string) (string, error) {
	magic, err := readToken(rw)
	if err != nil {
		return "", err
	}
	if magic != protoMultistream {
		return "", fmt.Errorf("opened with %q: %w", magic, errNoProtocol)
	}
	answer := appendToken(nil, protoMultistream)
	for range maxProposals {
		proposal, err := readToken(rw)
		if err != nil {
			return "", err
		}
		known := slices.Contains(ours, proposal)
		if known {
			answer = appendToken(answer, proposal)
		} else {
			answer = appendToken(answer, "na")
		}
		if _, err := rw.Write(answer); err != nil {
			return "", err
		}
		if known {
			return proposal, nil
		}
		answer = answer[:0]
	}
	return "", errNoProtocol
}

// buffered reads through r and writes to w.
type buffered struct {
	*bufio.Reader
	io.Writer
}
