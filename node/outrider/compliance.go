package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"outrider/offline/compliance"
)

func (a *app) complianceCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "compliance",
		GroupID: groupUser,
		Short:   "Archive what a network says, visibly",
		Long: `Compliance writes the archive of a network whose configuration names an archive
reader (outrider config push GROUP --compliance NAME). The reader is a user like
any other, but for this: it gets a copy of everything said from the next full
minute on, from a node that has heard of it at once, sends nothing, and everybody
sees "archived by NAME" in each conversation.

On the reader's node, "run" writes what has arrived into a folder, until it is
stopped. While it does not run, nothing is lost: copies wait at the node, also
while the reader is locked.`,
		Example: "  outrider compliance run keeper --out /srv/archive\n  outrider compliance status\n  outrider compliance verify /srv/archive",
	}
	c.AddCommand(a.complianceRunCmd(), a.complianceStatusCmd(), a.complianceVerifyCmd(), a.complianceExportCmd())
	return c
}

type complianceRun struct {
	name, passwordFile, credential string
	once, fresh                    bool
	compliance.Options
}

func (a *app) complianceRunCmd() *cobra.Command {
	var o complianceRun
	c := &cobra.Command{
		Use:   "run NAME",
		Short: "Write what arrives for the archive reader NAME into a folder",
		Long: `Run unlocks the archive reader and writes what arrives into the folder --out,
one JSON record per line in receivedMessages.log and files beside it, until it
is stopped (SIGTERM). A record is on disk before the node lets its copy go:
whatever is killed when, no record is lost and none is there twice.

The folder must exist: it is never made, because its disk might only be
unmounted. The password is asked for, or read from --password-file (for a file
descriptor name /dev/fd/N), or from a systemd credential (--credential).`,
		Example: "  outrider compliance run keeper --out /srv/archive\n  outrider compliance run keeper --out /srv/archive --credential keeper\n" +
			"  outrider compliance run keeper --out /srv/archive --password-file /dev/fd/3 --once",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitMissing, exitConflict, exitBusy, exitSetup, exitFault),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return a.complianceRun(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "out", "", "the archive's folder (needed)")
	archiveFlags(c, &o.Options)
	f.Int64Var(&o.MaxBytes, "rotate-bytes", compliance.DefaultMaxBytes, "size at which a new journal file is begun")
	f.BoolVar(&o.LegacyID, "legacy-id", false, "write id beside message_id, for old readers")
	f.BoolVar(&o.LegacyQUID, "legacy-quid", false, "write quid in place of guid in saved items, for old readers")
	f.BoolVar(&o.once, "once", false, "end when nothing waits any more")
	f.BoolVar(&o.fresh, "fresh", false, "begin a new archive although the node knows of another")
	passwordFlag(c, &o.passwordFile, "password-file", "the reader's password")
	f.StringVar(&o.credential, "credential", "", "read the reader's password from this systemd credential (systemd.exec(5), LoadCredential=)")
	return c
}

func (a *app) complianceRun(ctx context.Context, o complianceRun) error {
	if o.Dir == "" {
		return usageError("--out must name the archive's folder")
	}
	if o.credential != "" {
		dir := a.env("CREDENTIALS_DIRECTORY")
		if dir == "" || o.passwordFile != "" || filepath.Base(o.credential) != o.credential {
			return usageError("--credential needs a service with LoadCredential=, a plain name, and no --password-file")
		}
		o.passwordFile = filepath.Join(dir, o.credential)
	}
	j, err := compliance.Open(o.Options)
	if err != nil {
		return archiveError(err)
	}
	defer func() { _ = j.Close() }() // everything in it is on disk
	c, err := a.client()
	if err != nil {
		return err
	}
	password, err := a.password(ctx, o.passwordFile, "Password for "+o.name)
	if err != nil {
		return err
	}
	folder, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	r := &archiver{a: a, c: c, j: j, name: o.name, password: password, folder: folder}
	if err := r.begin(ctx, o.fresh); err != nil {
		return err
	}
	defer r.logout(ctx)
	return r.run(ctx, o.once)
}

