package node

import (
	"slices"
	"time"

	"outrider/mesh/envelope"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/compliance"
)

// archive tells chat whom the policies name as compliance readers.
type archive struct{ rules *policies }

var _ chat.Archive = archive{}

func (a archive) Changed() <-chan struct{} { return a.rules.Changed() }

// configMinute is what a config's time is cut to. It holds from the minute
// after on: nothing that was said before it was made is in its scope.
const configMinute = time.Minute

// Readers lists the readers of all groups with the earliest moment from which
// one of the versions in force names them.
func (a archive) Readers() []chat.ArchiveReader {
	st := a.rules.State()
	var out []chat.ArchiveReader
	for _, id := range st.ComplianceReaders() {
		r := chat.ArchiveReader{User: id}
		for _, g := range st.Groups {
			if from := g.NotBefore.Add(configMinute); g.Compliance == id && (r.Since.IsZero() || from.Before(r.Since)) {
				r.Since = from
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b chat.ArchiveReader) int { return a.User.Compare(b.User) })
	return out
}

// A scribe makes the archive's records of what a compliance reader's device
// got (features.md 2). Number, chain and the copy's path come with writing.
type scribe struct {
	network identity.NetworkID
	node    string // this one, as its records name it
}

// records returns the records of an entry: one, but of a call that is over its
// start and its end.
func (s scribe) records(e chat.ArchiveEntry) []*compliance.Record {
	r := &compliance.Record{
		MessageID: s.id(e.Ref), VGroupID: compliance.DirectGroup(s.network, e.Conversation),
		Sender: e.From.Name, Receiver: e.To.Name, SenderType: "normal",
	}
	at, clock := recordTime(e)
	age, hops := e.Age.Milliseconds(), e.Hops
	r.Outrider = &compliance.Extensions{
		Bundle: e.Bundle.String(), Node: s.node, Received: e.Received.UTC().Format(time.RFC3339), Clock: clock,
		AgeMS: &age, Hops: &hops, Sent: sentWord(e.Sent, at), From: e.From.ID.String(), To: e.To.ID.String(),
	}
	r.SetTime(at)
	if e.TTL > 0 {
		r.TTL = compliance.Moment(at.Add(e.TTL))
	}
	if e.Burn > 0 {
		r.BOR = compliance.Moment(at.Add(e.Burn))
	}
	if e.Type == chat.TypeCall {
		return s.call(r, e, at)
	}
	s.fill(r, e, at)
	return []*compliance.Record{r}
}

// sentWithin is how far an author's clock may be off what the message's way
// says, before the author is not believed.
const sentWithin = time.Hour

// recordTime is when a message was said, and by what clock. The author's word
// holds within an hour of when it came here by a trusted clock, less the age it
// was carried with: then that clock vouches for it. Else that moment is the
// time (features.md 2.9). Nothing was said after it came, or before 1970, which
// an age from outside could claim.
func recordTime(e chat.ArchiveEntry) (at time.Time, clock string) {
	at, clock = e.Received.Add(-e.Age), clockWord(e.Clock)
	switch {
	case e.Clock == chat.ClockUnsynced:
	case e.Sent.Sub(at).Abs() > sentWithin:
		clock = clockWord(chat.ClockUnsynced)
	case e.Sent.After(e.Received):
		at = e.Received
	default:
		at = e.Sent
	}
	return notBefore1970(at), clock
}

// notBefore1970 keeps a moment within what msg_ts can say.
func notBefore1970(t time.Time) time.Time {
	if epoch := time.Unix(0, 0); t.Before(epoch) {
		return epoch
	}
	return t
}

// clockWord is the format's word for a clock. The kernel does not tell NTP from
// a daemon that listens to GPS: both are ntp.
func clockWord(c chat.ClockSource) string {
	switch c {
	case chat.ClockTime:
		return "ntp"
	case chat.ClockPeer:
		return "peer"
	}
	return "unsynced"
}

// sentWord keeps what the author's clock said where the record has another
// time, and it can be written.
func sentWord(sent, at time.Time) string {
	sent = sent.UTC()
	if sent.Equal(at) || sent.Year() > 9999 {
		return ""
	}
	return sent.Format("2006-01-02T15:04:05.000Z07:00")
}

func (s scribe) id(r chat.Ref) string {
	return compliance.MessageID(s.network, r.Epoch, r.Device, r.Index)
}

// fill writes what was said.
func (s scribe) fill(r *compliance.Record, e chat.ArchiveEntry, at time.Time) {
	switch e.Type {
	case chat.TypeText:
		r.MsgType, r.Message = compliance.TypeText, e.Text
	case chat.TypeFile:
		r.MsgType = compliance.TypeFile
		r.File = &compliance.File{
			Filename: e.File.Name, GUID: compliance.GUID(r.MessageID), UploadedByUser: e.From.Name, UploadedTimestamp: compliance.Moment(at),
		}
		if !e.File.Complete {
			r.Outrider.File = "missing"
		}
	case chat.TypeLocation:
		s.location(r, e)
	case chat.TypeRecall:
		recalled := true
		r.MsgType = compliance.TypeRecall
		r.Control = &compliance.Control{MsgType: compliance.TypeRecall, IsRecall: &recalled, MsgID: s.id(*e.About)}
	}
}

// location: the first position of a live share opens it as a static one does,
// the others are edits of it.
func (s scribe) location(r *compliance.Record, e chat.ArchiveEntry) {
	lat, lon := compliance.Degrees(e.Location.Lat), compliance.Degrees(e.Location.Lon)
	if e.About == nil {
		r.MsgType, r.Location = compliance.TypeLocation, &compliance.Location{Latitude: lat, Longitude: lon}
		return
	}
	until := ""
	if f := e.Location.Fix; f != nil && !f.Until.IsZero() {
		until = compliance.Moment(f.Until)
	}
	r.MsgType = compliance.TypeEdit
	r.Edit = &compliance.Edit{Type: "location", Latitude: &lat, Longitude: &lon, ShareExpiration: &until}
	r.Outrider.Share = s.id(*e.About)
}

// call writes the start and the end of a call. Its author, the caller, tells
// both at once, when it is over; one that told of a call that still runs would
// tell a start. A declined call is a cancelled one here.
func (s scribe) call(r *compliance.Record, e chat.ArchiveEntry, at time.Time) []*compliance.Record {
	r.MsgType = compliance.TypeCall
	start, x := *r, *r.Outrider
	start.Outrider = &x
	start.Call = &compliance.Call{
		Status: compliance.CallStarting, Version: 2, VersionCheck: true,
		Participants: []string{compliance.ParticipantHash(s.network, e.From.Name), compliance.ParticipantHash(s.network, e.To.Name)},
	}
	if e.Call.Status == envelope.CallStarting {
		return []*compliance.Record{&start}
	}
	start.MessageID = compliance.StartID(r.MessageID)
	start.SetTime(callBegan(e, at))
	seconds := int64(e.Call.Duration / time.Second)
	r.Call = &compliance.Call{
		Status: int(min(e.Call.Status, envelope.CallCancelled)), Version: 2, VersionCheck: true, StartMsgID: start.MessageID, Duration: &seconds,
	}
	return []*compliance.Record{&start, r}
}

// callBegan is when a call began whose end was told at a moment. Both are by
// the caller's clock, so what lies between them counts: the ringing and the
// duration. Ringing for more than an hour is not believed.
func callBegan(e chat.ArchiveEntry, end time.Time) time.Time {
	took := e.Sent.Sub(e.Call.Began)
	if took < e.Call.Duration || took-e.Call.Duration > sentWithin {
		took = e.Call.Duration
	}
	return notBefore1970(end.Add(-took))
}

// archiveHealth tells an operator how the archive stands.
func (n *Node) archiveHealth() (out []api.HealthArchive) {
	for _, h := range n.chat.ArchiveHealth() {
		out = append(out, api.HealthArchive{
			Reader: h.Reader.Name, Keys: h.Keys, Here: h.Here, Waiting: h.Waiting, Oldest: h.Oldest, Records: h.Records, Folder: h.Folder, Seen: h.Seen,
		})
	}
	return out
}
