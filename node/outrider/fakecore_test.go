package main

import (
	"context"

	"outrider/node/api"
)

// fakeCore is out of reach, and its error is hostile to terminals.
type fakeCore struct{}

func (fakeCore) Core() api.CoreStatus {
	return api.CoreStatus{
		Configured: true, Node: "UABC", Reached: aTime, Code: "unreachable", Error: "coresync: " + hostile, ErrorSince: aTime,
		Mailboxes: 3, Waiting: 2, Stored: 7, Present: 1, Resent: 4, Pulled: 5, Squatted: 1, Malformed: 2, Full: true,
	}
}

func (f fakeCore) Sync(context.Context) (api.CoreStatus, error) { return f.Core(), nil }
