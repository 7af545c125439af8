package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"

	"outrider/node/chat"
	"outrider/offline/compliance"
)

// ArchiveUser is what the API needs of a user for the archive: who archives
// what the user says, and, of a compliance reader, what waits to be archived.
type ArchiveUser interface {
	Archived(ctx context.Context) ([]chat.Archived, error)
	Refused(ctx context.Context) ([]chat.Refused, error)
	ArchiveNext(ctx context.Context, n int) ([]chat.ArchiveEntry, error)
	ArchiveDone(ctx context.Context, ids []chat.MessageID, head chat.ArchiveHead) error
	ArchiveState(ctx context.Context) (chat.ArchiveState, error)
	// Archiving notes where a program writes the user's archive.
	Archiving(folder string)
}

type archiveReaderJSON struct {
	User    personJSON `json:"user"`
	Since   string     `json:"since"`
	HasKeys bool       `json:"has_keys"`
	Self    bool       `json:"self,omitempty"`
}

type refusedJSON struct {
	Code  string       `json:"code"`
	Count int          `json:"count"`
	From  []personJSON `json:"from"`
	Text  string       `json:"text"`
	Hint  string       `json:"hint"`
}

// refusedTexts say what was not let in, and what becomes of it.
var refusedTexts = map[string][2]string{
	chat.RefusedUnarchived: {"sealed without the archive that this network's configuration names, so it was not let in",
		"it opens when its sender's node has heard of the configuration and the sender has sent it again"},
	chat.RefusedReader: {"sealed for an archive that no configuration known here names, so it was not let in",
		"it opens when a configuration that names the archive has come; ask an administrator if none comes"},
}

// archive is GET /v1/archive: who archives what the user says and is told.
func (s *Server) archive(w http.ResponseWriter, r *http.Request, ses *session) error {
	readers, err := ses.user.Archived(r.Context())
	if err != nil {
		return err
	}
	refused, err := ses.user.Refused(r.Context())
	if err != nil {
		return err
	}
	out := struct {
		Readers []archiveReaderJSON `json:"readers"`
		Refused []refusedJSON       `json:"refused"`
	}{[]archiveReaderJSON{}, []refusedJSON{}}
	for _, a := range readers {
		out.Readers = append(out.Readers, archiveReaderJSON{User: personView(a.By), Since: stamp(a.Since), HasKeys: a.Keys, Self: a.Self})
	}
	for _, f := range refused {
		v := refusedJSON{Code: f.Code, Count: f.Count, From: []personJSON{}, Text: refusedTexts[f.Code][0], Hint: refusedTexts[f.Code][1]}
		for _, p := range f.From {
			v.From = append(v.From, personView(p))
		}
		out.Refused = append(out.Refused, v)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// An archiveEntryJSON is what is to be archived: its records as they are
// written, but for number, chain and the copy of a file, which is of the last.
type archiveEntryJSON struct {
	ID      string            `json:"id"`
	At      string            `json:"at"` // of the last
	Records []json.RawMessage `json:"records"`
	File    *archiveFile      `json:"file,omitempty"`
}

type archiveFile struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

type archiveHeadJSON struct {
	N    uint64  `json:"n"`
	Hash string  `json:"hash,omitempty"`
	At   *string `json:"at"`
}

// maxFolder is how many bytes of a path are remembered.
const maxFolder = 4096

// archiveQueue is GET /v1/archive/queue?limit=&folder=: how a reader's queue stands,
// and its first entries that are ready.
func (s *Server) archiveQueue(w http.ResponseWriter, r *http.Request, ses *session) error {
	q, err := queryOf(r, "limit", "folder")
	if err != nil {
		return err
	}
	if f := q["folder"]; f != "" && len(f) <= maxFolder {
		ses.user.Archiving(f)
	}
	limit := 0
	if l := q["limit"]; l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 0 || limit > chat.MaxArchiveBatch {
			return badRequest("limit must be 0 to %d", chat.MaxArchiveBatch)
		}
	}
	st, err := ses.user.ArchiveState(r.Context())
	if err != nil {
		return err
	}
	entries := []archiveEntryJSON{}
	if limit > 0 {
		if entries, err = s.archiveEntries(r.Context(), ses, limit); err != nil {
			return err
		}
	}
	head := archiveHeadJSON{N: st.Head.N, At: stampOrNil(st.Head.At)}
	if st.Head.N > 0 {
		head.Hash = hex.EncodeToString(st.Head.Hash[:])
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"reader": st.Reader, "waiting": st.Waiting, "waiting_files": st.Files, "oldest": stampOrNil(st.Oldest), "head": head, "entries": entries,
	})
	return nil
}

func (s *Server) archiveEntries(ctx context.Context, ses *session, n int) ([]archiveEntryJSON, error) {
	list, err := ses.user.ArchiveNext(ctx, n)
	if err != nil {
		return nil, err
	}
	out := []archiveEntryJSON{}
	for _, e := range list {
		v := archiveEntryJSON{ID: e.ID.String()}
		for _, rec := range s.cfg.Records(e) {
			raw, err := rec.Encode()
			if err != nil {
				return nil, err
			}
			at, err := rec.When()
			if err != nil {
				return nil, err
			}
			v.At, v.Records = stamp(at), append(v.Records, raw)
		}
		if e.File != nil && e.File.Complete {
			v.File = &archiveFile{Name: e.File.Name, Size: e.File.Size}
		}
		out = append(out, v)
	}
	return out, nil
}

// archiveDone is POST /v1/archive/done: entries are in the archive, on its
// disk, and where it ends now.
func (s *Server) archiveDone(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		IDs  []string `json:"ids"`
		Head struct {
			N    uint64 `json:"n"`
			Hash string `json:"hash"`
		} `json:"head"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	hash, err := hex.DecodeString(in.Head.Hash)
	if err != nil || len(hash) != 32 || in.Head.N == 0 {
		return badRequest("head must say where the archive ends: n, and hash in 64 hexadecimal digits")
	}
	var ids []chat.MessageID
	for _, s := range in.IDs {
		id, err := chat.ParseMessageID(s)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := ses.user.ArchiveDone(r.Context(), ids, chat.ArchiveHead{N: in.Head.N, Hash: [32]byte(hash)}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// RecordsFunc makes the archive's records of an entry, at least one.
type RecordsFunc func(chat.ArchiveEntry) []*compliance.Record
