package gossip

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// memberlist's wire format, as far as we write it ourselves.
const (
	wireAck      = 2
	wireCompound = 7
	wireVersion  = 1 // of the encryption
)

// unblock lets memberlist's waiting probes return. A probe waits for its
// acknowledgement until its interval has passed, a minute on a radio, and
// nothing in memberlist's interface interrupts it; Run must not return with
// goroutines left, nor wait so long. So, when the transport sends no more, we
// acknowledge the newest probes ourselves.
//
// Their numbers are in a field that memberlist does not export. Should a
// later version do without it, probes end by their own timers, and the leak
// test in this package says so.
func (t *transport) unblock(m *memberlist.Memberlist) {
	field := reflect.ValueOf(m).Elem().FieldByName("sequenceNum")
	if field.Kind() != reflect.Uint32 {
		return
	}
	newest := atomic.LoadUint32((*uint32)(field.Addr().UnsafePointer()))
	t.inject(acks(newest))
	t.inject(acks(newest)) // taken only when the first has been dealt with
}

// acks returns a packet that acknowledges the 255 probes up to newest.
func acks(newest uint32) []byte {
	const n = 255
	lengths, parts := make([]byte, 0, 2*n), make([]byte, 0, 12*n)
	for i := range uint32(n) {
		ack := append([]byte{wireAck, 0x81, 0xa5}, "SeqNo\xce"...) // msgpack {"SeqNo": uint32}
		ack = binary.BigEndian.AppendUint32(ack, newest-i)
		lengths = binary.BigEndian.AppendUint16(lengths, uint16(len(ack)))
		parts = append(parts, ack...)
	}
	return append(append([]byte{wireCompound, n}, lengths...), parts...)
}

// inject hands a packet to memberlist as if it had come from a member.
func (t *transport) inject(msg []byte) {
	keys := t.keys()
	if len(keys) == 0 {
		return
	}
	aead, err := sealer(keys[0])
	if err != nil {
		return
	}
	b := append([]byte{wireVersion}, make([]byte, nonceSize)...)
	if _, err := rand.Read(b[1:]); err != nil {
		return
	}
	p := &memberlist.Packet{Buf: aead.Seal(b, b[1:], msg, nil), From: &net.UDPAddr{}, Timestamp: time.Now()}
	select {
	case t.packets <- p:
	case <-time.After(time.Second):
	}
}
