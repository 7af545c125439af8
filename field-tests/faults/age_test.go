package faults

import "testing"

// TestExpiry lets a message's time run out. A minute is the shortest there is,
// so this test takes one, beside others.
func TestExpiry(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	d.up(d.a)
	d.login(d.a, "alice")
	var short struct{ ID string }
	d.must(d.a.API.Do(d.ctx, "POST", "/v1/messages", map[string]any{"to": "bob", "text": "before noon", "ttl_s": 60}, &short))
	long := d.send(d.a, "bob", "any time")
	d.await(d.a, short.ID, "queued")
	if m := d.await(d.a, short.ID, "expired"); m.Reason == "" || m.Hint == "" {
		t.Errorf("expired, because %q, and what to do is %q", m.Reason, m.Hint)
	}
	var failures struct{ Messages []struct{ ID string } }
	d.must(d.a.API.Do(d.ctx, "GET", "/v1/failures", nil, &failures))
	if len(failures.Messages) != 1 || failures.Messages[0].ID != short.ID {
		t.Errorf("what cannot go on: %+v", failures.Messages)
	}
	for _, verb := range []string{"retry", "recall"} {
		_, err := d.act(short.ID, verb)
		d.refused(err, "wrong_state")
	}
	d.up(d.b)
	d.login(d.b, "bob")
	d.await(d.a, long.ID, "delivered")
	if in := d.inbox(d.b); len(in) != 1 || in["any time"].ID == "" {
		t.Errorf("bob has %v", in)
	}
	d.await(d.a, short.ID, "expired")
	d.stop(d.a, d.b)
}
