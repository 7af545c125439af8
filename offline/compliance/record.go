package compliance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// MsgType is the kind of a record: features.md 2.3.
type MsgType int

// The kinds of records. 4013 is reserved and never written.
const (
	TypeText         MsgType = 1000
	TypeVerify       MsgType = 3000
	TypeCreateRoom   MsgType = 4001
	TypeMembers      MsgType = 4002
	TypeLeaveRoom    MsgType = 4003
	TypeRoomSettings MsgType = 4004
	TypeDeleteRoom   MsgType = 4005
	TypeRecall       MsgType = 4011
	TypeAttributes   MsgType = 4012
	TypeSync         MsgType = 4013
	TypePrivate      MsgType = 4014
	TypeFile         MsgType = 6000
	TypeCall         MsgType = 7000
	TypeLocation     MsgType = 8000
	TypeEdit         MsgType = 9000
)

// Flags of Control.ChangeMask: which fields a record sets. 64 is missing from
// the published table (features.md 2.10).
const (
	ChangeMasters     = 1
	ChangeTTL         = 2
	ChangeTitle       = 4
	ChangeDescription = 8
	ChangeMeetingKey  = 16
	ChangeBOR         = 32
	ChangeSaved       = 64
)

// A Record is one line of the journal. Its fields stand in the order of their
// keys, which is the order of the lines.
type Record struct {
	BOR        string      `json:"bor,omitempty"` // moment, in the form of time
	Call       *Call       `json:"call,omitempty"`
	Control    *Control    `json:"control,omitempty"`
	Edit       *Edit       `json:"edit,omitempty"`
	File       *File       `json:"file,omitempty"`
	ID         string      `json:"id,omitempty"` // older name of message_id
	KeyVerify  *KeyVerify  `json:"keyverify,omitempty"`
	Links      []Link      `json:"links,omitempty"`
	Location   *Location   `json:"location,omitempty"`
	Message    string      `json:"message,omitempty"`
	MessageID  string      `json:"message_id,omitempty"`
	MsgTS      string      `json:"msg_ts,omitempty"` // seconds and microseconds since 1970
	MsgType    MsgType     `json:"msgtype"`
	Receiver   string      `json:"receiver,omitempty"` // one-to-one only
	Sender     string      `json:"sender,omitempty"`
	SenderType string      `json:"sender_type,omitempty"` // normal or guest
	Time       string      `json:"time,omitempty"`
	TimeISO    string      `json:"time_iso,omitempty"`
	TTL        string      `json:"ttl,omitempty"` // moment, in the form of time
	VGroupID   string      `json:"vgroupid,omitempty"`
	Outrider   *Extensions `json:"x_outrider,omitempty"`
}

// A Link stands in a text.
type Link struct {
	URL string `json:"url"`
}

// A File is a transfer or a voice memo: features.md 2.5.
type File struct {
	Filename          string `json:"filename"`
	GUID              string `json:"guid"`
	IsScreenshot      *bool  `json:"isscreenshot,omitempty"`
	LocalFilename     string `json:"localfilename,omitempty"` // full path of the copy; missing if the file never came
	UploadedByUser    string `json:"uploadedbyuser,omitempty"`
	UploadedTimestamp string `json:"uploadedtimestamp,omitempty"`
}

// A KeyVerify is a step of a verification: 1 request, 2 response and request,
// 3 acceptance, 4 rejection, 5 not now. VerifiedKey is hex.
type KeyVerify struct {
	MsgType     int    `json:"msgtype"`
	VerifiedKey string `json:"verifiedkey,omitempty"`
}

// A Control changes a room or a message: features.md 2.7. Times are seconds.
type Control struct {
	AddedUsers    []string    `json:"addedusers,omitempty"`
	Attributes    []Attribute `json:"attributes,omitempty"`
	BOR           *int64      `json:"bor,omitempty"`
	ChangeMask    *int        `json:"changemask,omitempty"`
	DeletedUsers  []string    `json:"deletedusers,omitempty"`
	Description   *string     `json:"description,omitempty"`
	FileVaultInfo *SavedItem  `json:"filevaultinfo,omitempty"`
	IsRecall      *bool       `json:"isrecall,omitempty"` // false: deleted
	Masters       []string    `json:"masters,omitempty"`
	Members       []string    `json:"members,omitempty"`
	MsgID         string      `json:"msgid,omitempty"`
	MsgType       MsgType     `json:"msgtype"` // repeats the outer value
	Pinned        *bool       `json:"pinned,omitempty"`
	Title         *string     `json:"title,omitempty"`
	TTL           *int64      `json:"ttl,omitempty"`
}

// An Attribute stars a message.
type Attribute struct {
	IsStarred bool   `json:"isstarred"`
	MsgID     string `json:"msgid"`
}

