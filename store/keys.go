package store

import (
	"encoding/binary"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// formatVersion is written once, when a store is created.
const formatVersion = 1

// Keys of the index. Numbers are big-endian, so that order is numerical;
// precedence p is written as 255-p, so that the highest comes first.
//
//	v                                     format version
//	e                                     epoch
//	s                                     counters
//	g segment(4)                          end and live bytes of a payload segment
//	b id(16)                              record of a bundle
//	x due(8) kind(1) id(16)               what is due when: bundles (0), purge records (1)
//	p precedence(1) seq(8) id(16)         bundles by urgency, then arrival
//	t tag(8) precedence(1) seq(8) id(16)  the same for each tag
//	d id(16)                              purge record ("dead")
//	k length(1) bucket key                values in buckets
//	l user(16) conv(16) order(8) msg(16)  timeline rows
//	j user(16) msg(16)                    where the row of a message is
//	c user(16) conv(16)                   order of the newest row of a conversation
var (
	keyVersion  = []byte{'v'}
	keyEpoch    = []byte{'e'}
	keyCounters = []byte{'s'}
)

const (
	prefixSegment    = 'g'
	prefixBundle     = 'b'
	prefixDue        = 'x'
	prefixPrecedence = 'p'
	prefixTag        = 't'
	prefixPurge      = 'd'
	prefixBucket     = 'k'
	prefixRow        = 'l'
	prefixMessage    = 'j'
	prefixConv       = 'c'
)

const (
	dueBundle = 0
	duePurge  = 1
)

func keySegment(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{prefixSegment}, n) }

func keyBundle(id bundle.ID) []byte { return append([]byte{prefixBundle}, id[:]...) }

func keyPurge(id bundle.ID) []byte { return append([]byte{prefixPurge}, id[:]...) }

func keyDue(due uint64, kind byte, id bundle.ID) []byte {
	k := binary.BigEndian.AppendUint64([]byte{prefixDue}, due)
	return append(append(k, kind), id[:]...)
}

func keyPrecedence(p bundle.Precedence, seq uint64, id bundle.ID) []byte {
	k := binary.BigEndian.AppendUint64([]byte{prefixPrecedence, 255 - byte(p)}, seq)
	return append(k, id[:]...)
}

func keyTag(t identity.Tag, p bundle.Precedence, seq uint64, id bundle.ID) []byte {
	k := append([]byte{prefixTag}, t[:]...)
	k = binary.BigEndian.AppendUint64(append(k, 255-byte(p)), seq)
	return append(k, id[:]...)
}

// indexID is the id at the end of a key of an index.
func indexID(key []byte) bundle.ID { return bundle.ID(key[len(key)-len(bundle.ID{}):]) }

func keyBucket(bucket, key string) []byte {
	k := append([]byte{prefixBucket, byte(len(bucket))}, bucket...)
	return append(k, key...)
}

func keyRow(user identity.UserID, conv [16]byte, order uint64, msg [16]byte) []byte {
	k := append(append([]byte{prefixRow}, user[:]...), conv[:]...)
	return append(binary.BigEndian.AppendUint64(k, order), msg[:]...)
}

func keyMessage(user identity.UserID, msg [16]byte) []byte {
	return append(append([]byte{prefixMessage}, user[:]...), msg[:]...)
}

func keyConv(user identity.UserID, conv [16]byte) []byte {
	return append(append([]byte{prefixConv}, user[:]...), conv[:]...)
}
