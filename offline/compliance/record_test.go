package compliance

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lines(t testing.TB, name string) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// TestK09EveryPublishedRecordRoundTrips: what the format's description shows is
// read and written again byte for byte, all types.
func TestK09EveryPublishedRecordRoundTrips(t *testing.T) {
	seen := map[MsgType]bool{}
	for i, line := range lines(t, "published.jsonl") {
		r, err := Parse(line)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		got, err := r.Encode()
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if !bytes.Equal(got, line) {
			t.Errorf("line %d\n got %s\nwant %s", i+1, got, line)
		}
		seen[r.MsgType] = true
	}
	for _, want := range []MsgType{
		TypeText, TypeVerify, TypeCreateRoom, TypeMembers, TypeLeaveRoom, TypeRoomSettings, TypeDeleteRoom, TypeRecall,
		TypeAttributes, TypePrivate, TypeFile, TypeCall, TypeLocation, TypeEdit,
	} {
		if !seen[want] {
			t.Errorf("no example of type %d", want)
		}
	}
}

// built are records made in the way node makes them; each is a line of
// published.jsonl.
func built() []*Record {
	at := func(sec, usec int64) time.Time { return time.Unix(sec, usec*1000) }
	dm := "5b0d7a1c93e84f26b1d05c77aa90e3412f6d8b04c1e7395a60fb82d94c3e1a07"
	other := "c21f0b8de4479a56330719fbd8ac62e105b7f4936e8a0d2c71593eafc4806b12"
	room := "S4e19c7b05d2836fa1b7e90c4d35f2a86710be9d4c83a5f6172e0d9b84c5a3f1"
	full := func(r Record, t time.Time, life time.Duration) *Record {
		r.SetTime(t)
		r.SenderType, r.TTL = "normal", Moment(t.Add(life))
		return &r
	}
	short := func(r Record, t time.Time) *Record {
		r.SetTime(t)
		r.TimeISO = ""
		return &r
	}
	month := 30 * 24 * time.Hour
	sent := at(1767348181, 204511)
	burn := at(1767348240, 917)
	file := at(1767348432, 44190)
	text := full(Record{Message: "Fuel at grid 4512 confirmed", MessageID: "0f5c1a90b7d211efa3c60242ac120003", MsgType: TypeText,
		Sender: "lindqvist@unit7.example", Receiver: "mora@unit7.example", VGroupID: dm}, sent, month)
	bor := full(Record{Message: "Move at first light", MessageID: "3ab1d4e2b7d211ef9d110242ac120003", MsgType: TypeText,
		Sender: "mora@unit7.example", VGroupID: room, BOR: Moment(burn.Add(10 * time.Minute))}, burn, month)
	return []*Record{
		text, bor,
		full(Record{File: &File{Filename: "route-blue.kmz", GUID: "6c2f4f0e-9b1d-4a37-8f58-0d4b1be7a901", IsScreenshot: ptr(false),
			LocalFilename:  "/var/lib/outrider/archive/attachments/" + AttachmentName(file, "route-blue.kmz"),
			UploadedByUser: "A. Mora", UploadedTimestamp: Moment(file)}, MessageID: "9a37d1f0b7d211efa3c60242ac120003", MsgType: TypeFile,
			Sender: "mora@unit7.example", Receiver: "lindqvist@unit7.example", VGroupID: dm}, file, month),
		full(Record{KeyVerify: &KeyVerify{MsgType: 3, VerifiedKey: "0004a7c1109be25d4f"}, MessageID: "b2280c5eb7d211ef91f40242ac120003",
			MsgType: TypeVerify, Sender: "mora@unit7.example", Receiver: "okafor@unit7.example", VGroupID: other}, at(1767348520, 700000), month),
		short(Record{Location: &Location{46.94809, 7.44744}, MessageID: "7d01bb46b7d211efb6aa0242ac120003", MsgType: TypeLocation,
			Sender: "lindqvist@unit7.example", Receiver: "mora@unit7.example", VGroupID: dm}, at(1767348361, 10203)),
		short(Record{Edit: &Edit{Type: "location", Latitude: ptr(Degrees(46.94901)), Longitude: ptr(Degrees(7.44902)),
			ShareExpiration: ptr(Moment(at(1767348391, 0).Add(time.Hour)))}, MessageID: "8802c3deb7d211efb6aa0242ac120003", MsgType: TypeEdit,
			Sender: "lindqvist@unit7.example", Receiver: "mora@unit7.example", VGroupID: dm}, at(1767348391, 330012)),
		short(Record{Control: &Control{IsRecall: ptr(true), MsgID: "3ab1d4e2b7d211ef9d110242ac120003", MsgType: TypeRecall},
			MessageID: "dfe45b7ab7d211ef8c310242ac120003", MsgType: TypeRecall, Sender: "mora", VGroupID: room}, at(1767348900, 0)),
		short(Record{Control: &Control{MsgType: TypeCreateRoom, BOR: ptr(int64(0)), TTL: ptr(int64(2592000)), Title: ptr("Convoy"), Description: ptr("Convoy 3"),
			ChangeMask: ptr(ChangeMasters | ChangeTTL | ChangeTitle | ChangeDescription | ChangeBOR), Masters: []string{"mora"}, Members: []string{"lindqvist", "mora", "okafor"}},
			MessageID: "c40d11a8b7d211ef8c310242ac120003", MsgType: TypeCreateRoom, Sender: "mora", VGroupID: room}, at(1767348600, 0)),
		short(Record{Call: &Call{Duration: ptr(int64(74)), MeetingID: 1, StartMsgID: "f627b7f2b7d211efb0a30242ac120003", Status: 1, Version: 2, VersionCheck: true},
			MessageID: "0149662eb7d311efb0a30242ac120003", MsgType: TypeCall, Sender: "lindqvist", Receiver: "mora", VGroupID: dm}, at(1767349220, 0)),
	}
}

