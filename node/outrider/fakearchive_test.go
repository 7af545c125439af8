package main

import (
	"context"

	"outrider/node/chat"
)

// fakeArchive: nobody archives, and there is nothing to archive.
type fakeArchive struct{}

func (fakeArchive) Archiving(string)                                              {}
func (fakeArchive) Archived(context.Context) ([]chat.Archived, error)             { return nil, nil }
func (fakeArchive) Refused(context.Context) ([]chat.Refused, error)               { return nil, nil }
func (fakeArchive) ArchiveState(context.Context) (st chat.ArchiveState, _ error)  { return st, nil }
func (fakeArchive) ArchiveNext(context.Context, int) ([]chat.ArchiveEntry, error) { return nil, nil }
func (fakeArchive) ArchiveDone(context.Context, []chat.MessageID, chat.ArchiveHead) error {
	return nil
}
