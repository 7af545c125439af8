package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Client speaks a node's HTTP interface over its unix socket, as any
// program on the node would (node/api/API.md).
type Client struct {
	http  *http.Client
	token string
}

// NewClient returns a client for the socket at path.
func NewClient(path string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: 32,
	}}}
}

// An APIError is a refusal of the node.
type APIError struct {
	Status  int
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func (e *APIError) Error() string { return fmt.Sprintf("%s (%d): %s", e.Code, e.Status, e.Message) }

// Status is what GET /v1/status answers, as far as the scenarios use it.
type Status struct {
	Node     string `json:"node"`
	Version  string `json:"version"`
	Contacts int    `json:"contacts"`
	Store    struct {
		Bundles int   `json:"bundles"`
		Bytes   int64 `json:"bytes"`
	} `json:"store"`
	Network struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"network"`
}

// Link is one entry of GET /v1/links.
type Link struct {
	Node    string `json:"node"`
	Class   string `json:"class"`
	Up      bool   `json:"up"`
	Blocked bool   `json:"blocked"`
	TxBytes uint64 `json:"tx_bytes"`
	RxBytes uint64 `json:"rx_bytes"`
}

// Person is a user in an answer.
type Person struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	HasKeys bool   `json:"has_keys"`
	Self    bool   `json:"self"`
}

// Message is a message in an answer.
type Message struct {
	ID           string `json:"id"`
	Conversation string `json:"conversation"`
	From         Person `json:"from"`
	To           Person `json:"to"`
	Type         string `json:"type"`
	Text         string `json:"text"`
	File         *struct {
		Name     string `json:"name"`
		Size     int64  `json:"size"`
		Have     int64  `json:"have"`
		Total    int64  `json:"total"`
		Complete bool   `json:"complete"`
	} `json:"file"`
	Location *struct {
		Lat  float64 `json:"lat"`
		Lon  float64 `json:"lon"`
		Note string  `json:"note"`
	} `json:"location"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Hint   string `json:"hint"`
	Hops   int    `json:"hops"`
}

// Do makes one call. A body that is an io.Reader is streamed as it is; any
// other is sent as JSON. out may be nil.
func (c *Client) Do(ctx context.Context, method, path string, body, out any) error {
	resp, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if w, ok := out.(io.Writer); ok {
		_, err = io.Copy(w, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func (c *Client) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	r, contentType, err := encodeBody(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://outrider"+path, r)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

func encodeBody(body any) (io.Reader, string, error) {
	switch b := body.(type) {
	case nil:
		return nil, "", nil
	case io.Reader:
		return b, "application/octet-stream", nil
	}
	raw, err := json.Marshal(body)
	return bytes.NewReader(raw), "application/json", err
}

func readError(resp *http.Response) error {
	var e struct{ Error APIError }
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(raw, &e) != nil || e.Error.Code == "" {
		return &APIError{Status: resp.StatusCode, Code: "unknown", Message: strings.TrimSpace(string(raw))}
	}
	e.Error.Status = resp.StatusCode
	return &e.Error
}

// Login unlocks a user; later calls are that user's.
func (c *Client) Login(ctx context.Context, user, password string) (Person, error) {
	var s struct {
		Token  string `json:"token"`
		UserID string `json:"user_id"`
		Name   string `json:"name"`
	}
	err := c.Do(ctx, "POST", "/v1/session", map[string]string{"user": user, "password": password}, &s)
	c.token = s.Token
	return Person{ID: s.UserID, Name: s.Name}, err
}

// Status asks for the node's status.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.Do(ctx, "GET", "/v1/status", nil, &s)
}

// Links asks for the links, open and known.
func (c *Client) Links(ctx context.Context) ([]Link, error) {
	var out struct{ Links []Link }
	return out.Links, c.Do(ctx, "GET", "/v1/links", nil, &out)
}

// SetLink opens or shuts the node's gate towards another.
func (c *Client) SetLink(ctx context.Context, node string, up bool) error {
	verb := "/down"
	if up {
		verb = "/up"
	}
	return c.Do(ctx, "POST", "/v1/links/"+node+verb, nil, nil)
}

// Users asks who is known.
func (c *Client) Users(ctx context.Context) ([]Person, error) {
	var out struct{ Users []Person }
	return out.Users, c.Do(ctx, "GET", "/v1/users", nil, &out)
}

// Send sends a text.
func (c *Client) Send(ctx context.Context, to, text string) (m Message, err error) {
	return m, c.Do(ctx, "POST", "/v1/messages", map[string]string{"to": to, "text": text}, &m)
}

// SendFile sends a file of the given bytes.
func (c *Client) SendFile(ctx context.Context, to, name string, r io.Reader) (m Message, err error) {
	q := url.Values{"to": {to}, "name": {name}}
	return m, c.Do(ctx, "POST", "/v1/files?"+q.Encode(), r, &m)
}

// SendLocation shares a position, in degrees.
func (c *Client) SendLocation(ctx context.Context, to string, lat, lon float64, note string) (m Message, err error) {
	return m, c.Do(ctx, "POST", "/v1/locations", map[string]any{"to": to, "lat": lat, "lon": lon, "note": note}, &m)
}

// Message asks for one message.
func (c *Client) Message(ctx context.Context, id string) (m Message, err error) {
	return m, c.Do(ctx, "GET", "/v1/messages/"+id, nil, &m)
}

// Inbox returns every message of every conversation of the user, oldest first
// within a conversation.
func (c *Client) Inbox(ctx context.Context) ([]Message, error) {
	var convs struct{ Conversations []struct{ ID string } }
	if err := c.Do(ctx, "GET", "/v1/conversations", nil, &convs); err != nil {
		return nil, err
	}
	var all []Message
	for _, conv := range convs.Conversations {
		var page struct{ Messages []Message }
		if err := c.Do(ctx, "GET", "/v1/conversations/"+conv.ID+"/messages?limit=200", nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Messages...)
	}
	return all, nil
}

// File writes a received file's bytes to w.
func (c *Client) File(ctx context.Context, message string, w io.Writer) error {
	return c.Do(ctx, "GET", "/v1/files/"+message, nil, w)
}

// An Event is one event of the node's stream.
type Event struct {
	Name string
	Data json.RawMessage
}

// Events calls each for every event until ctx ends or the stream does.
func (c *Client) Events(ctx context.Context, each func(Event)) error {
	return c.stream(ctx, "/v1/events", each)
}

func (c *Client) stream(ctx context.Context, path string, each func(Event)) error {
	resp, err := c.open(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var e Event
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		switch field, value, _ := strings.Cut(in.Text(), ": "); field {
		case "event":
			e.Name = value
		case "data":
			e.Data = append(e.Data, value...)
		case "":
			if e.Name != "" {
				each(e)
			}
			e = Event{}
		}
	}
	return in.Err()
}

// Poll calls ask until it returns true, an error that is final, or ctx ends.
// It is for conditions of other processes, which no channel can tell.
func Poll(ctx context.Context, what string, ask func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("scenario: waiting for %s: %w (last answer: %v)", what, ctx.Err(), last)
			}
			return fmt.Errorf("scenario: waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// Arrived calls each with the SHA-256 of every bundle that arrives under a
// tag, those that wait first, until ctx ends or the stream does.
func (c *Client) Arrived(ctx context.Context, tag string, each func(sha256 string)) error {
	return c.stream(ctx, "/v1/bundles/arrived?tag="+tag, func(e Event) {
		var b struct {
			SHA256 string `json:"sha256"`
		}
		if e.Name == "bundle" && json.Unmarshal(e.Data, &b) == nil {
			each(b.SHA256)
		}
	})
}