// TestK09WriterMakesThePublishedRecords: records made from values, as node
// makes them, are the published lines.
func TestK09WriterMakesThePublishedRecords(t *testing.T) {
	golden := map[string]bool{}
	for _, l := range lines(t, "published.jsonl") {
		golden[string(l)] = true
	}
	for _, r := range built() {
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !golden[string(b)] {
			t.Errorf("not in the golden file: %s", b)
		}
	}
}

func TestK09ExtensionsAreThoseOfTheFormat(t *testing.T) {
	want := lines(t, "extensions.json")[0]
	x := struct {
		X Extensions `json:"x_outrider"`
	}{Extensions{Bundle: "b3:7f0c", Node: "or-7", Received: "2026-01-02T10:21:04Z", Clock: "unsynced", AgeMS: ptr(int64(184213)), Hops: ptr(4),
		Path: []string{"or-3", "or-9", "or-7"}, Sig: "ed25519:..."}}
	got, err := json.Marshal(x)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

// TestK09ReaderTakesTheOddities of features.md 2.10, and what it makes of them
// is what this package writes.
func TestK09ReaderTakesTheOddities(t *testing.T) {
	check := []func(*Record) bool{
		func(r *Record) bool {
			when, err := r.When()
			return r.MessageID == "0f5c1a90b7d211efa3c60242ac120003" && r.ID == "" && err == nil && when.Nanosecond() == 204510000
		},
		func(r *Record) bool { return r.Links[0].URL == "https://weather.example/alps" && r.MessageID == "" },
		func(r *Record) bool { return r.Links[0].URL == "https://weather.example/alps" && r.MessageID == "" },
		func(r *Record) bool { return *r.Edit.ShareExpiration == "1/2/26 11:06 AM" },
		func(r *Record) bool {
			return r.Control.FileVaultInfo.GUID == "2E77A4C0" && r.Control.FileVaultInfo.QUID == ""
		},
		func(r *Record) bool {
			return r.Control.AddedUsers[0] == "haas" && r.Control.DeletedUsers[0] == "okafor"
		},
		func(r *Record) bool { return r.TTL == "" && r.Message == "an unknown field" },
	}
	for i, line := range lines(t, "oddities.jsonl") {
		r, err := Parse(line)
		if err != nil || !check[i](r) {
			t.Errorf("line %d: %+v, %v", i+1, r, err)
			continue
		}
		again, err := r.Encode()
		if err != nil || strings.Contains(string(again), "null") || strings.Contains(string(again), "shareexpiration") {
			t.Errorf("line %d is written as %s, %v", i+1, again, err)
		}
	}
}

func TestK09ReaderRefuses(t *testing.T) {
	good := string(lines(t, "published.jsonl")[0])
	for name, line := range map[string]string{
		"nothing":          ``,
		"null":             `null`,
		"a list":           `[]`,
		"half a record":    good[:len(good)/2],
		"two records":      good + good,
		"not JSON":         `{"message":"x";"msgtype":1000}`,
		"no type":          `{"message_id":"1"}`,
		"no id":            `{"msgtype":1000,"message":"x"}`,
		"two ids":          `{"id":"1","message_id":"2","msgtype":1000}`,
		"a bad time":       strings.Replace(good, "1/2/26 10:03 AM", "2026-01-02", 1),
		"a bad moment":     strings.Replace(good, "1767348181.204511", "now", 1),
		"beyond the pole":  `{"location":{"latitude":946.9,"longitude":7.4},"message_id":"1","msgtype":8000}`,
		"not UTF-8":        "{\"message_id\":\"\xff\",\"msgtype\":1000}",
		"one byte too big": `{"message_id":"` + strings.Repeat("a", MaxRecord) + `"}`,
	} {
		if _, err := Parse([]byte(line)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestK09WriterRefusesWhatIsNoRecord(t *testing.T) {
	for name, r := range map[string]*Record{
		"no number": {MessageID: "1", MsgType: TypeLocation, Location: &Location{Degrees(math.NaN()), 0}},
		"no place":  {MessageID: "1", MsgType: TypeLocation, Location: &Location{0, 180.1}},
		"too large": {MessageID: "1", MsgType: TypeText, Message: strings.Repeat("x", MaxRecord)},
	} {
		if _, err := r.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestK09TextIsKeptAsItWas(t *testing.T) {
	for _, text := range []string{"<b>&amp;</b>", "a\nb\t\"c\"", "Grüße \U0001f600 \u202e", " "} {
		b, err := (&Record{MessageID: "1", MsgType: TypeText, Message: text}).Encode()
		if err != nil || bytes.ContainsRune(b, '\n') {
			t.Fatalf("%q: %s %v", text, b, err)
		}
		r, err := Parse(b)
		if err != nil || r.Message != text {
			t.Errorf("%q is read as %q, %v", text, r.Message, err)
		}
	}
}

func TestK09IdsFollowFromTheMessage(t *testing.T) {
	var net identity.NetworkID
	var dev identity.DeviceID
	a, b := MessageID(net, [8]byte{1}, dev, 1), MessageID(net, [8]byte{1}, dev, 2)
	if len(a) != 32 || a == b || a != MessageID(net, [8]byte{1}, dev, 1) {
		t.Errorf("%s %s", a, b)
	}
	dm, room := DirectGroup(net, [16]byte{1}), RoomGroup('S', net, [16]byte{1})
	if len(dm) != 64 || len(room) != 64 || room[0] != 'S' || room[1:] != dm[1:] {
		t.Errorf("%s %s", dm, room)
	}
	if g := GUID(a); len(g) != 36 || g != GUID(a) || g == GUID(b) || g[14] != '8' {
		t.Error(g)
	}
	if h := ParticipantHash(net, "mora"); len(h) != 64 || h == ParticipantHash(net, "haas") {
		t.Error(h)
	}
}

// FuzzParse: what is read is written, and read again as the same.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"published.jsonl", "oddities.jsonl"} {
		for _, l := range lines(f, name) {
			f.Add(l)
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("no class: %v", err)
			}
			return
		}
		once, err := r.Encode()
		if err != nil {
			return // grew beyond the limit
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("%s\n%v", once, err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s\n%s\n%v", once, twice, err)
		}
	})
}