// archiveError gives a fault of the folder its exit code and its cure.
func archiveError(err error) error {
	f := &failure{exit: exitSetup, code: "archive", message: err.Error()}
	switch {
	case errors.Is(err, compliance.ErrNoFolder):
		f.exit, f.code = exitMissing, "no_folder"
	case errors.Is(err, compliance.ErrBusy):
		f.exit, f.code, f.hint = exitConflict, "busy", "stop the other `outrider compliance run` first"
	case errors.Is(err, compliance.ErrDamaged):
		f.exit, f.code, f.hint = exitFault, "damaged", "move the folder aside as it is, and go on in a new one with --fresh"
	case errors.Is(err, compliance.ErrFull):
		f.exit, f.code, f.hint = exitBusy, "full", "free space; nothing is lost meanwhile, the node keeps what waits"
	}
	return f
}

// An archiver brings what waits at the node into a journal.
type archiver struct {
	a        *app
	c        *client
	j        *compliance.Journal
	name     string
	password []byte
	folder   string
}

type archiveQueue struct {
	Reader  bool       `json:"reader"`
	Waiting int        `json:"waiting"`
	Files   int        `json:"waiting_files"`
	Oldest  *time.Time `json:"oldest"`
	Head    struct {
		N    uint64     `json:"n"`
		Hash string     `json:"hash"`
		At   *time.Time `json:"at"`
	} `json:"head"`
	Entries []archiveEntry `json:"entries"`
}

type archiveEntry struct {
	ID      string            `json:"id"`
	At      time.Time         `json:"at"`
	Records []json.RawMessage `json:"records"`
	File    *struct {
		Name string `json:"name"`
		Size uint64 `json:"size"`
	} `json:"file"`
}

// records reads an entry's records, one or more. A file is of the last.
func (e archiveEntry) records() (out []*compliance.Record, err error) {
	bad := func(why string) error { return &failure{exit: exitFailed, code: "bad_answer", message: why} }
	for _, raw := range e.Records {
		r, err := compliance.Parse(raw)
		if err != nil {
			return nil, bad(err.Error())
		}
		out = append(out, r)
	}
	switch {
	case len(out) == 0:
		return nil, bad("the node's answer has an entry without a record")
	case e.File != nil && (out[len(out)-1].File == nil || out[len(out)-1].Outrider == nil):
		return nil, bad("the node's answer has a file without its record")
	}
	return out, nil
}

func (q archiveQueue) head() (compliance.Head, error) {
	h := compliance.Head{N: q.Head.N, Hash: compliance.Genesis}
	if q.Head.N == 0 {
		return h, nil
	}
	b, err := hex.DecodeString(q.Head.Hash)
	if err != nil || len(b) != len(h.Hash) {
		return h, &failure{exit: exitFailed, code: "bad_answer", message: "the node's answer makes no sense"}
	}
	h.Hash = [32]byte(b)
	return h, nil
}

func (r *archiver) login(ctx context.Context) error {
	var out struct{ Token string }
	r.c.token = ""
	_, err := r.c.call(ctx, http.MethodPost, "/v1/session", map[string]string{"user": r.name, "password": string(r.password)}, &out)
	r.c.token = out.Token
	return err
}

// logout gives the session back, also when the command was told to stop.
func (r *archiver) logout(ctx context.Context) {
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer end()
	_, _ = r.c.call(ctx, http.MethodDelete, "/v1/session", nil, nil) // it ends by itself else
}

func (r *archiver) queue(ctx context.Context, n int) (q archiveQueue, err error) {
	_, err = r.c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/archive/queue?limit=%d&folder=%s", n, url.QueryEscape(r.folder)), nil, &q)
	return q, err
}

// begin checks that the folder is the archive that the node knows of.
func (r *archiver) begin(ctx context.Context, fresh bool) error {
	if err := r.login(ctx); err != nil {
		return err
	}
	q, err := r.queue(ctx, 0)
	if err != nil {
		return err
	}
	if !q.Reader && q.Waiting == 0 {
		return &failure{exit: exitConflict, code: "no_reader", message: r.name + " is not named as archive reader by any configuration known here",
			hint: "an admin names it with: outrider config push GROUP --compliance NAME"}
	}
	known, err := q.head()
	if err != nil || fresh {
		return err
	}
	have := r.j.Head()
	switch {
	case have.N < known.N && have.N == 0:
		return &failure{exit: exitFault, code: "empty_folder", message: fmt.Sprintf("the folder is empty, and the node knows of %d records", known.N),
			hint: "is its disk mounted? --fresh begins a new archive"}
	case have.N < known.N, have.N == known.N && have.Hash != known.Hash:
		return &failure{exit: exitFault, code: "other_archive", message: fmt.Sprintf("the folder ends with record %d and is not the archive of %d records that the node knows of", have.N, known.N),
			hint: "`outrider compliance verify` says what is missing; --fresh begins a new archive"}
	}
	if n := r.j.Healed(); n > 0 && !r.a.json {
		r.a.printf("the last line was cut (%d bytes); it was never acknowledged and is written again\n", n)
	}
	return r.a.werr
}

