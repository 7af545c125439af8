package node

import (
	"math"
	"strings"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/compliance"
	"outrider/offline/roster"
)

// theScribe, aRef and anEntry are the fixed ground of these tests.
var theScribe = scribe{identity.NetworkID{1}, "or7"}

func aRef(index uint32) chat.Ref {
	return chat.Ref{Epoch: envelope.EpochID{2}, Device: identity.DeviceID{3}, Index: index}
}

// said is when lindqvist said it, by a right clock.
var said = time.Date(2026, 1, 2, 10, 3, 1, 204_000_000, time.UTC)

// anEntry took half a minute to come here, where NTP sets the clock, and is to
// be gone in 30 days.
func anEntry(t chat.Type) chat.ArchiveEntry {
	return chat.ArchiveEntry{
		ID: chat.MessageID{9}, Ref: aRef(4), Conversation: envelope.ConversationID{5}, From: chat.Person{ID: identity.UserID{6}, Name: "lindqvist"},
		To: chat.Person{ID: identity.UserID{7}, Name: "mora"}, Type: t, Sent: said, Received: said.Add(30 * time.Second), Age: 29 * time.Second,
		Clock: chat.ClockTime, TTL: 30 * 24 * time.Hour, Bundle: bundle.ID{8}, Hops: 4,
	}
}

// entryOf is anEntry, changed.
func entryOf(t chat.Type, change func(*chat.ArchiveEntry)) chat.ArchiveEntry {
	e := anEntry(t)
	change(&e)
	return e
}

func textOf(change func(*chat.ArchiveEntry)) chat.ArchiveEntry {
	return entryOf(chat.TypeText, func(e *chat.ArchiveEntry) {
		e.Text = "Fuel"
		change(e)
	})
}

// liveOf is a position of a live share, which about opened.
func liveOf(about *chat.Ref, until time.Time) chat.ArchiveEntry {
	return entryOf(chat.TypeLocation, func(e *chat.ArchiveEntry) {
		e.About, e.Location = about, &chat.Location{Lat: 46.94901, Lon: -7.44902, Live: true, Fix: &chat.Fix{At: said, Until: until}}
	})
}

func callOf(change func(*chat.Call)) chat.ArchiveEntry {
	return entryOf(chat.TypeCall, func(e *chat.ArchiveEntry) {
		e.Call = &chat.Call{ID: [16]byte{1}, Status: envelope.CallCompleted, Began: said.Add(-80 * time.Second), Duration: 74 * time.Second}
		change(e.Call)
	})
}

