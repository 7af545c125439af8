package browser

import (
	"image"
	"time"

	"outrider/field-tests/browser/fakeapi"
)

// fillWorld puts a unit's life into the fake node: messages of every type and
// state, a failure, neighbours near and gone.
func fillWorld(s *fakeapi.Server) map[string]fakeapi.Person {
	s.Warn(fakeapi.Warning{Code: "clock_unconfirmed"}, fakeapi.Warning{Code: "node_ends"})
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d).UTC() }
	p := map[string]fakeapi.Person{}
	for _, n := range []string{"Charlie", "Mora Lindqvist", "Okafor", "Haas", "Tamsin Reyes", "Dmytro"} {
		p[n] = s.AddUser(n, n != "Haas", 2)
	}
	at := func(d time.Duration, state string) func(*fakeapi.Message) {
		return func(m *fakeapi.Message) {
			m.Sent = ago(d)
			m.State = state
			m.Unread = false
			if m.Outgoing && (state == "delivered" || state == "read") {
				m.Delivered = &fakeapi.Delivered{N: 1, M: 2}
			}
		}
	}
	c := p["Charlie"]
	s.Receive(c, "Bravo is past the second bridge. Road is clear until the quarry, then mud for about 2 km.", at(26*time.Hour, "read"))
	s.Sent(c, "Copied. Fuel at grid 4512 confirmed, 200 l.", at(25*time.Hour, "read"))
	s.Sent(c, "We hold here until first light.", func(m *fakeapi.Message) { at(3*time.Hour, "delivered")(m); m.Precedence = "priority" })
	s.Receive(c, "", func(m *fakeapi.Message) {
		at(2*time.Hour, "read")(m)
		m.Type, m.Location = "location", &fakeapi.Location{Lat: 46.94809, Lon: 7.44744, AccuracyM: 12, Note: "Quarry gate, north side"}
	})
	s.Receive(c, "", func(m *fakeapi.Message) {
		at(40*time.Minute, "read")(m)
		m.Type, m.File = "file", &fakeapi.File{Name: "route-blue.kmz", Size: 5_000_000, MediaType: "application/vnd.google-earth.kmz", Have: 1_700_000, Total: 4_900_000}
	})
	s.Receive(c, "", func(m *fakeapi.Message) {
		at(30*time.Minute, "read")(m)
		m.Type, m.File = "file", &fakeapi.File{Name: "bridge.png", Size: 180_000, MediaType: "image/png", Have: 180_000, Total: 180_000, Complete: true}
	})
	s.Receive(c, "Contact north, 3 vehicles, moving east. 🚙🚙🚙", func(m *fakeapi.Message) { at(9*time.Minute, "read")(m); m.Precedence = "flash" })
	s.Sent(c, "Seen. Moving to the alternate.", func(m *fakeapi.Message) {
		at(4*time.Minute, "carried")(m)
		m.Precedence = "immediate"
		m.Expires = time.Now().Add(50 * time.Minute)
	})
	f := s.Sent(c, "Need two litres of hydraulic fluid at next contact.", func(m *fakeapi.Message) {
		at(2*time.Minute, "failed")(m)
		m.ReasonCode, m.Reason, m.Hint = "revoked", "the certificates of Charlie were revoked", "recall the message; ask an administrator"
	})
	charlie := map[string]any{"name": "Charlie"}
	s.SetWhy(f.ID, fakeapi.Why{
		Summary: "The message cannot go on.", SummarySaid: &fakeapi.Sentence{Code: "state_failed"},
		Facts:     []string{"Sent 120 s ago, precedence ROUTINE.", "The certificates of Charlie were revoked.", "2 nodes are in contact."},
		FactsSaid: []fakeapi.Sentence{{Code: "sent", Args: map[string]any{"age_s": 120, "precedence": "routine"}}, {Code: "keys_revoked", Args: charlie}, {Code: "contact", Args: map[string]any{"n": 2}}},
		Todo:      "Recall the message; ask an administrator.", TodoSaid: &fakeapi.Sentence{Code: "hint_revoked", Args: charlie},
	})
	s.Receive(p["Mora Lindqvist"], "Water is sorted. Two pallets left at the school.", at(70*time.Minute, "delivered"))
	s.Receive(p["Mora Lindqvist"], "And the generator runs again.", func(m *fakeapi.Message) { at(65*time.Minute, "delivered")(m); m.Unread = true })
	live := func(who string, lat, lon float64, age, stale, until time.Duration, accuracy int) {
		s.Receive(p[who], "", func(m *fakeapi.Message) {
			at(age, "read")(m)
			t, old, end := ago(age), ago(stale), ago(until)
			m.Type, m.Location = "location", &fakeapi.Location{Lat: lat, Lon: lon, AccuracyM: accuracy, Live: true, Time: &t, StaleAt: &old, LiveUntil: &end}
		})
	}
	live("Okafor", 46.95712, 7.43021, 12*time.Second, -2*time.Minute, -50*time.Minute, 6)
	live("Tamsin Reyes", 46.93377, 7.46804, 41*time.Second, -2*time.Minute, -7*time.Hour, 240)
	live("Dmytro", 46.94102, 7.41265, 50*time.Minute, 45*time.Minute, -3*time.Hour, 9)
	live("Haas", 46.99521, 7.61010, 3*time.Hour, 2*time.Hour, 2*time.Hour, 0)
	s.SetFix(46.94402, 7.44010)
	s.Sent(p["Okafor"], "Call when you are back on the ridge", at(5*time.Hour, "at-node"))
	s.Sent(p["Haas"], "Welcome. Your keys are not here yet, this waits.", at(20*time.Minute, "waiting-for-keys"))
	s.Receive(p["Tamsin Reyes"], "Medevac request follows as file", func(m *fakeapi.Message) { at(3*24*time.Hour, "read")(m); m.Precedence = "flash" })
	s.Sent(p["Dmytro"], "Дякую, все гаразд", at(6*24*time.Hour, "read"))
	since, heard, old := ago(47*time.Minute), ago(4*time.Second), ago(7*time.Hour)
	s.SetLinks(
		fakeapi.Link{Node: "bravo7x2qk5n", Name: "Bravo", Addr: "10.20.7.2:7411", Class: "lan", Up: true, Since: &since, TxBytes: 6_120_000, RxBytes: 843_000, LastHeard: &heard},
		fakeapi.Link{Node: "delta3m9zt8", Name: "Delta", Addr: "10.20.7.9:7411", Class: "radio", Up: true, Since: &heard, TxBytes: 3120, RxBytes: 911, LastHeard: &heard},
		fakeapi.Link{Node: "echo55k2pp", Name: "Echo", Addr: "10.20.7.11:7411", Class: "wifi", Since: &old, TxBytes: 88_000, RxBytes: 12_000, LastHeard: &old},
		fakeapi.Link{Node: "foxtrot1", Name: "Foxtrot", Addr: "10.20.7.12:7411", Class: "lan", Since: &old, Blocked: true},
	)
	contact := func(node, name, class string, from, long time.Duration, tx, rx int64) fakeapi.Contact {
		c := fakeapi.Contact{Node: node, Name: name, Class: class, Start: ago(from), TxBytes: tx, RxBytes: rx, Times: 1}
		if long > 0 {
			end := ago(from - long)
			c.End = &end
		}
		return c
	}
	s.SetContacts(
		contact("delta3m9zt8", "Delta", "radio", 9*time.Second, 0, 3120, 911),
		contact("bravo7x2qk5n", "Bravo", "lan", 47*time.Minute, 0, 6_120_000, 843_000),
		contact("delta3m9zt8", "Delta", "radio", 6*time.Hour, 11*time.Minute, 41_000, 3200),
		contact("echo55k2pp", "Echo", "wifi", 8*time.Hour, 50*time.Minute, 88_000, 12_000),
		contact("delta3m9zt8", "Delta", "radio", 13*time.Hour, 2*time.Minute, 9_100, 800),
		contact("echo55k2pp", "Echo", "wifi", 15*time.Hour, 3*time.Hour, 1_400_000, 320_000),
		contact("bravo7x2qk5n", "Bravo", "lan", 22*time.Hour, 5*time.Hour, 18_000_000, 2_100_000),
	)
	s.SetUser(p["Charlie"].ID, func(u *fakeapi.User) { u.Verified = true })
	s.SetUser(p["Tamsin Reyes"].ID, func(u *fakeapi.User) { u.KeyChanged = true })
	core := ago(3 * time.Hour)
	s.SetBanner(fakeapi.Banner{State: "contact", Contacts: 2, CoreLast: &core})
	return p
}

// whiteImage is a white square, the worst a picture can be at night.
func whiteImage(side int) image.Image {
	img := image.NewGray(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	return img
}