const (
	archiveBatch   = 100 // entries asked for at once
	archivePause   = time.Second
	archiveBackoff = 30 * time.Second
)

// run drains the queue until ctx ends. A node that is restarted, and a disk
// that is full, are waited for.
func (r *archiver) run(ctx context.Context, once bool) error {
	pause := archivePause
	for ctx.Err() == nil {
		n, err := r.batch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (once || !r.passes(ctx, err)):
			return err
		case err != nil:
			pause = min(2*pause, archiveBackoff)
		case n > 0:
			pause = archivePause
			continue
		case once:
			return r.a.werr
		default:
			pause = archivePause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// passes tells whether a fault may pass by itself.
func (r *archiver) passes(ctx context.Context, err error) bool {
	var f *failure
	if !errors.As(err, &f) {
		return false
	}
	_, _ = fmt.Fprintf(r.a.err, "outrider: %s; trying again\n", clean(f.message))
	switch f.exit {
	case exitLogin:
		lerr := r.login(ctx)
		return lerr == nil || !errors.As(lerr, &f) || f.code != "bad_password"
	case exitNotRunning, exitBusy, exitFailed, exitMissing:
		return true
	}
	return false
}

// batch writes what is ready: files first, then the records, then the node is
// told that they are on disk.
func (r *archiver) batch(ctx context.Context) (int, error) {
	q, err := r.queue(ctx, archiveBatch)
	if err != nil || len(q.Entries) == 0 {
		return 0, err
	}
	ids, files := []string{}, 0
	var records []*compliance.Record
	for _, e := range q.Entries {
		recs, err := e.records()
		if err != nil {
			return 0, err
		}
		if rec := recs[len(recs)-1]; e.File != nil && !r.j.Has(rec.MessageID) {
			if err := r.attach(ctx, e, rec); err != nil {
				return 0, err
			}
			files++
		}
		ids, records = append(ids, e.ID), append(records, recs...)
	}
	if err := r.j.Append(records...); err != nil {
		return 0, archiveError(err)
	}
	if err := r.done(ctx, ids); err != nil {
		return 0, err
	}
	return len(ids), r.said(len(ids), files)
}

// attach writes the copy of a file.
func (r *archiver) attach(ctx context.Context, e archiveEntry, rec *compliance.Record) error {
	resp, err := r.c.request(ctx, http.MethodGet, "/v1/files/"+e.ID, "", nil, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// What breaks off in the middle is an error of the reader, not the end.
	at, err := r.j.Attach(e.At, e.File.Name, resp.Body)
	if err != nil {
		return archiveError(err)
	}
	if uint64(at.Size) != e.File.Size {
		return &failure{exit: exitFailed, code: "bad_answer", message: "the node's answer broke off"}
	}
	rec.File.LocalFilename, rec.Outrider.SHA256 = at.Path, hex.EncodeToString(at.SHA256[:])
	return nil
}

func (r *archiver) done(ctx context.Context, ids []string) error {
	head := r.j.Head()
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer end()
	_, err := r.c.call(ctx, http.MethodPost, "/v1/archive/done",
		map[string]any{"ids": ids, "head": map[string]any{"n": head.N, "hash": hex.EncodeToString(head.Hash[:])}}, nil)
	return err
}

func (r *archiver) said(n, files int) error {
	if r.a.json {
		return r.a.emit(map[string]any{"archived": n, "files": files, "records": r.j.Head().N})
	}
	r.a.printf("archived %d more, %d of them with files; %d records\n", n, files, r.j.Head().N)
	return r.a.werr
}

// archiveView is the answer of GET /v1/archive.
type archiveView struct {
	Readers []struct {
		User    person    `json:"user"`
		Since   time.Time `json:"since"`
		HasKeys bool      `json:"has_keys"`
		Self    bool      `json:"self"`
	} `json:"readers"`
	Refused []struct {
		Code  string   `json:"code"`
		Count int      `json:"count"`
		From  []person `json:"from"`
		Text  string   `json:"text"`
		Hint  string   `json:"hint"`
	} `json:"refused"`
}

func (a *app) complianceStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Who archives, and what waits to be archived",
		Long: `Status tells who archives what the logged-in user says and is told, since when,
and what was not let in because of it. If that user is the archive reader, it
also tells what waits at this node and where the archive ends.`,
		Example:     "  outrider compliance status\n  outrider compliance status --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin),
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.complianceStatus(cmd.Context()) },
	}
}