// TestK09RecordsOfEntries: the lines of fixed entries, byte for byte.
func TestK09RecordsOfEntries(t *testing.T) {
	about := aRef(1)
	for _, c := range []struct {
		name  string
		entry chat.ArchiveEntry
		want  []string
	}{
		{"text", textOf(func(*chat.ArchiveEntry) {}), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"text, burnt on reading, without an end, by an admin's time", textOf(func(e *chat.ArchiveEntry) { e.TTL, e.Burn, e.Clock = 0, 10*time.Minute, chat.ClockPeer }), []string{
			`{"bor":"1/2/26 10:13 AM","message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"peer","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author an hour behind", textOf(func(e *chat.ArchiveEntry) { e.Sent = said.Add(time.Second - time.Hour) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767344582.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 9:03 AM","time_iso":"2026-01-02 09:03:02.204","ttl":"2/1/26 9:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author more than an hour behind", textOf(func(e *chat.ArchiveEntry) { e.Sent = said.Add(time.Second - time.Hour - time.Millisecond) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348182.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:02.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":29000,"hops":4,"sent":"2026-01-02T09:03:02.203Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author weeks behind", textOf(func(e *chat.ArchiveEntry) { e.Sent = said.AddDate(0, 0, -40) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348182.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:02.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":29000,"hops":4,"sent":"2025-11-23T10:03:01.204Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author in 1970", textOf(func(e *chat.ArchiveEntry) { e.Sent = time.UnixMilli(0) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348182.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:02.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":29000,"hops":4,"sent":"1970-01-01T00:00:00.000Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author a quarter of an hour ahead", textOf(func(e *chat.ArchiveEntry) { e.Sent = said.Add(15 * time.Minute) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348211.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:31.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"sent":"2026-01-02T10:18:01.204Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author two hours ahead", textOf(func(e *chat.ArchiveEntry) { e.Sent = said.Add(2 * time.Hour) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348182.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:02.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":29000,"hops":4,"sent":"2026-01-02T12:03:01.204Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an author at the end of days", textOf(func(e *chat.ArchiveEntry) { e.Sent = time.UnixMilli(math.MaxInt64) }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348182.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:02.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"no trusted clock here", textOf(func(e *chat.ArchiveEntry) { e.Clock = chat.ClockUnsynced }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348182.204000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:02.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":29000,"hops":4,"sent":"2026-01-02T10:03:01.204Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"an age from before 1970", textOf(func(e *chat.ArchiveEntry) { e.Age = math.MaxUint32 * time.Second }), []string{
			`{"message":"Fuel","message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"0.000000","msgtype":1000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/1/70 12:00 AM","time_iso":"1970-01-01 00:00:00.000","ttl":"1/31/70 12:00 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"unsynced","age_ms":4294967295000,"hops":4,"sent":"2026-01-02T10:03:01.204Z","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"file", entryOf(chat.TypeFile, func(e *chat.ArchiveEntry) { e.File = &chat.File{Name: "../route-blue.kmz", Size: 9, Complete: true} }), []string{
			`{"file":{"filename":"../route-blue.kmz","guid":"2e1e5b1c-e7f4-8b14-b2a3-d18ee63dd9aa","uploadedbyuser":"lindqvist","uploadedtimestamp":"1/2/26 10:03 AM"},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":6000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"file that never came", entryOf(chat.TypeFile, func(e *chat.ArchiveEntry) { e.File = &chat.File{Name: "route-blue.kmz", Size: 9} }), []string{
			`{"file":{"filename":"route-blue.kmz","guid":"2e1e5b1c-e7f4-8b14-b2a3-d18ee63dd9aa","uploadedbyuser":"lindqvist","uploadedtimestamp":"1/2/26 10:03 AM"},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":6000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa","file":"missing"}}`,
		}},
		{"static location", entryOf(chat.TypeLocation, func(e *chat.ArchiveEntry) { e.Location = &chat.Location{Lat: 46.94809, Lon: 7.44744} }), []string{
			`{"location":{"latitude":46.94809,"longitude":7.44744},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":8000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"first of a live share", liveOf(nil, said.Add(time.Hour)), []string{
			`{"location":{"latitude":46.94901,"longitude":-7.44902},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":8000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"live location with an end", liveOf(&about, said.Add(63*time.Minute)), []string{
			`{"edit":{"latitude":46.94901,"longitude":-7.44902,"shareexpiriation":"1/2/26 11:06 AM","type":"location"},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":9000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"share":"c5d00422c10ad8fdbfa71adc7b4c011a","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"live location without an end", liveOf(&about, time.Time{}), []string{
			`{"edit":{"latitude":46.94901,"longitude":-7.44902,"shareexpiriation":"","type":"location"},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":9000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"share":"c5d00422c10ad8fdbfa71adc7b4c011a","from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"recall", entryOf(chat.TypeRecall, func(e *chat.ArchiveEntry) { e.About = &about }), []string{
			`{"control":{"isrecall":true,"msgid":"c5d00422c10ad8fdbfa71adc7b4c011a","msgtype":4011},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":4011,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"call", callOf(func(*chat.Call) {}), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"1767348101.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:01 AM","time_iso":"2026-01-02 10:01:41.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":74,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":1,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"missed call", callOf(func(c *chat.Call) { c.Status, c.Duration = envelope.CallMissed, 0 }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"1767348101.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:01 AM","time_iso":"2026-01-02 10:01:41.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":0,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":2,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"call that its caller gave up", callOf(func(c *chat.Call) { c.Status, c.Duration = envelope.CallCancelled, 0 }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"1767348101.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:01 AM","time_iso":"2026-01-02 10:01:41.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":0,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":3,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"declined call", callOf(func(c *chat.Call) { c.Status, c.Duration = envelope.CallDeclined, 0 }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"1767348101.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:01 AM","time_iso":"2026-01-02 10:01:41.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":0,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":3,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"call that still runs", callOf(func(c *chat.Call) { c.Status, c.Duration = envelope.CallStarting, 0 }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"call that began after it was told", callOf(func(c *chat.Call) { c.Began = said.Add(time.Hour) }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"1767348107.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:01 AM","time_iso":"2026-01-02 10:01:47.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":74,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":1,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"call that rang for years", callOf(func(c *chat.Call) { c.Began = time.UnixMilli(0) }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"1767348107.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:01 AM","time_iso":"2026-01-02 10:01:47.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":74,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":1,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
		{"call that took a lifetime", callOf(func(c *chat.Call) { c.Began, c.Duration = time.UnixMilli(0), math.MaxUint32*time.Second }), []string{
			`{"call":{"meetingid":0,"participants":["f18ec39ff1fa5b6be550df980468525f55f3eb5c919865d9c9153a2982c8e409","67b5c69611b7f6120d671c74242161a95ea29ca29dc5f128e550e95e88976c79"],"status":0,"version":2,"versioncheck":true},"message_id":"7b9aac33d5eb01b23c7f3721ef1be430","msg_ts":"0.000000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/1/70 12:00 AM","time_iso":"1970-01-01 00:00:00.000","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
			`{"call":{"duration":4294967295,"meetingid":0,"startmsgid":"7b9aac33d5eb01b23c7f3721ef1be430","status":1,"version":2,"versioncheck":true},"message_id":"27dd5851415db5e5c5cbc6042c05c66e","msg_ts":"1767348181.204000","msgtype":7000,"receiver":"mora","sender":"lindqvist","sender_type":"normal","time":"1/2/26 10:03 AM","time_iso":"2026-01-02 10:03:01.204","ttl":"2/1/26 10:03 AM","vgroupid":"a6d345146a0c1b04752b8082397f8d46762618de0208c8609b648a0c52a10a6c","x_outrider":{"bundle":"08000000000000000000000000000000","node":"or7","received":"2026-01-02T10:03:31Z","clock":"ntp","age_ms":29000,"hops":4,"from":"ayaaaaaaaaaaaaaaaaaaaaaaaa","to":"a4aaaaaaaaaaaaaaaaaaaaaaaa"}}`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, r := range theScribe.records(c.entry) {
				line, err := r.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.When(); err != nil {
					t.Errorf("the node cannot hand it out: %v", err)
				}
				got = append(got, string(line))
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

// TestK09ParticipantsAreMapped: a start's hashes are those of the names that an
// export puts beside them, and no end has any.
func TestK09ParticipantsAreMapped(t *testing.T) {
	rs := theScribe.records(callOf(func(*chat.Call) {}))
	got := rs[0].Participants()
	for _, name := range []string{"lindqvist", "mora"} {
		if got[compliance.ParticipantHash(theScribe.network, name)] != name {
			t.Errorf("%s is not in %v", name, got)
		}
	}
	if len(got) != 2 || rs[1].Participants() != nil || theScribe.records(textOf(func(*chat.ArchiveEntry) {}))[0].Participants() != nil {
		t.Errorf("%v, and of an end %v", got, rs[1].Participants())
	}
}

// TestK09ClockOfRecords: a clock that an admin's time agrees with is no ntp,
// until the kernel says so.
func TestK09ClockOfRecords(t *testing.T) {
	synced := false
	n := &Node{clock: roster.NewClock(func() time.Time { return said }, time.Time{}), watch: clockWatch{synced: func() bool { return synced }}}
	want := func(when, word string) {
		t.Helper()
		if got := clockWord(nodeClock{n}.Source()); got != word {
			t.Errorf("%s: %s, want %s", when, got, word)
		}
	}
	want("nobody vouched", "unsynced")
	n.clock.Observe(said.Add(-time.Minute))
	want("an admin signed a time", "peer")
	synced = true
	want("NTP came later", "ntp")
	synced = false
	want("NTP went again", "ntp")
	n.clock.Observe(said.AddDate(1, 0, 0))
	want("an admin signed a time that lies ahead", "unsynced")
}
