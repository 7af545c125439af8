package node

import (
	"testing"
	"time"
)

// TestStateIsFreeWhileKeysAreDerived: whoever asks for the state while an
// operator's password is being worked on, such as `outrider status`, is
// answered at once. An answer during the work proves it; a machine too busy to
// ask in time tries again.
func TestStateIsFreeWhileKeysAreDerived(t *testing.T) {
	h, _, _ := founded(t)
	actions := map[string]func(name string) error{
		"host": func(name string) error {
			_, err := h.HostUser(t.Context(), UserRequest{Name: name, AdminPassword: []byte(adminPassword)}, []byte("a user's password"))
			return err
		},
		"invite": func(name string) error {
			_, err := h.InviteUser(t.Context(), UserRequest{Name: name, AdminPassword: []byte(adminPassword), Addrs: []string{"192.0.2.1:7410"}})
			return err
		},
	}
	for name, act := range actions {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				if answeredDuring(t, h, func() error { return act(name) }) {
					return
				}
			}
			t.Error("nobody was ever answered while keys were derived")
		})
	}
}

// answeredDuring reports whether the state could be read while act was at work:
// three times in a row, as one answer may have come in act's last moment.
func answeredDuring(t *testing.T, h *Home, act func() error) bool {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- act() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for answers := 0; ; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return answers >= 3
		case <-tick.C:
		}
		if h.ops.TryLock() {
			h.ops.Unlock()
			continue // not at work
		}
		users, err := h.Users()
		if err != nil || len(users) == 0 || h.network() == nil {
			t.Fatalf("%d users, %v", len(users), err)
		}
		answers++
	}
}
