package api

import (
	"time"

	"outrider/node/chat"
)

// The JSON forms. Field names are part of the interface: see API.md.

// stamp writes a time as RFC 3339 in UTC with milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func stampOrNil(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

type personJSON struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type userJSON struct {
	personJSON
	Self    bool `json:"self"`
	Here    bool `json:"here"`
	HasKeys bool `json:"has_keys"`
	Devices int  `json:"devices"`

	Fingerprint string `json:"fingerprint,omitempty"`
	Verified    bool   `json:"verified"`
	KeyChanged  bool   `json:"key_changed"`
	Frozen      bool   `json:"frozen,omitempty"`
}

type fileJSON struct {
	Name      string `json:"name"`
	Size      uint64 `json:"size"`
	MediaType string `json:"media_type"`
	Have      uint64 `json:"have"`
	Total     uint64 `json:"total"`
	Complete  bool   `json:"complete"`
}

type locationJSON struct {
	Lat       float64 `json:"lat"`
	Lon       float64 `json:"lon"`
	AccuracyM uint32  `json:"accuracy_m,omitempty"`
	Note      string  `json:"note,omitempty"`
	Live      bool    `json:"live,omitempty"`
	MGRS      string  `json:"mgrs,omitempty"`
	Time      *string `json:"time,omitempty"`
	StaleAt   *string `json:"stale_at,omitempty"`
	LiveUntil *string `json:"live_until,omitempty"`
	Source    string  `json:"source,omitempty"`
}

type deliveredJSON struct {
	N int `json:"n"`
	M int `json:"m"`
}

type messageJSON struct {
	ID           string         `json:"id"`
	Conversation string         `json:"conversation"`
	From         personJSON     `json:"from"`
	To           personJSON     `json:"to"`
	Outgoing     bool           `json:"outgoing"`
	Type         string         `json:"type"`
	Text         *string        `json:"text,omitempty"`
	File         *fileJSON      `json:"file,omitempty"`
	Location     *locationJSON  `json:"location,omitempty"`
	Call         *callLogJSON   `json:"call,omitempty"`
	Precedence   string         `json:"precedence"`
	Sent         string         `json:"sent"`
	Received     *string        `json:"received,omitempty"`
	Expires      string         `json:"expires"`
	BurnS        int64          `json:"burn_s,omitempty"`
	State        string         `json:"state"`
	Delivered    *deliveredJSON `json:"delivered,omitempty"`
	ReasonCode   string         `json:"reason_code,omitempty"`
	Reason       string         `json:"reason,omitempty"`
	Hint         string         `json:"hint,omitempty"`
	Hops         *int           `json:"hops,omitempty"`
	Unread       bool           `json:"unread"`
	Dismissed    bool           `json:"dismissed,omitempty"`
	Withheld     string         `json:"withheld,omitempty"` // the group whose policy keeps the content back
}

type conversationJSON struct {
	ID     string       `json:"id"`
	Kind   string       `json:"kind"`
	With   personJSON   `json:"with"`
	Last   *messageJSON `json:"last"`
	Unread int          `json:"unread"`
}

type whyJSON struct {
	Message messageJSON `json:"message"`
	State   string      `json:"state"`
	Summary string      `json:"summary"`
	Facts   []string    `json:"facts"`
	Next    string      `json:"next"`
	Todo    string      `json:"todo"`

	SummarySaid sentenceJSON   `json:"summary_said"`
	FactsSaid   []sentenceJSON `json:"facts_said"`
	NextSaid    *sentenceJSON  `json:"next_said,omitempty"`
	TodoSaid    *sentenceJSON  `json:"todo_said,omitempty"`
}

// sentenceJSON is a sentence as code and arguments, for clients that say it
// in the user's language.
type sentenceJSON struct {
	Code string         `json:"code"`
	Args map[string]any `json:"args,omitempty"`
}

type bannerJSON struct {
	State    string  `json:"state"`
	Contacts int     `json:"contacts"`
	CoreLast *string `json:"core_last"`
}

type linkJSON struct {
	Node      string  `json:"node"`
	Name      string  `json:"name"`
	Addr      string  `json:"addr"`
	Class     string  `json:"class"`
	Up        bool    `json:"up"`
	Since     *string `json:"since"`
	TxBytes   uint64  `json:"tx_bytes"`
	RxBytes   uint64  `json:"rx_bytes"`
	LastHeard *string `json:"last_heard"`
	Blocked   bool    `json:"blocked"`
}

type contactJSON struct {
	Node    string  `json:"node"`
	Name    string  `json:"name"`
	Class   string  `json:"class"`
	Start   string  `json:"start"`
	End     *string `json:"end"`
	TxBytes uint64  `json:"tx_bytes"`
	RxBytes uint64  `json:"rx_bytes"`
	Times   int     `json:"times"`
}