// A SavedItem is a file kept in a room. Key opens it: the archive is secret.
type SavedItem struct {
	FileHash string `json:"filehash"`
	GUID     string `json:"guid,omitempty"`
	Key      string `json:"key"`
	QUID     string `json:"quid,omitempty"` // what the published example calls guid
}

// The status of a call in a record: features.md 2.8.
const (
	CallStarting  = 0
	CallCompleted = 1
	CallMissed    = 2
	CallCancelled = 3
)

// A Call is a step of a call: features.md 2.8.
type Call struct {
	CallURI      string   `json:"calluri,omitempty"`
	CallURIIPv6  string   `json:"calluriipv6,omitempty"`
	Duration     *int64   `json:"duration,omitempty"` // whole seconds
	InviteMsgID  string   `json:"invitemsgid,omitempty"`
	MeetingID    int64    `json:"meetingid"`
	Participants []string `json:"participants,omitempty"` // of a start: ParticipantHash of sender and receiver, in this order
	StartMsgID   string   `json:"startmsgid,omitempty"`
	Status       int      `json:"status"`
	Version      int      `json:"version"`
	VersionCheck bool     `json:"versioncheck"`
}

// Degrees are written as decimals, never with an exponent.
type Degrees float64

// MarshalJSON refuses what is no position.
func (d Degrees) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(d)) || math.Abs(float64(d)) > 180 {
		return nil, fmt.Errorf("compliance: not a coordinate: %w", ErrMalformed)
	}
	return strconv.AppendFloat(nil, float64(d), 'f', -1, 64), nil
}

// A Location is a static share.
type Location struct {
	Latitude  Degrees `json:"latitude"`
	Longitude Degrees `json:"longitude"`
}

// An Edit changes a text or goes on with a live share.
type Edit struct {
	Latitude          *Degrees `json:"latitude,omitempty"`
	Longitude         *Degrees `json:"longitude,omitempty"`
	OriginalMessageID string   `json:"originalmessageid,omitempty"`
	ShareExpiration   *string  `json:"shareexpiriation,omitempty"` // misspelled in the original; empty when no end is set
	Text              *string  `json:"text,omitempty"`
	Type              string   `json:"type"` // text or location
}

// Extensions is what Outrider adds: features.md 2.9. Those after Sig are ours
// beyond its example.
type Extensions struct {
	Bundle   string   `json:"bundle,omitempty"`   // the bundle it came in
	Node     string   `json:"node,omitempty"`     // the node that archived it
	Received string   `json:"received,omitempty"` // RFC 3339, UTC
	Clock    string   `json:"clock,omitempty"`    // gnss, ntp, peer, rtc, unsynced
	AgeMS    *int64   `json:"age_ms,omitempty"`   // the bundle's carried age
	Hops     *int     `json:"hops,omitempty"`
	Path     []string `json:"path,omitempty"`
	Sig      string   `json:"sig,omitempty"`
	Sent     string   `json:"sent,omitempty"`   // RFC 3339, UTC: what the author's clock said, where msg_ts is not that
	Share    string   `json:"share,omitempty"`  // live update: the message that opened the share
	From     string   `json:"from,omitempty"`   // user id of the sender
	To       string   `json:"to,omitempty"`     // user id of the receiver
	File     string   `json:"file,omitempty"`   // "missing": its content never came, or was not what was announced
	SHA256   string   `json:"sha256,omitempty"` // of the attachment
	N        uint64   `json:"n,omitempty"`      // number of the record in the archive, from 1
	Prev     string   `json:"prev,omitempty"`   // SHA-256 of the line before; of Genesis in the first
}

// Encode makes the line of a record, without its line feed.
func (r *Record) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("compliance: encode record: %w", err)
	}
	line := bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
	if len(line) > MaxRecord {
		return nil, fmt.Errorf("compliance: encode record: %d bytes, at most %d: %w", len(line), MaxRecord, ErrMalformed)
	}
	return line, nil
}

// The forms of a moment: features.md 2.2.
const (
	layoutTime = "1/2/06 3:04 PM"
	layoutISO  = "2006-01-02 15:04:05.000"
)

// Moment is the form of time, ttl and bor.
func Moment(t time.Time) string { return t.UTC().Format(layoutTime) }

// SetTime fills msg_ts, time and time_iso.
func (r *Record) SetTime(t time.Time) {
	t = t.UTC().Truncate(time.Microsecond)
	r.MsgTS = fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000)
	r.Time, r.TimeISO = Moment(t), t.Format(layoutISO)
}

// When reads msg_ts, whose fraction may have one to nine digits.
func (r *Record) When() (time.Time, error) { return parseTS(r.MsgTS) }

func ptr[T any](v T) *T { return &v }
