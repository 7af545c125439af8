package coresync

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// Subjects. CORE.md, section 2.

func boxSubject(tag identity.Tag, id bundle.ID) string {
	return "or.b." + hex.EncodeToString(tag[:]) + "." + id.String()
}

// retrySubject is where a bundle goes whose own subject somebody has occupied
// with something else. Nobody can occupy what cannot be guessed.
func retrySubject(tag identity.Tag, id bundle.ID, random uint64) string {
	return fmt.Sprintf("%s.r.%016x", boxSubject(tag, id), random)
}

// purgeSubject names the key by its hash: who does not know the key cannot
// occupy the subject of the record that has it.
func purgeSubject(r bundle.PurgeRecord) string {
	sum := sha256.Sum256(append([]byte("outrider/v1/core-purge\x00"), r.Key[:]...))
	return boxSubject(r.Header.Tag, r.ID()) + ".p." + hex.EncodeToString(sum[:8])
}

func chunkSubject(node string, root blob.Root, index int) string {
	return "or.f." + node + "." + root.String() + "." + strconv.Itoa(index)
}

func manifestSubject(node string, root blob.Root) string {
	return "or.f." + node + "." + root.String() + ".m"
}

func deskSubject(node string) string { return "or.desk." + node }

func inboxPrefix(node string) string { return "_INBOX_" + node }

// consumerOf is the consumer that delivers a node's mail.
func consumerOf(node string) string { return node }

// boxFilters are the subjects of bundles and purge records of a tag.
func boxFilters(tag identity.Tag) string   { return "or.b." + hex.EncodeToString(tag[:]) + ".>" }
func purgeFilters(tag identity.Tag) string { return "or.b." + hex.EncodeToString(tag[:]) + ".*.p.*" }

// A boxName is what the subject of a BOX message says.
type boxName struct {
	tag    identity.Tag
	id     bundle.ID
	purge  bool
	suffix string // of a purge record or of a name drawn in place of a squatted one
}

// nameBytes is the size of a name in a list: kind, tag, id, suffix.
const nameBytes = 1 + tagBytes + len(bundle.ID{}) + 8

// pack encodes a name for a list. A suffix is 8 bytes of hex.
func (n boxName) pack() []byte {
	kind := byte(0)
	suffix := make([]byte, 8)
	if n.suffix != "" {
		kind = 'r'
		if n.purge {
			kind = 'p'
		}
		_, _ = hex.Decode(suffix, []byte(n.suffix)) // parseBox has looked at it
	}
	out := append([]byte{kind}, n.tag[:]...)
	return append(append(out, n.id[:]...), suffix...)
}

// unpackName reads what pack wrote, as the subject it stands for.
func unpackName(raw []byte) (subject string, id bundle.ID, purge bool, err error) {
	if len(raw) != nameBytes {
		return "", id, false, fmt.Errorf("coresync: a name of %d bytes: %w", len(raw), ErrMalformed)
	}
	tag := identity.Tag(raw[1:][:tagBytes])
	copy(id[:], raw[1+tagBytes:])
	subject, suffix := boxSubject(tag, id), hex.EncodeToString(raw[nameBytes-8:])
	switch raw[0] {
	case 0:
		return subject, id, false, nil
	case 'r', 'p':
		return subject + "." + string(raw[0]) + "." + suffix, id, raw[0] == 'p', nil
	}
	return "", id, false, fmt.Errorf("coresync: a name of unknown kind: %w", ErrMalformed)
}

func parseBox(subject string) (n boxName, err error) {
	parts := strings.Split(subject, ".")
	if len(parts) != 4 && len(parts) != 6 || parts[0] != "or" || parts[1] != "b" || len(parts[2]) != 2*tagBytes {
		return n, fmt.Errorf("coresync: a message on a subject of unknown form: %w", ErrMalformed)
	}
	raw, err := hex.DecodeString(parts[2])
	if err != nil {
		return n, fmt.Errorf("coresync: a message on a subject without a tag: %w", ErrMalformed)
	}
	n.tag = identity.Tag(raw)
	if n.id, err = bundle.ParseID(parts[3]); err != nil {
		return n, fmt.Errorf("coresync: a message on a subject without an id: %w", ErrMalformed)
	}
	if !strings.HasPrefix(subject, boxSubject(n.tag, n.id)) {
		return n, fmt.Errorf("coresync: a message on a subject in capitals: %w", ErrMalformed)
	}
	if len(parts) == 6 {
		n.suffix = parts[5]
		if raw, err := hex.DecodeString(n.suffix); err != nil || len(raw) != 8 || hex.EncodeToString(raw) != n.suffix {
			return n, fmt.Errorf("coresync: a message on a subject of unknown form: %w", ErrMalformed)
		}
		switch parts[4] {
		case "p":
			n.purge = true
		case "r":
		default:
			return n, fmt.Errorf("coresync: a message on a subject of unknown form: %w", ErrMalformed)
		}
	}
	return n, nil
}

// parseChunkSubject reads who put a chunk, and which; index -1 is the manifest.
func parseChunkSubject(subject string, root blob.Root) (node string, index int, ok bool) {
	parts := strings.Split(subject, ".")
	if len(parts) != 5 || parts[0] != "or" || parts[1] != "f" || parts[3] != root.String() || !validNode(parts[2]) {
		return "", 0, false
	}
	if parts[4] == "m" {
		return parts[2], -1, true
	}
	index, err := strconv.Atoi(parts[4])
	if err != nil || index < 0 || strconv.Itoa(index) != parts[4] || index >= (blob.MaxLeaves+chunkLeaves-1)/chunkLeaves {
		return "", 0, false
	}
	return parts[2], index, true
}

// validNode checks the form of a node's name at the core: its public nkey.
func validNode(s string) bool {
	if len(s) != 56 || s[0] != 'U' {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
