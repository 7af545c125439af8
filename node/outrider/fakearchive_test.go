package main

import (
	"context"
	"slices"

	"outrider/node/chat"
)

// The archive: nobody archives but where a test says so.
func (u *fakeUser) Archived(context.Context) ([]chat.Archived, error)       { return u.archived, nil }
func (u *fakeUser) Refused(context.Context) ([]chat.Refused, error)         { return u.refusedBy, nil }
func (u *fakeUser) ArchiveState(context.Context) (chat.ArchiveState, error) { return u.queue, nil }
func (u *fakeUser) ArchiveNext(_ context.Context, n int) ([]chat.ArchiveEntry, error) {
	return u.entries[:min(n, len(u.entries))], nil
}
func (u *fakeUser) ArchiveDone(_ context.Context, ids []chat.MessageID, head chat.ArchiveHead) error {
	u.entries = slices.DeleteFunc(u.entries, func(e chat.ArchiveEntry) bool { return slices.Contains(ids, e.ID) })
	u.queue.Head = head
	return nil
}

// fakeArchive is what a test says about the archive.
type fakeArchive struct {
	archived  []chat.Archived
	refusedBy []chat.Refused
	queue     chat.ArchiveState
	entries   []chat.ArchiveEntry
}

func (u *fakeUser) Archiving(string) {}