func (a *app) complianceStatus(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var v archiveView
	var q archiveQueue
	raw, err := c.call(ctx, http.MethodGet, "/v1/archive", nil, &v)
	if err != nil {
		return err
	}
	if _, err := c.call(ctx, http.MethodGet, "/v1/archive/queue", nil, &q); err != nil {
		return err
	}
	if a.json {
		out := map[string]any{}
		if err := json.Unmarshal(raw, &out); err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
		if q.Reader || q.Waiting > 0 || q.Head.N > 0 {
			out["queue"] = map[string]any{"waiting": q.Waiting, "waiting_files": q.Files, "oldest": q.Oldest, "head": q.Head}
		}
		return a.emit(out)
	}
	a.showArchive(v, q)
	return a.werr
}

func (a *app) showArchive(v archiveView, q archiveQueue) {
	if len(v.Readers) == 0 {
		a.printf("nobody archives\n")
	}
	for _, r := range v.Readers {
		since := "since " + when(r.Since)
		if r.Since.After(time.Now()) {
			since = "for everybody from " + when(r.Since) + " on"
		}
		switch {
		case r.Self:
			a.printf("this user archives, %s\n", since)
		case r.HasKeys:
			a.printf("archived by %s, %s\n", clean(r.User.Name), since)
		default:
			a.printf("archived by %s, %s; its keys have not arrived here: nothing is sent until they have\n", clean(r.User.Name), since)
		}
	}
	for _, f := range v.Refused {
		a.printf("%d from", f.Count)
		for _, p := range f.From {
			a.printf(" %s", clean(p.Name))
		}
		a.printf(": %s\n  %s\n", clean(f.Text), clean(f.Hint))
	}
	if q.Reader || q.Waiting > 0 || q.Head.N > 0 {
		a.printf("%d wait to be archived, %d of them for their file; the archive has %d records\n", q.Waiting, q.Files, q.Head.N)
	}
}

// archiveNotice says who archives, before something is sent. It says nothing
// when the node cannot tell: sending then tells why.
func (a *app) archiveNotice(ctx context.Context, c *client) {
	var v archiveView
	if _, err := c.call(ctx, http.MethodGet, "/v1/archive", nil, &v); err != nil {
		return
	}
	for _, r := range v.Readers {
		_, _ = fmt.Fprintf(a.err, "archived by %s\n", clean(r.User.Name))
	}
}

func (a *app) complianceVerifyCmd() *cobra.Command {
	var o compliance.Options
	c := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check an archive: its chain, its files, its end",
		Long: `Verify reads a whole archive and says where records were changed, removed or
put in, and which files are not the ones that were archived. The chain cannot
tell by itself that its end was cut off: on the reader's node, with the reader
logged in, the end is compared with what the node knows.

Files are looked for by their names in "attachments" in the folder, so that a
copied or moved archive is checked with its own, or in --attachments.

It exits with 10 when something is wrong. A file that was taken away, and a last
line that a power cut tore, are named and are no fault.`,
		Example:     "  outrider compliance verify /srv/archive\n  outrider compliance verify /srv/archive --json",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitMissing, exitFault),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			return a.complianceVerify(cmd.Context(), o)
		},
	}
	archiveFlags(c, &o)
	return c
}

// archiveFlags say where the parts of an archive lie.
func archiveFlags(c *cobra.Command, o *compliance.Options) {
	c.Flags().StringVar(&o.Attachments, "attachments", "", "folder for files, if it is not \"attachments\" in the archive's")
	c.Flags().StringVar(&o.Prefix, "prefix", compliance.DefaultPrefix, "begin of the journal files' names")
}

// knownHead asks the node where the archive ends; nil if it cannot say.
func (a *app) knownHead(ctx context.Context) *compliance.Head {
	c, err := a.client()
	if err != nil {
		return nil
	}
	var q archiveQueue
	if _, err := c.call(ctx, http.MethodGet, "/v1/archive/queue", nil, &q); err != nil || q.Head.N == 0 {
		return nil
	}
	h, err := q.head()
	if err != nil {
		return nil
	}
	return &h
}

