package main

import (
	"context"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
)

// fakeAccounts gives out one code and knows one sheet; its page is on a LAN
// of the documentation's.
type fakeAccounts struct{ until time.Time }

func (f *fakeAccounts) NewCode(_ context.Context, q api.NewCode) (api.Code, error) {
	if q.Link != "" {
		q.Name = "from-the-link"
	} else if string(q.AdminPassword) != "admin secret" {
		return api.Code{}, chat.ErrPassword
	}
	c := api.Code{
		Code: "AAAAA-BBBBB", Name: q.Name, NewKey: q.Name == "alice", Expires: aTime.Add(q.TTL),
		URL: "https://192.0.2.1:7443/c/#CODE-AAAAA-BBBBB", LocalURL: "http://127.0.0.1:7999/c/#CODE-AAAAA-BBBBB",
	}
	switch q.Name {
	case "near":
		c.URL = ""
	case "off":
		c.URL, c.LocalURL = "", ""
	}
	return c, nil
}

func (f *fakeAccounts) CheckCode(context.Context, string) (api.CodeInfo, error) {
	return api.CodeInfo{}, api.ErrCode
}

func (f *fakeAccounts) Redeem(context.Context, string, []byte, bool) (identity.UserID, error) {
	return identity.UserID{}, api.ErrCode
}

func (f *fakeAccounts) ChangePassword(_ context.Context, _ identity.UserID, old, _ []byte) error {
	if string(old) != "open sesame" {
		return chat.ErrPassword
	}
	return nil
}

func (f *fakeAccounts) RecoverySheet(_ context.Context, user identity.UserID, password []byte) (api.Sheet, error) {
	if string(password) != "open sesame" {
		return api.Sheet{}, chat.ErrPassword
	}
	return api.Sheet{User: user, Name: "alice", NetworkName: "eagle", Words: "one two three four five six seven"}, nil
}

func (f *fakeAccounts) Restore(_ context.Context, words string, _ []byte) (api.Restored, error) {
	if words != "one two three" {
		return api.Restored{}, api.ErrWords
	}
	return api.Restored{User: alice, Content: true}, nil
}

func (f *fakeAccounts) Page(context.Context) (api.PageInfo, error) {
	p := api.PageInfo{URLs: []string{"https://192.0.2.1:7443/"}, CAName: "Outrider pages abc-1", Fingerprint: "AA:BB", CAUntil: f.until}
	if !f.until.IsZero() {
		p.CAURLs = []string{"http://192.0.2.1:7481/"}
	}
	return p, nil
}

func (f *fakeAccounts) OpenCA(_ context.Context, d time.Duration) error {
	switch d {
	case 13 * time.Second:
		return api.ErrConflict
	case 0:
		f.until = time.Time{}
	default:
		f.until = aTime.Add(d)
	}
	return nil
}
