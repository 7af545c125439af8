package takclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"outrider/atak"
	"outrider/atak/cot"
)

const viaServer = "*:-1:stcp"

// Position says where the device is, in degrees.
func (c *Client) Position(lat, lon float64) error {
	e := Event(c.o.UID, "a-f-G-U-C", "m-g", 75*time.Second, cot.E("contact", "callsign", c.o.Callsign, "endpoint", viaServer),
		cot.E("takv", "device", "scenario", "platform", "takclient", "os", "linux", "version", "1"), cot.E("track", "speed", "1.5", "course", "90"))
	e.Point = cot.Point{Lat: lat, Lon: lon, HAE: 41.5, CE: 5, LE: cot.Unknown}
	return c.Send(e)
}

// Somebody is a contact as events name one.
type Somebody struct{ UID, Callsign string }

// Chat writes a text to one person. id names the message: sent again under it,
// it is the same message.
func (c *Client) Chat(to Somebody, id, text string) error {
	e := Event("GeoChat."+c.o.UID+"."+to.UID+"."+id, "b-t-f", "h-g-i-g-o", 24*time.Hour,
		cot.E("__chat", "parent", "RootContactGroup", "groupOwner", "false", "messageId", id, "chatroom", to.Callsign, "id", to.UID, "senderCallsign", c.o.Callsign).
			With(cot.E("chatgrp", "uid0", c.o.UID, "uid1", to.UID, "id", to.UID)),
		cot.E("link", "uid", c.o.UID, "type", "a-f-G-U-C", "relation", "p-p"))
	r := cot.E("remarks", "source", "BAO.F.ATAK."+c.o.UID, "to", to.UID)
	r.Text = text
	e.Detail = append(e.Detail, r)
	return c.Send(e)
}

// Read tells that a chat that came was read.
func (c *Client) Read(ctx context.Context, chat Received) error {
	id := chat.Find("__chat").Attr("messageId")
	if err := c.Send(Event(id, "b-t-f-r", "m-g", 24*time.Hour)); err != nil {
		return err
	}
	return c.Ping(ctx)
}

// Text fits chats with a text.
func Text(text string) func(Received) bool {
	return func(e Received) bool {
		return e.Type == "b-t-f" && e.Find("remarks") != nil && e.Find("remarks").Text == text
	}
}

// Ping returns when the node has answered, and so has done all that was said
// before: a node takes what a client says in order.
func (c *Client) Ping(ctx context.Context) error {
	pong := Is("t-x-c-t-r")
	before := len(c.All(pong))
	if err := c.Send(Event(c.o.UID+"-ping", "t-x-c-t", "m-g", 10*time.Second)); err != nil {
		return err
	}
	n := 0
	_, err := c.Wait(ctx, "an answer to a ping", func(e Received) bool {
		if pong(e) {
			n++
		}
		return n > before
	})
	return err
}

// Share uploads a data package and offers it to somebody by callsign, in the
// order in which ATAK does.
func (c *Client) Share(ctx context.Context, name string, data []byte, callsign string) (hash string, err error) {
	sum := sha256.Sum256(data)
	hash = hex.EncodeToString(sum[:])
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("assetfile", name)
	if err == nil {
		_, err = part.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return "", err
	}
	query := url.Values{"hash": {hash}, "filename": {name}, "creatorUid": {c.o.UID}}
	where, err := c.call(ctx, "POST", "https://"+c.o.HTTPS+"/Marti/sync/missionupload?"+query.Encode(), w.FormDataContentType(), &form)
	if err != nil {
		return "", err
	}
	return hash, c.Send(Event(NewID(), "b-f-t-r", "h-e", 10*time.Second,
		cot.E("fileshare", "filename", name, "senderUrl", string(where), "sizeInBytes", fmt.Sprint(len(data)), "sha256", hash, "senderUid", c.o.UID,
			"senderCallsign", c.o.Callsign, "name", name),
		cot.E("ackrequest", "uid", NewID(), "ackrequested", "true", "tag", name), cot.E("marti").With(cot.E("dest", "callsign", callsign))))
}

// Fetch downloads what an offer offers, checks it, and tells that it is here.
func (c *Client) Fetch(ctx context.Context, offer Received) ([]byte, error) {
	share := offer.Find("fileshare")
	data, err := c.call(ctx, "GET", share.Attr("senderUrl"), "", nil)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != share.Attr("sha256") {
		return nil, errors.New("takclient: what was downloaded is not what was offered")
	}
	ask := offer.Find("ackrequest")
	return data, c.Send(Event(NewID(), "b-f-t-a", "m-g", 10*time.Second, cot.E("ackresponse", "uid", ask.Attr("uid"), "senderUid", c.o.UID,
		"success", "true", "tag", ask.Attr("tag"), "reason", "", "sha256", share.Attr("sha256"), "sizeInBytes", fmt.Sprint(len(data)))))
}

// call makes one call of the file interface.
func (c *Client) call(ctx context.Context, method, where, kind string, body io.Reader) ([]byte, error) {
	tr := &http.Transport{DialTLSContext: c.o.dial}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, where, body)
	if err != nil {
		return nil, fmt.Errorf("takclient: %w", err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("takclient: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, atak.MaxPackage))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the node answers %s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	if err != nil {
		return nil, fmt.Errorf("takclient: %w", err)
	}
	return answer, nil
}
