package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) fileCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "file",
		GroupID: groupUser,
		Short:   "Send and fetch files",
		Long: `File sends a file to another user, or writes a received one to disk once it is
complete. What was carried over a link stays carried: after a cut the rest
follows, never the whole again.`,
		Example: "  outrider file send bravo map.pdf\n  outrider file get k3v7x2ma5qhd6yw2nfzj4tbe4u --output map.pdf",
	}
	c.AddCommand(a.fileSendCmd(), a.fileListCmd(), a.fileGetCmd())
	return c
}

func (a *app) fileSendCmd() *cobra.Command {
	var f sendFlags
	var name string
	c := &cobra.Command{
		Use:   "send TO PATH",
		Short: "Send a file to a user",
		Long: `Send hands a file to the node, which seals it before anything is stored. With -
for PATH standard input is sent; --name is then needed.`,
		Example:     "  outrider file send bravo map.pdf\n  tar c maps | outrider file send bravo - --name maps.tar",
		Args:        cobra.ExactArgs(2),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sendFile(cmd.Context(), args[0], args[1], name, f)
		},
	}
	f.add(c)
	c.Flags().StringVar(&name, "name", "", "the name the recipient sees (default: that of the file)")
	return c
}

func (a *app) sendFile(ctx context.Context, to, path, name string, f sendFlags) error {
	precedence, ttl, err := f.parse()
	if err != nil {
		return err
	}
	body, size, err := a.openSource(path)
	if err != nil {
		return err
	}
	defer body.Close()
	if name == "" {
		name = filepath.Base(path)
	}
	if path == "-" && name == "-" {
		return usageError("standard input has no name: give one with --name")
	}
	if !utf8.ValidString(name) {
		return usageError("the file's name is not UTF-8: give another with --name")
	}
	q := url.Values{"to": {to}, "name": {name}}
	if precedence != "" {
		q.Set("precedence", precedence)
	}
	if ttl > 0 {
		q.Set("ttl_s", strconv.FormatInt(ttl, 10))
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	a.archiveNotice(ctx, c)
	var raw []byte
	tried := false
	err = c.sendOnce(ctx, f.once, func() error {
		if tried { // what is left of the first try may still be reading
			fresh, err := again(body, path, f.once)
			if err != nil {
				return err
			}
			defer fresh.Close()
			raw, err = c.upload(ctx, "/v1/files?"+q.Encode(), fresh, size)
			return err
		}
		tried = true
		raw, err = c.upload(ctx, "/v1/files?"+q.Encode(), body, size)
		return err
	})
	if err != nil {
		return err
	}
	var m message
	if err := decodeRaw(raw, &m); err != nil {
		return err
	}
	return a.answer(raw, func() {
		a.sent(m)
		a.cut(m, f)
	})
}

// upload sends a body and returns the whole answer. The body stays open.
func (c *client) upload(ctx context.Context, path string, body io.Reader, size int64) ([]byte, error) {
	resp, err := c.request(ctx, http.MethodPost, path, "application/octet-stream", io.NopCloser(body), size)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	return raw, nil
}

// again opens a file a second time; what comes from a pipe is gone.
func again(body io.ReadCloser, path, once string) (io.ReadCloser, error) {
	if _, ok := body.(*os.File); !ok {
		return nil, unsure(once)
	}
	fresh, err := os.Open(path)
	if err != nil {
		return nil, unsure(once)
	}
	return fresh, nil
}

// openSource opens what is to be sent; size is -1 when it cannot be known.
func (a *app) openSource(path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(a.in), -1, nil
	}
	// Without waiting: a pipe that nobody writes to would be waited for here,
	// and no signal would end it.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, &failure{exit: exitMissing, code: "no_file", message: err.Error()}
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = &failure{exit: exitUsage, code: "is_folder", message: path + " is a folder", hint: "pack it first", next: "tar c " + path + " | outrider file send TO - --name " + filepath.Base(path) + ".tar"}
	}
	if err == nil && !st.Mode().IsRegular() {
		err = &failure{exit: exitUsage, code: "not_a_file", message: path + " is a pipe or a device, not a file", hint: "what it gives can be sent from standard input",
			next: "outrider file send TO - --name NAME < " + path}
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

func (a *app) fileListCmd() *cobra.Command {
	var limit int
	var before string
	c := &cobra.Command{
		Use:   "list",
		Short: "Files sent and received, and how much of each is here",
		Long: `List shows the files of all conversations, the newest first: how much of each is
here, its size, from whom or to whom, and how far it has got.`,
		Example:     "  outrider file list\n  outrider file list --limit 200 --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin, exitMissing),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 200 {
				return usageError("--limit: 1 to 200 files")
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			if before != "" {
				q.Set("before", before)
			}
			var out struct{ Messages []message }
			return a.do(cmd.Context(), http.MethodGet, "/v1/files?"+q.Encode(), nil, &out, func() { a.showFiles(out.Messages) })
		},
	}
	c.Flags().IntVar(&limit, "limit", 50, "how many files")
	c.Flags().StringVar(&before, "before", "", "only files before that of this message")
	return c
}

