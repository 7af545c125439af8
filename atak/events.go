package atak

import (
	"crypto/rand"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"

	"outrider/atak/cot"
)

// uidPrefix marks the uids under which people of the network appear. The rest
// is the person's id, so a uid is the same on every node and names the person
// whatever the device.
const uidPrefix = "OUTRIDER-"

func uidOf(p PersonID) string { return uidPrefix + string(p) }

// personOf undoes uidOf.
func personOf(uid string) (PersonID, bool) {
	id, ok := strings.CutPrefix(uid, uidPrefix)
	return PersonID(id), ok && id != ""
}

// nodeUID is the node itself, when it has something to say.
const nodeUID = "OUTRIDER.node"

// viaServer is the endpoint of everybody who is reached through the server.
const viaServer = "*:-1:stcp"

func newUID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}

// event makes an event of now that is nowhere.
func (s *Server) event(uid, kind, how string, holds time.Duration, detail ...cot.Element) cot.Event {
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	detail = append(detail, cot.E("_flow-tags_", s.tag, now.Format(time.RFC3339)))
	return cot.Event{UID: uid, Type: kind, How: how, Time: now, Start: now, Stale: now.Add(holds), Point: cot.NoPoint, Detail: detail}
}

// negotiation is how version 1 is agreed on: tak.md, section 3.
const negotiationTime = time.Minute

func (s *Server) control(kind string, child ...cot.Element) cot.Event {
	e := s.event("protouid", kind, "m-g", negotiationTime)
	e.Point = cot.Point{CE: 999999, LE: 999999}
	e.Detail = []cot.Element{cot.E("TakControl").With(child...)}
	return e
}

func (s *Server) offerVersion() cot.Event {
	return s.control("t-x-takp-v", cot.E("TakProtocolSupport", "version", "1"),
		cot.E("TakServerVersionInfo", "serverVersion", "Outrider-"+s.cfg.Version, "apiVersion", "3"))
}

func (s *Server) answerVersion(yes bool) cot.Event {
	return s.control("t-x-takp-r", cot.E("TakResponse", "status", strconv.FormatBool(yes)))
}

func (s *Server) pong() cot.Event { return s.event("takPong", "t-x-c-t-r", "m-g", 20*time.Second) }