type peerJSON struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Addrs     []string `json:"addrs"`
	Up        bool     `json:"up"`
	Blocked   bool     `json:"blocked"`
	LastHeard *string  `json:"last_heard"`
}

func personView(p chat.Person) personJSON { return personJSON{ID: p.ID.String(), Name: p.Name} }

func userView(p chat.Person) userJSON {
	return userJSON{
		personJSON: personView(p), Self: p.Self, Here: p.Here, HasKeys: p.HasKeys, Devices: p.Devices,
		Fingerprint: p.Fingerprint, Verified: p.Verified, KeyChanged: p.KeyChanged, Frozen: p.Frozen,
	}
}

func messageView(m chat.Message) messageJSON {
	v := messageJSON{
		ID: m.ID.String(), Conversation: m.Conversation.String(), From: personView(m.From), To: personView(m.To),
		Outgoing: m.Out, Type: string(m.Type), Precedence: m.Precedence.String(), Sent: stamp(m.Sent),
		Received: stampOrNil(m.Received), Expires: stamp(m.Expires), BurnS: int64(m.BurnAfter / time.Second),
		State: string(m.State), ReasonCode: m.Reason.Code, Reason: m.Reason.Text, Hint: m.Reason.Hint, Unread: m.Unread, Dismissed: m.Dismissed,
		Withheld: m.Withheld,
	}
	if m.Type == chat.TypeText && m.State != chat.StateRecalled {
		v.Text = &m.Text
	}
	if f := m.File; f != nil {
		v.File = &fileJSON{Name: f.Name, Size: f.Size, MediaType: f.MediaType, Have: f.Have, Total: f.Total, Complete: f.Complete}
	}
	if l := m.Location; l != nil {
		v.Location = locationView(l, m.Sent)
	}
	v.Call = callLogView(m.Call)
	if m.Out {
		if m.Devices > 0 {
			v.Delivered = &deliveredJSON{N: m.Delivered, M: m.Devices}
		}
	} else {
		v.Hops = &m.Hops
	}
	return v
}

func messageViews(ms []chat.Message) []messageJSON {
	out := make([]messageJSON, len(ms))
	for i, m := range ms {
		out[i] = messageView(m)
	}
	return out
}

func conversationView(c chat.Conversation) conversationJSON {
	v := conversationJSON{ID: c.ID.String(), Kind: "dm", With: personView(c.With), Unread: c.Unread}
	if c.Last != nil {
		m := messageView(*c.Last)
		v.Last = &m
	}
	return v
}

func whyView(w chat.Why) whyJSON {
	v := whyJSON{
		Message: messageView(w.Message), State: string(w.Message.State),
		Summary: w.Summary.String(), Facts: make([]string, len(w.Facts)), Next: w.Next.String(), Todo: w.Todo.String(),
		SummarySaid: sentenceJSON(w.Summary), FactsSaid: make([]sentenceJSON, len(w.Facts)),
		NextSaid: sentenceOrNil(w.Next), TodoSaid: sentenceOrNil(w.Todo),
	}
	for i, f := range w.Facts {
		v.Facts[i], v.FactsSaid[i] = f.String(), sentenceJSON(f)
	}
	return v
}

func sentenceOrNil(s chat.Sentence) *sentenceJSON {
	if s.Code == "" {
		return nil
	}
	return (*sentenceJSON)(&s)
}

func bannerView(b chat.Banner) bannerJSON {
	return bannerJSON{State: string(b.State), Contacts: b.Contacts, CoreLast: stampOrNil(b.CoreLast)}
}

func linkView(l Link) linkJSON {
	return linkJSON{
		Node: l.Peer.String(), Name: l.Name, Addr: l.Addr, Class: l.Class, Up: l.Up, Since: stampOrNil(l.Since),
		TxBytes: l.TxBytes, RxBytes: l.RxBytes, LastHeard: stampOrNil(l.LastHeard), Blocked: l.Blocked,
	}
}

func contactView(c Contact) contactJSON {
	return contactJSON{
		Node: c.Peer.String(), Name: c.Name, Class: c.Class, Start: stamp(c.Start), End: stampOrNil(c.End),
		TxBytes: c.TxBytes, RxBytes: c.RxBytes, Times: c.Times,
	}
}

func linkViews(ls []Link) []linkJSON {
	out := make([]linkJSON, len(ls))
	for i, l := range ls {
		out[i] = linkView(l)
	}
	return out
}

func peerView(p Peer) peerJSON {
	addrs := p.Addrs
	if addrs == nil {
		addrs = []string{}
	}
	return peerJSON{ID: p.ID.String(), Name: p.Name, Addrs: addrs, Up: p.Up, Blocked: p.Blocked, LastHeard: stampOrNil(p.LastHeard)}
}