func (a *app) showFiles(ms []message) {
	rows := [][]string{}
	for _, m := range ms {
		if m.File == nil {
			continue
		}
		here := "all here"
		if f := m.File; !f.Complete {
			here = strconv.FormatInt(f.Have*100/max(1, f.Total), 10) + " % here"
		}
		who := "from " + m.From.label()
		if m.Outgoing {
			who = "to " + m.To.label()
		}
		rows = append(rows, []string{m.File.Name, bytesText(m.File.Size), here, m.stateText(), who, when(m.Sent), m.ID})
	}
	a.tableOr("no files yet", []string{"NAME", "SIZE", "HERE", "STATE", "WITH", "SENT", "MESSAGE"}, rows)
}

func (a *app) fileGetCmd() *cobra.Command {
	var output string
	var force bool
	c := &cobra.Command{
		Use:   "get MESSAGE",
		Short: "Write a received file to disk",
		Long: `Get writes the file of a message to the current folder, under its own name made
safe, or to --output: a file, a folder, or - for standard output. An existing
file is kept unless --force is given. A file that is not complete yet is not written.`,
		Example:     "  outrider file get k3v7x2ma5qhd6yw2nfzj4tbe4u\n  outrider file get k3v7x2ma5qhd6yw2nfzj4tbe4u --output - | tar x",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.getFile(cmd.Context(), args[0], output, force)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write here instead, a file or a folder; - is standard output")
	c.Flags().BoolVar(&force, "force", false, "replace an existing file")
	return c
}

func (a *app) getFile(ctx context.Context, id, output string, force bool) error {
	id, err := messageID(id)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	if st, err := os.Stat(output); output == "" || err == nil && st.IsDir() {
		var m message
		if _, err := c.call(ctx, http.MethodGet, "/v1/messages/"+id, nil, &m); err != nil {
			return err
		}
		if m.File == nil {
			return &failure{exit: exitMissing, code: "no_file", message: "message " + id + " has no file", next: "outrider message show " + id}
		}
		output = filepath.Join(output, safeName(m.File.Name))
	}
	resp, err := c.request(ctx, http.MethodGet, "/v1/files/"+id, "", nil, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if output == "-" {
		w := bufio.NewWriter(a.out)
		_, err := io.Copy(w, resp.Body)
		if err = errors.Join(err, w.Flush()); err != nil {
			return c.transportError(ctx, err)
		}
		return nil
	}
	n, err := writeWhole(output, resp, force)
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(map[string]any{"path": output, "bytes": n})
	}
	a.printf("%s, %s\n", clean(output), bytesText(n))
	return nil
}

// writeWhole writes an answer to path, all of it or nothing: the bytes go to a
// file beside it, which takes the name when everything is there and synced.
func writeWhole(path string, resp *http.Response, force bool) (n int64, err error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return 0, &failure{exit: exitConflict, code: "exists", message: path + " exists already", hint: "choose another name with --output, or add --force"}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".outrider-*")
	if err != nil {
		if st, serr := os.Stat(filepath.Dir(path)); serr != nil || !st.IsDir() {
			return 0, &failure{exit: exitMissing, code: "no_folder", message: "there is no folder " + filepath.Dir(path), hint: "make it first, or choose another with --output"}
		}
		return 0, &failure{exit: exitFailed, code: "write", message: err.Error()}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	n, err = io.Copy(f, resp.Body)
	if err == nil && resp.ContentLength >= 0 && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return n, &failure{exit: exitFailed, code: "write", message: fmt.Sprintf("write %s: %v", path, err), hint: "nothing was kept; try again"}
	}
	if force {
		return n, os.Rename(f.Name(), path)
	}
	// Link does not replace what has come to be there in the meantime.
	if err = os.Link(f.Name(), path); err != nil {
		return n, &failure{exit: exitConflict, code: "exists", message: err.Error()}
	}
	return n, os.Remove(f.Name())
}

// safeName makes a file name from the air into one that is safe here: no path,
// nothing hidden, nothing that looks like a flag, no control characters.
func safeName(name string) string {
	name = strings.ReplaceAll(name, `\`, "/")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !printable(r) || strings.ContainsRune(`:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	name = strings.TrimLeft(strings.TrimSpace(name), ".-~ ")
	for len(name) > 200 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	if name == "" {
		return "file"
	}
	return name
}