// track is where somebody is. Its times are those of the fix, so that a client
// shows its true age and grays it when it is over.
func (s *Server) track(p Person, at Position) cot.Event {
	callsign := p.Name
	if at.Callsign != "" {
		callsign = at.Callsign
	}
	span := at.Span
	if span <= 0 {
		span = defaultSpan
	}
	e := s.event(uidOf(p.ID), "a-f-G-U-C", "h-e", span, cot.E("contact", "callsign", callsign, "endpoint", viaServer), cot.E("uid", "Droid", callsign),
		cot.E("__group", "name", "Cyan", "role", "Team Member"), cot.E("takv", "device", "node", "platform", "Outrider", "os", "linux", "version", s.cfg.Version))
	if fix := at.Time.UTC().Truncate(time.Millisecond); !at.Time.IsZero() && fix.Before(e.Time) { // a clock ahead of ours makes nothing newer than now
		e.Time, e.Start, e.Stale = fix, fix, fix.Add(span)
	}
	if at.How != "" {
		e.How = at.How
	}
	e.Point = cot.Point{Lat: at.Lat, Lon: at.Lon, HAE: at.HAE, CE: at.CE, LE: cot.Unknown}
	if at.Speed >= 0 && at.Course >= 0 {
		e.Detail = append(e.Detail, cot.E("track", "speed", decimal(at.Speed), "course", decimal(at.Course)))
	}
	var remarks []string
	if callsign != p.Name {
		remarks = append(remarks, p.Name)
	}
	if at.Note != "" {
		remarks = append(remarks, at.Note)
	}
	if len(remarks) > 0 {
		r := cot.E("remarks")
		r.Text = strings.Join(remarks, ": ")
		e.Detail = append(e.Detail, r)
	}
	return e
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// positionOf reads an own event of a device.
func positionOf(e cot.Event) Position {
	p := Position{
		Lat: e.Point.Lat, Lon: e.Point.Lon, HAE: e.Point.HAE, CE: e.Point.CE, Course: -1, Speed: -1, Time: e.Time,
		Span: min(e.Span(), maxSpan), How: e.How, Callsign: e.Callsign(),
	}
	if cot.IsUnknown(p.HAE) {
		p.HAE = cot.Unknown
	}
	if cot.IsUnknown(p.CE) || p.CE < 0 {
		p.CE = cot.Unknown
	}
	track := e.Find("track")
	course, err1 := strconv.ParseFloat(track.Attr("course"), 64)
	speed, err2 := strconv.ParseFloat(track.Attr("speed"), 64)
	if err1 == nil && err2 == nil && course >= 0 && course < 360 && speed >= 0 && !math.IsInf(speed, 0) {
		p.Course, p.Speed = course, speed
	}
	return p
}

// A conversation is what a chat event says of its place, which receipts must
// repeat.
type conversation struct {
	chatroom, id, parent, owner string
}

// chat is a text for the person at a device.
func (s *Server) chat(from PersonID, name, uid, callsign, id, text string, sent time.Time) cot.Event {
	who := nodeUID
	if from != "" {
		who = uidOf(from)
	}
	e := s.event("GeoChat."+who+"."+uid+"."+id, "b-t-f", "h-g-i-g-o", chatTime,
		cot.E("__chat", "parent", "RootContactGroup", "groupOwner", "false", "messageId", id, "chatroom", callsign, "id", uid, "senderCallsign", name).
			With(cot.E("chatgrp", "uid0", who, "uid1", uid, "id", uid)),
		cot.E("link", "uid", who, "type", "a-f-G-U-C", "relation", "p-p"))
	at := sent.UTC().Truncate(time.Millisecond)
	if !sent.IsZero() && at.Before(e.Time) {
		e.Time, e.Start = at, at // the original time; stale stays a day from now, or a late message would be dropped
	}
	remarks := cot.E("remarks", "source", "BAO.F.ATAK."+who, "to", uid, "time", e.Time.Format(time.RFC3339Nano))
	remarks.Text = text
	e.Detail = append(e.Detail, remarks)
	return e
}

// notice is a text of the node itself.
func (s *Server) notice(uid, callsign, text string) cot.Event {
	return s.chat("", "Outrider", uid, callsign, newUID(), text, time.Time{})
}

// receipt tells a device how far its message has come: b-t-f-d or b-t-f-r.
func (s *Server) receipt(kind string, from Person, uid, id string, at conversation) cot.Event {
	return s.event(id, kind, "m-g", chatTime,
		cot.E("__chatreceipt", "parent", at.parent, "groupOwner", at.owner, "messageId", id, "chatroom", at.chatroom, "id", at.id, "senderCallsign", from.Name).
			With(cot.E("chatgrp", "uid0", uidOf(from.ID), "uid1", uid, "id", at.id)),
		cot.E("link", "uid", uidOf(from.ID), "type", "a-f-G-U-C", "relation", "p-p"))
}

// offer tells a device of a file it can fetch here.
func (s *Server) offer(m Message, f entry, url string) cot.Event {
	name := strings.TrimSuffix(f.Name, ".zip")
	return s.event(newUID(), "b-f-t-r", "h-e", offerTime,
		cot.E("fileshare", "filename", f.Name, "senderUrl", url, "sizeInBytes", strconv.FormatInt(f.Size, 10), "sha256", f.Hash,
			"senderUid", uidOf(m.Peer.ID), "senderCallsign", m.Peer.Name, "name", name),
		cot.E("ackrequest", "uid", string(m.ID), "ackrequested", "true", "tag", name, "endpoint", viaServer))
}

// acknowledge answers a device's offer of a file.
func (s *Server) acknowledge(to PersonID, request, tag, hash string, size int64, failure string) cot.Event {
	a := cot.E("ackresponse", "uid", request, "senderUid", uidOf(to), "success", strconv.FormatBool(failure == ""), "tag", tag,
		"reason", failure, "sha256", hash, "sizeInBytes", strconv.FormatInt(size, 10))
	return s.event(newUID(), "b-f-t-a", "m-g", offerTime, a)
}
