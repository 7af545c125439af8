package main

import (
	"context"
	"strings"

	"outrider/node/api"
	"outrider/node/chat"
)

// fakeATAK is a bridge with one client of alice's.
type fakeATAK struct{}

var takSerial = strings.Repeat("4f", 16)

func (fakeATAK) Enroll(_ context.Context, c api.NewTAKClient) ([]byte, api.TAKClient, error) {
	switch {
	case c.Name == "off":
		return nil, api.TAKClient{}, api.ErrATAKOff
	case c.Name != "alice":
		return nil, api.TAKClient{}, chat.ErrNotFound
	case string(c.Password) != "open sesame":
		return nil, api.TAKClient{}, chat.ErrPassword
	}
	return []byte("PK package for " + c.Host), api.TAKClient{ID: takSerial, User: alice, Name: "alice"}, nil
}

func (fakeATAK) Clients(context.Context) ([]api.TAKClient, error) {
	return []api.TAKClient{{ID: takSerial, User: alice, Name: hostile, Since: aTime}}, nil
}

func (fakeATAK) Withdraw(_ context.Context, id string) error {
	if id != takSerial {
		return chat.ErrNotFound
	}
	return nil
}
