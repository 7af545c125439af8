package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// tokenMax bounds a token file; the node's tokens have 43 characters.
const tokenMax = 512

func (a *app) loginCmd() *cobra.Command {
	var passwordFile string
	c := &cobra.Command{
		Use:     "login NAME",
		GroupID: groupUser,
		Short:   "Unlock a user's keys on this node",
		Long: `Login unlocks the keys of a user who lives on this node and remembers the
session for this account, until "outrider logout" or the session ends.

The password is asked for, or read from --password-file; it is never taken from
the command line. A program can be given a session in OUTRIDER_TOKEN instead;
with --json the token is printed.`,
		Example:     "  outrider login alice\n  outrider login alice --password-file alice.pw",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.login(cmd.Context(), args[0], passwordFile)
		},
	}
	passwordFlag(c, &passwordFile, "password-file", "the password")
	return c
}

func (a *app) login(ctx context.Context, name, passwordFile string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	if !running(ctx, c.dir) { // before asking for a password
		return c.transportError(ctx, fs.ErrNotExist)
	}
	password, err := a.password(ctx, passwordFile, "Password for "+name)
	if err != nil {
		return err
	}
	var out struct {
		Token   string
		UserID  string `json:"user_id"`
		Name    string
		Expires time.Time
	}
	c.token = ""
	raw, err := c.call(ctx, http.MethodPost, "/v1/session", map[string]string{"user": name, "password": string(password)}, &out)
	if err != nil {
		return err
	}
	if out.Token == "" || len(out.Token) > tokenMax || strings.ContainsAny(out.Token, " \r\n") {
		return &failure{exit: exitFailed, code: "bad_answer", message: "the node gave no session token"}
	}
	if err := a.saveToken(c.dir, out.Token); err != nil {
		return err
	}
	return a.answer(raw, func() {
		a.printf("logged in as %s until %s\n", clean(out.Name), when(out.Expires))
	})
}

func (a *app) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "logout",
		GroupID: groupUser,
		Short:   "End the session and lock the keys",
		Long: `Logout ends this session on the node and forgets it here. When it was the
user's last one, the node drops the user's keys from memory; mail that comes
is then kept sealed until the next login.`,
		Example:     "  outrider logout",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			raw, err := c.call(cmd.Context(), http.MethodDelete, "/v1/session", nil, nil)
			var f *failure
			if errors.As(err, &f) && f.exit == exitLogin { // ended already, which is what was asked for
				err = nil
			}
			if err == nil {
				err = a.dropToken(c.dir)
			}
			if err != nil {
				return err
			}
			return a.answer(raw, func() { a.printf("logged out\n") })
		},
	}
}

// tokenPath is where the session with the node on dir is remembered: outside
// the node's folder, which other accounts may share.
func (a *app) tokenPath(dir string) (string, error) {
	base := a.env("XDG_RUNTIME_DIR")
	if base == "" {
		cache := a.env("XDG_CACHE_HOME")
		if cache == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", &failure{exit: exitSetup, code: "no_folder", message: "nowhere to keep the session: " + err.Error(), hint: "set XDG_RUNTIME_DIR or HOME, or use OUTRIDER_TOKEN"}
			}
			cache = filepath.Join(home, ".cache")
		}
		base = cache
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(base, "outrider", hex.EncodeToString(sum[:8])+".token"), nil
}

// loadToken returns the session's token, or nothing: the node will then say
// that a login is needed.
func (a *app) loadToken(dir string) string {
	if t := a.env("OUTRIDER_TOKEN"); t != "" {
		return strings.TrimSpace(t)
	}
	path, err := a.tokenPath(dir)
	if err != nil {
		return ""
	}
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 || st.Size() > tokenMax {
		return "" // not a file of our making
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// saveToken replaces the token file: written beside it, then renamed.
func (a *app) saveToken(dir, token string) error {
	path, err := a.tokenPath(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // 0600
	if err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep the session: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func (a *app) dropToken(dir string) error {
	path, err := a.tokenPath(dir)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the session: %w", err)
	}
	return nil
}
