package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketName is the API's socket in a node's folder.
	socketName = "outrider.sock"
	// socketPathMax is what fits into struct sockaddr_un (unix(7)).
	socketPathMax = 107
	// answerMax bounds a JSON answer, in bytes; a page of messages is far smaller.
	answerMax = 32 << 20
	// dialTimeout is for the socket of this very machine.
	dialTimeout = 5 * time.Second
)

// client talks to the node that runs on dir.
type client struct {
	dir   string
	token string
	http  *http.Client
	once  string // name of the act that is being sent, see sendOnce
}

// client opens nothing yet; a node that is not running shows at the first call.
func (a *app) client() (*client, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	c := &client{dir: dir, token: a.loadToken(dir)}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, dir) },
			// On a connection used before, net/http would repeat a lost call unseen; sendOnce has to know.
			DisableKeepAlives: true,
		},
		// The node sends nobody anywhere; a redirect would be a mistake.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func dialSocket(ctx context.Context, dir string) (net.Conn, error) {
	path := filepath.Join(dir, socketName)
	if len(path) > socketPathMax {
		d, err := os.Open(dir) // reach a long path through a short one
		if err != nil {
			return nil, err
		}
		defer d.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName)
	}
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, "unix", path)
}

// running says whether a node answers on dir.
func running(ctx context.Context, dir string) bool {
	c, err := dialSocket(ctx, dir)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// nodeProcess returns the process id of the node that answers on dir, 0 when
// none does or the system does not tell (unix(7), SO_PEERCRED).
func nodeProcess(ctx context.Context, dir string) (pid int) {
	c, err := dialSocket(ctx, dir)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}

// request sends one request and returns the answer if it is a success; the
// caller closes its body.
func (c *client) request(ctx context.Context, method, path string, contentType string, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://outrider"+path, body)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if body != nil && size >= 0 {
		req.ContentLength = size
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("X-Outrider", "1")
	if c.once != "" {
		req.Header.Set("Idempotency-Key", c.once)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, apiError(resp)
}

// transportError explains why no answer came.
func (c *client) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &failure{exit: exitFailed, code: "interrupted", message: "interrupted"}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return notRunning(c.dir, "start it, or name another folder with --dir")
	case errors.Is(err, fs.ErrPermission):
		return &failure{exit: exitRefused, code: "no_permission", message: "the socket in " + c.dir + " may not be used by this user",
			hint: "use the account that runs the node, or one of its group"}
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &failure{exit: exitFailed, code: "no_answer", message: "the node gave no answer: " + err.Error()}
}

// notRunning says what comes first: a node, or its start.
func notRunning(dir, hint string) *failure {
	f := &failure{exit: exitNotRunning, code: "not_running", message: "no node is running on " + dir, hint: hint, next: startCommand(dir)}
	if _, err := os.Stat(filepath.Join(dir, "state")); errors.Is(err, fs.ErrNotExist) {
		f.message, f.hint, f.next = "there is no node in "+dir+" yet", "make one, or name another folder with --dir", "outrider init"
	}
	return f
}

// apiError reads the node's own account of what went wrong.
func apiError(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		Error struct{ Code, Message, Hint string }
	}
	if err != nil || json.Unmarshal(raw, &body) != nil || body.Error.Code == "" {
		body.Error.Code, body.Error.Message = "failed", "the node answered "+resp.Status
	}
	f := &failure{exit: exitFor(resp.StatusCode, body.Error.Code), code: body.Error.Code, message: body.Error.Message, hint: body.Error.Hint}
	if wait := resp.Header.Get("Retry-After"); wait != "" {
		f.hint = joinHints(f.hint, "try again in "+wait+" s")
	}
	switch {
	case f.exit == exitLogin: // the node's hint is for programs
		f.hint, f.next = "", "outrider login NAME"
	case f.code == "no_network":
		f.hint, f.next = "", joinFirst // the node's hint is for programs
	}
	return f
}

func joinHints(a, b string) string {
	if a == "" {
		return b
	}
	return a + "\n" + b
}

// call sends in as JSON (nil: no body), decodes the answer into out (nil: not
// looked at) and returns it as it came.
func (c *client) call(ctx context.Context, method, path string, in, out any) (json.RawMessage, error) {
	var body io.Reader
	size, kind := int64(0), ""
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body, size, kind = bytes.NewReader(b), int64(len(b)), "application/json"
	}
	resp, err := c.request(ctx, method, path, kind, body, size)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMax+1))
	switch {
	case err != nil:
		return nil, c.transportError(ctx, err)
	case len(raw) > answerMax:
		return nil, &failure{exit: exitFailed, code: "bad_answer", message: "the node's answer is too long"}
	case len(raw) == 0 && out == nil:
		return nil, nil
	}
	if out == nil {
		out = new(json.RawMessage)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, &failure{exit: exitFailed, code: "bad_answer", message: "the node's answer is no JSON of the expected form", hint: "is the node of another version? see outrider version"}
	}
	return raw, nil
}

// do calls the node and prints the answer: raw as JSON, or by show for people.
func (a *app) do(ctx context.Context, method, path string, in, out any, show func()) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	raw, err := c.call(ctx, method, path, in, out)
	if err != nil {
		return err
	}
	return a.answer(raw, show)
}

// answer prints what came back.
func (a *app) answer(raw json.RawMessage, show func()) error {
	if !a.json {
		show()
		return a.werr
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	return a.emit(raw)
}
