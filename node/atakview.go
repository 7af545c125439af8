package node

import (
	"math"
	"strings"
	"time"

	"outrider/atak"
	"outrider/atak/cot"
	"outrider/node/chat"
)

// atakMessage tells the bridge of a message in the bridge's words.
func atakMessage(m chat.Message) atak.Message {
	peer := m.From
	if m.Out {
		peer = m.To
	}
	out := atak.Message{
		ID: atak.MessageID(m.ID.String()), Peer: atakPerson(peer), Out: m.Out, Text: m.Text, Sent: m.Sent, Expires: m.Expires, Unread: m.Unread && m.State != chat.StateRecalled,
		Delivered: m.State == chat.StateDelivered || m.State == chat.StateRead, Read: m.State == chat.StateRead,
	}
	if m.State == chat.StateFailed || m.State == chat.StateExpired {
		out.Failed = m.Reason.Text
	}
	if m.Withheld != "" && !m.Out {
		out.Withheld = m.Reason.Text
	}
	switch {
	case m.Type == chat.TypeFile && out.Withheld != "":
		out.Kind = atak.Package
	case m.Type == chat.TypeLocation && out.Withheld != "":
		out.Kind = atak.Place
	case m.Type == chat.TypeText:
		out.Kind = atak.Text
	case m.Type == chat.TypeFile && m.File != nil:
		out.Kind = atak.Package
		out.File = atak.File{Name: m.File.Name, MediaType: m.File.MediaType, Size: int64(m.File.Size), Complete: m.File.Complete}
	case m.Type == chat.TypeLocation && m.State == chat.StateRecalled: // its content is gone, and whether it was live with it
		out.Kind, out.Gone = atak.Mark, true
	case m.Type == chat.TypeLocation && m.Location != nil && m.Location.Live:
		out.Kind, out.Position = atak.Place, takPosition(m)
	case m.Type == chat.TypeLocation && m.Location != nil:
		out.Kind, out.Position = atak.Mark, takPosition(m)
	}
	return out
}

var hows = map[chat.Source]string{chat.SourceGPS: "m-g", chat.SourceEntered: "h-e", chat.SourceMachine: "m-p"}

// takPosition is a received location.
func takPosition(m chat.Message) atak.Position {
	l := m.Location
	p := atak.Position{
		Lat: l.Lat, Lon: l.Lon, HAE: cot.Unknown, CE: cot.Unknown, Course: -1, Speed: -1, Time: m.Sent, Note: l.Note,
	}
	if l.AccuracyM > 0 {
		p.CE = float64(l.AccuracyM)
	}
	f := l.Fix
	if f == nil {
		return p
	}
	p.How, p.Span, p.Callsign = hows[f.Source], f.Holds, f.Callsign
	if !f.At.IsZero() && f.At.Before(m.Sent) {
		p.Time = f.At
	}
	if goes := f.Until.Sub(f.At); !f.Until.IsZero() && (p.Span == 0 || goes < p.Span) {
		p.Span = max(goes, time.Second) // a share that has ended says nothing of now
	}
	if !math.IsNaN(f.AltitudeM) {
		p.HAE = f.AltitudeM
	}
	if !math.IsNaN(f.CourseDeg) && !math.IsNaN(f.SpeedMS) {
		p.Course, p.Speed = f.CourseDeg, f.SpeedMS
	}
	return p
}

// chatLocation is a position as it is sent.
func chatLocation(p atak.Position) chat.Location {
	l := chat.Location{Lat: p.Lat, Lon: p.Lon, Note: p.Note, Live: true}
	if !cot.IsUnknown(p.CE) {
		l.AccuracyM = uint32(min(math.Ceil(p.CE), math.MaxUint32))
	}
	f := &chat.Fix{At: p.Time, Holds: p.Span, AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.NaN(), Source: takSource(p.How), Callsign: oneLine(p.Callsign)}
	if !cot.IsUnknown(p.HAE) {
		f.AltitudeM = p.HAE
	}
	if p.Course >= 0 && p.Speed >= 0 {
		f.CourseDeg, f.SpeedMS = p.Course, p.Speed
	}
	l.Fix = f
	return l
}

func takSource(how string) chat.Source {
	switch {
	case how == "m-g":
		return chat.SourceGPS
	case strings.HasPrefix(how, "h-"):
		return chat.SourceEntered
	case strings.HasPrefix(how, "m-"):
		return chat.SourceMachine
	}
	return chat.SourceUnknown
}

// oneLine cuts a callsign to what a message takes.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.ToValidUTF8(s[:min(len(s), chat.MaxCallsign)], "")
}