func (a *app) complianceVerify(ctx context.Context, o compliance.Options) error {
	rep, err := compliance.Verify(o, a.knownHead(ctx), nil)
	if err != nil {
		return archiveError(err)
	}
	if a.json {
		if rep.Findings == nil {
			rep.Findings = []compliance.Finding{}
		}
		err = a.emit(map[string]any{"sound": rep.Sound(), "report": rep})
	} else {
		for _, f := range rep.Findings {
			a.printf("%s:%d: %s: %s\n", clean(f.File), f.Line, f.Code, clean(f.Text))
		}
		a.printf("%d records in %d files, %d attachments\n", rep.Records, rep.Files, rep.Attachments)
		err = a.werr
	}
	if err == nil && !rep.Sound() {
		return &failure{exit: exitFault, code: "not_sound", message: "the archive is not what was written", said: a.json}
	}
	return err
}

type complianceExport struct {
	compliance.Options
	to          string
	from, until time.Time
}

func (a *app) complianceExportCmd() *cobra.Command {
	var o complianceExport
	var since, until string
	c := &cobra.Command{
		Use:   "export DIR",
		Short: "Copy the records of a period out of an archive, checked",
		Long: `Export checks an archive as verify does and copies the records of a period as
they stand, one per line. Nothing is copied out of an archive that is not sound.
Days are UTC; without a period all records are copied.

Records of calls name their participants by hashes. With --to FILE, and calls
among the records, FILE.participants.json says whose they are.`,
		Example:     "  outrider compliance export /srv/archive --since 2026-01-02 --until 2026-01-03 --to january.jsonl",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitMissing, exitConflict, exitFault),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.Dir = args[0]
			if o.from, err = day(since, time.Time{}); err != nil {
				return err
			}
			if o.until, err = day(until, time.Unix(1<<40, 0)); err != nil {
				return err
			}
			return a.complianceExport(cmd.Context(), o)
		},
	}
	c.Flags().StringVar(&since, "since", "", "first day, as 2026-01-02")
	c.Flags().StringVar(&until, "until", "", "day after the last, as 2026-01-03")
	c.Flags().StringVar(&o.to, "to", "", "file to write, which must not exist (default standard output)")
	archiveFlags(c, &o.Options)
	return c
}

func day(s string, none time.Time) (time.Time, error) {
	if s == "" {
		return none, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, usageError("%q is no day; write it as 2026-01-02", s)
	}
	return t, nil
}

// participantsFile is where the map of participants stands beside an export.
func participantsFile(to string) string { return to + ".participants.json" }

func (a *app) complianceExport(ctx context.Context, o complianceExport) (err error) {
	rep, err := compliance.Verify(o.Options, a.knownHead(ctx), nil)
	if err != nil {
		return archiveError(err)
	}
	if !rep.Sound() {
		return &failure{exit: exitFault, code: "not_sound", message: "the archive is not what was written; nothing was copied", next: "outrider compliance verify " + o.Dir}
	}
	if o.to == "" {
		_, err := o.records(a.out)
		return err
	}
	if _, err := os.Lstat(participantsFile(o.to)); !errors.Is(err, os.ErrNotExist) {
		return existsFailure(participantsFile(o.to))
	}
	names := map[string]string{}
	err = newFile(o.to, func(w io.Writer) error {
		var err error
		names, err = o.records(w)
		return err
	})
	if err != nil || len(names) == 0 {
		return err
	}
	return newFile(participantsFile(o.to), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(names)
	})
}

// records copies the records of the period, and returns who is behind the
// hashes of participants in them.
func (o complianceExport) records(out io.Writer) (map[string]string, error) {
	names := map[string]string{}
	w := bufio.NewWriter(out)
	_, err := compliance.Verify(o.Options, nil, func(line []byte, r *compliance.Record) error {
		if at, err := r.When(); err != nil || at.Before(o.from) || !at.Before(o.until) {
			return nil
		}
		maps.Copy(names, r.Participants())
		_, err := w.Write(append(line[:len(line):len(line)], '\n'))
		return err
	})
	return names, errors.Join(err, w.Flush())
}

func existsFailure(path string) error {
	return &failure{exit: exitConflict, code: "exists", message: path + " exists already and was not touched"}
}

// newFile writes a file that must not exist, and returns when it is on disk.
func newFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return existsFailure(path)
	}
	if err != nil {
		return usageError("%v", err)
	}
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	return write(f)
}
