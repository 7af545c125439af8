package main

import "time"

// The API's answers, as far as text output shows them; node/api/API.md is
// their reference. JSON output hands on all fields, known or not.

type person struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Self    bool   `json:"self"`
	Here    bool   `json:"here"`
	HasKeys bool   `json:"has_keys"`
	Devices int    `json:"devices"`
}

// label is how a person is shown: by name, else by id.
func (p person) label() string {
	if p.Name == "" {
		return p.ID
	}
	return p.Name
}

type message struct {
	ID           string    `json:"id"`
	Conversation string    `json:"conversation"`
	Outgoing     bool      `json:"outgoing"`
	From         person    `json:"from"`
	To           person    `json:"to"`
	Type         string    `json:"type"`
	Text         string    `json:"text"`
	File         *file     `json:"file"`
	Location     *location `json:"location"`
	Precedence   string    `json:"precedence"`
	Sent         time.Time `json:"sent"`
	Received     time.Time `json:"received"`
	Expires      time.Time `json:"expires"`
	State        string    `json:"state"`
	Delivered    *struct {
		N int `json:"n"`
		M int `json:"m"`
	} `json:"delivered"`
	ReasonCode string `json:"reason_code"`
	Reason     string `json:"reason"`
	Hint       string `json:"hint"`
	Hops       int    `json:"hops"`

	Withheld string `json:"withheld"` // the group whose policy keeps the content back
}

type file struct {
	Name      string `json:"name"`
	Size      int64  `json:"size"`
	MediaType string `json:"media_type"`
	Have      int64  `json:"have"`
	Total     int64  `json:"total"`
	Complete  bool   `json:"complete"`
}

type location struct {
	Lat       float64 `json:"lat"`
	Lon       float64 `json:"lon"`
	AccuracyM float64 `json:"accuracy_m"`
	Note      string  `json:"note"`

	MGRS      string    `json:"mgrs"`
	Time      time.Time `json:"time"` // when the sender was there; zero: unknown
	StaleAt   time.Time `json:"stale_at"`
	LiveUntil time.Time `json:"live_until"`
}

type conversation struct {
	ID     string   `json:"id"`
	With   person   `json:"with"`
	Last   *message `json:"last"`
	Unread int      `json:"unread"`
}

type peer struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Addrs     []string  `json:"addrs"`
	Up        bool      `json:"up"`
	Blocked   bool      `json:"blocked"`
	LastHeard time.Time `json:"last_heard"`
}

// An offender is an address that was turned away at one of the node's ports.
type offender struct {
	Listener string    `json:"listener"`
	Addr     string    `json:"addr"`
	Refused  uint64    `json:"refused"`
	Last     time.Time `json:"last"`
}

type link struct {
	Node      string    `json:"node"`
	Name      string    `json:"name"`
	Addr      string    `json:"addr"`
	Class     string    `json:"class"`
	Up        bool      `json:"up"`
	Blocked   bool      `json:"blocked"`
	Since     time.Time `json:"since"`
	LastHeard time.Time `json:"last_heard"`
	TxBytes   int64     `json:"tx_bytes"`
	RxBytes   int64     `json:"rx_bytes"`
}

type contact struct {
	Node    string    `json:"node"`
	Name    string    `json:"name"`
	Class   string    `json:"class"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"` // zero while it lasts
	TxBytes int64     `json:"tx_bytes"`
	RxBytes int64     `json:"rx_bytes"`
	Times   int       `json:"times"`
}

type banner struct {
	State    string    `json:"state"`
	Contacts int       `json:"contacts"`
	CoreLast time.Time `json:"core_last"`
}

type status struct {
	Node    string `json:"node"`
	Name    string `json:"name"`
	Network *struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"network"`
	Version string `json:"version"`
	UptimeS int64  `json:"uptime_s"`
	Store   struct {
		Bundles    int64 `json:"bundles"`
		Bytes      int64 `json:"bytes"`
		LimitBytes int64 `json:"limit_bytes"`
	} `json:"store"`
	Banner   banner            `json:"banner"`
	Refused  map[string]uint64 `json:"refused"`
	Warnings []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"warnings"`
	Users []struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		Unlocked bool   `json:"unlocked"`
		Waiting  int    `json:"waiting"`
	} `json:"users"`
}
