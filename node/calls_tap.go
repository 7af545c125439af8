//go:build calltap

package node

import (
	"encoding/binary"
	"os"
	"sync"
)

// callTap writes what the node forwards in calls to the file that
// OUTRIDER_CALL_TAP names, each payload after its length in two bytes. It is
// in builds with the tag calltap alone, and is how a test plays the node that
// wants to listen.
var callTap = func() func([]byte) {
	f, err := os.OpenFile(os.Getenv("OUTRIDER_CALL_TAP"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil
	}
	var mu sync.Mutex
	return func(payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = f.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(payload))), payload...))
	}
}()
