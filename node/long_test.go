package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"outrider/node/chat"
)

// Texts as long as may be, more than one commit of the store holds, arrive
// together for somebody who was away, and are receipted together.
func TestM01LongTextsArriveTogether(t *testing.T) {
	h, alice, _ := founded(t)
	r := up(t, h, onLoopback(t))
	_, err := r.redeem(r.code(carolName).Code, carolPassword, false)
	r.must(err)
	carol := r.token
	var want []string
	var sent []sentMessage
	for i := range 12 {
		text := fmt.Sprintf("%02d", i) + strings.Repeat("x", chat.MaxText-2)
		want, sent = append(want, text), append(sent, r.send(alice, text))
	}
	r.login(alice, alicePassword)
	eventually(t, "the texts", func() error {
		if got := r.texts(); !slices.Equal(got, want) {
			return fmt.Errorf("%d of %d are here", len(got), len(want))
		}
		return nil
	})
	r.token = carol
	for _, m := range sent {
		r.awaitState(m.ID, "delivered")
	}
	r.must(r.down())
}
