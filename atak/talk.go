package atak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"outrider/atak/cot"
)

// sent is what a device must be told about a message it has sent.
type sent struct {
	device string // uid
	to     Person
	state  state // what it was told

	chat conversation // of a chat
	id   string       // message id of the device, or of its request for an acknowledgement

	file bool // it was a file
	tag  string
	of   entry
}

// Errors about whom an event is for.
var (
	errNobody    = errors.New("nobody of that name is known at this node yet")
	errAmbiguous = errors.New("several people have that name; write to the person's own contact")
	errGroups    = errors.New("groups, teams and missions are not carried yet; write to one person")
	errMany      = fmt.Errorf("at most %d people at once", MaxRecipients)
)

// dests returns whom an event is addressed to; nil means everybody.
func (d *desk) dests(ctx context.Context, e cot.Event) ([]PersonID, error) {
	callsigns, uids, other := e.Dests()
	switch {
	case other:
		return nil, errGroups
	case len(callsigns)+len(uids) > MaxRecipients:
		return nil, errMany
	case len(callsigns)+len(uids) == 0:
		return nil, nil
	}
	people, err := d.user.People(ctx)
	if err != nil {
		return nil, err
	}
	out := []PersonID{}
	for _, uid := range uids {
		p, err := d.byUID(people, uid)
		if err != nil {
			return nil, err
		}
		out = append(out, p.ID)
	}
	for _, c := range callsigns {
		p, err := d.byCallsign(people, c)
		if err != nil {
			return nil, err
		}
		out = append(out, p.ID)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (d *desk) byUID(people []Person, uid string) (Person, error) {
	if id, ok := personOf(uid); ok {
		for _, p := range people {
			if p.ID == id {
				return p, nil
			}
		}
	}
	return Person{}, errNobody
}

// byCallsign finds a person by name, or by what their device calls itself.
func (d *desk) byCallsign(people []Person, callsign string) (Person, error) {
	var found []Person
	for _, p := range people {
		if p.Name == callsign {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		d.mu.Lock()
		for _, p := range people {
			if t, ok := d.tracks[p.ID]; ok && t.Callsign == callsign {
				found = append(found, p)
			}
		}
		d.mu.Unlock()
	}
	switch len(found) {
	case 0:
		return Person{}, errNobody
	case 1:
		return found[0], nil
	}
	return Person{}, errAmbiguous
}

// partner finds the one person a chat is with: by the conversation's id, by
// its members, by the event's address.
func (d *desk) partner(ctx context.Context, e cot.Event) (Person, error) {
	people, err := d.user.People(ctx)
	if err != nil {
		return Person{}, err
	}
	chat := e.Find("__chat")
	group := chat.Child("chatgrp")
	for _, uid := range []string{chat.Attr("id"), group.Attr("uid1")} {
		if p, err := d.byUID(people, uid); err == nil {
			return p, nil
		}
	}
	if group.Attr("uid2") != "" {
		return Person{}, errGroups
	}
	to, err := d.dests(ctx, e)
	switch {
	case err != nil:
		return Person{}, err
	case len(to) != 1:
		return Person{}, errGroups
	}
	return d.byUID(people, uidOf(to[0]))
}

// chatted sends a chat of a device as a text.
func (d *desk) chatted(ctx context.Context, c *client, e cot.Event) {
	chat := e.Find("__chat")
	device := e.Find("link").Attr("uid")
	if uid, _, ok := c.identity(); ok {
		device = uid
	}
	if chat == nil || e.Find("remarks") == nil || e.Find("remarks").Text == "" {
		c.tell("A chat of your device had no text or no conversation and was not sent.")
		return
	}
	if chat.Attr("id") == nodeUID {
		c.tell("Nobody reads what is written to the node itself.")
		return
	}
	to, err := d.partner(ctx, e)
	if err == nil {
		err = d.sendChat(ctx, device, to, e)
	}
	if err != nil {
		c.tell("Your message was not sent: " + err.Error())
	}
}

func (d *desk) sendChat(ctx context.Context, device string, to Person, e cot.Event) error {
	chat := e.Find("__chat")
	id := chat.Attr("messageId")
	if id == "" { // old clients have it in the uid only
		id = e.UID[strings.LastIndexByte(e.UID, '.')+1:]
	}
	msg, err := d.user.SendText(ctx, to.ID, e.Find("remarks").Text, act("chat", e, to.ID))
	if err != nil {
		return err
	}
	d.remember(msg, sent{device: device, to: to, id: id, chat: conversation{
		chatroom: chat.Attr("chatroom"), id: chat.Attr("id"), parent: chat.Attr("parent"), owner: chat.Attr("groupOwner"),
	}})
	return nil
}

// remember notes whom to tell what becomes of a message, and tells what has
// become of it already.
func (d *desk) remember(id MessageID, s sent) {
	d.sent.add(id, s)
	if st, ok := d.early.get(id); ok {
		d.tellState(id, st)
	}
}

// progress tells a device how far its message has come.
func (d *desk) progress(m Message) {
	st := state{m.Delivered || m.Read, m.Read}
	d.early.change(m.ID, func(old state, _ bool) (state, bool) {
		return state{old.delivered || st.delivered, old.read || st.read}, true
	})
	d.tellState(m.ID, st)
	if m.Failed != "" {
		d.failed(m)
	}
}

func (d *desk) tellState(id MessageID, st state) {
	var events []cot.Event
	var device string
	d.sent.change(id, func(s sent, known bool) (sent, bool) {
		device = s.device
		switch {
		case !known:
			return s, false
		case s.file && st.delivered && !s.state.delivered:
			events = append(events, d.srv.acknowledge(s.to.ID, s.id, s.tag, s.of.Hash, s.of.Size, ""))
		case !s.file && st.delivered && !s.state.delivered:
			events = append(events, d.srv.receipt("b-t-f-d", s.to, s.device, s.id, s.chat))
		}
		if !s.file && st.read && !s.state.read {
			events = append(events, d.srv.receipt("b-t-f-r", s.to, s.device, s.id, s.chat))
		}
		s.state = state{s.state.delivered || st.delivered, s.state.read || st.read}
		return s, true
	})
	d.toDevice(device, events...)
}

// failed says once that a message will not arrive.
func (d *desk) failed(m Message) {
	s, ok := d.sent.get(m.ID)
	if !ok || !d.given.add(m.ID, true) {
		return
	}
	if s.file {
		d.toDevice(s.device, d.srv.acknowledge(s.to.ID, s.id, s.tag, s.of.Hash, s.of.Size, m.Failed))
		return
	}
	for _, c := range d.all() {
		if uid, _, _ := c.identity(); uid == s.device {
			c.tell("Your message to " + s.to.Name + " does not arrive: " + m.Failed)
		}
	}
}

func (d *desk) toDevice(device string, events ...cot.Event) {
	for _, c := range d.all() {
		if uid, _, _ := c.identity(); uid == device {
			for _, e := range events {
				c.send(e)
			}
		}
	}
}
