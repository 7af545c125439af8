package node

import (
	"cmp"
	"slices"
	"time"

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

// record makes the archive's record of what a compliance reader's device got
// (features.md 2). Number, chain and the copy's path come with writing.
func (n *Node) record(e chat.ArchiveEntry) *compliance.Record {
	network := n.root.ID()
	r := &compliance.Record{
		MessageID: messageID(network, e.Ref), VGroupID: compliance.DirectGroup(network, e.Conversation),
		Sender: e.From.Name, Receiver: e.To.Name, SenderType: "normal",
	}
	age, hops := e.Age.Milliseconds(), e.Hops
	r.Outrider = &compliance.Extensions{
		Bundle: e.Bundle.String(), Node: n.home.ID().Short(), Received: e.Received.UTC().Format(time.RFC3339), Clock: n.clockWord(e.Trusted),
		AgeMS: &age, Hops: &hops, From: e.From.ID.String(), To: e.To.ID.String(),
	}
	at := recordTime(e)
	r.SetTime(at)
	if e.TTL > 0 {
		r.TTL = compliance.Moment(at.Add(e.TTL))
	}
	if e.Burn > 0 {
		r.BOR = compliance.Moment(at.Add(e.Burn))
	}
	fillRecord(network, r, e, at)
	return r
}

// recordTime is when a message was said. Without a trusted clock here it is
// when it came, less the age it was carried with (features.md 2.9); nothing
// was said after it came.
func recordTime(e chat.ArchiveEntry) time.Time {
	if !e.Trusted {
		return e.Received.Add(-e.Age)
	}
	if e.Sent.After(e.Received) {
		return e.Received
	}
	return e.Sent
}

// clockWord says where the archive's time came from.
func (n *Node) clockWord(trusted bool) string {
	if trusted {
		return "ntp"
	}
	return "unsynced"
}

func messageID(network identity.NetworkID, r chat.Ref) string {
	return compliance.MessageID(network, r.Epoch, r.Device, r.Index)
}

// fillRecord writes what was said.
func fillRecord(network identity.NetworkID, r *compliance.Record, e chat.ArchiveEntry, at time.Time) {
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
		fillLocation(network, r, e)
	case chat.TypeRecall:
		recalled := true
		r.MsgType = compliance.TypeRecall
		r.Control = &compliance.Control{MsgType: compliance.TypeRecall, IsRecall: &recalled, MsgID: messageID(network, *e.About)}
	case chat.TypeCall:
		fillCall(network, r, e)
	}
}

// fillLocation: the first position of a live share opens it as a static one
// does, the others are edits of it.
func fillLocation(network identity.NetworkID, r *compliance.Record, e chat.ArchiveEntry) {
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
	r.Outrider.Share = messageID(network, *e.About)
}

// fillCall: a call is told once, when it is over; status 3 is cancelled, which
// a declined one is too.
func fillCall(network identity.NetworkID, r *compliance.Record, e chat.ArchiveEntry) {
	r.MsgType = compliance.TypeCall
	r.Call = &compliance.Call{
		Status: int(min(e.Call.Status, 3)), Version: 2, VersionCheck: true,
		Participants: []string{compliance.ParticipantHash(network, e.From.Name), compliance.ParticipantHash(network, e.To.Name)},
	}
	slices.SortFunc(r.Call.Participants, cmp.Compare[string])
	if r.Call.Status == 1 {
		s := int64(e.Call.Duration / time.Second)
		r.Call.Duration = &s
	}
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
