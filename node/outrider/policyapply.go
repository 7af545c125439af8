package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"outrider/node/api"
	"outrider/offline/deeplink"
)

// givenFlags are the flags of config show and config apply.
type givenFlags struct{ passwordFile string }

func (a *app) configApplyCmd() *cobra.Command {
	var f givenFlags
	c := &cobra.Command{
		Use:   "apply LINK|FILE|-",
		Short: "Put a signed config in force on this node",
		Long: `Apply verifies a config that an admin handed out and puts it in force on this node:
a link as the argument, a file, a picture (PNG or JPEG) of its QR code, or - for
one line of standard input. Its password, if it has one, is asked for. Nothing is
sent, and nobody need be in reach.

It changes nothing when the config is damaged, altered, of another network, ended,
not by an admin, or older than what this node knows; the answer says which. What
was pushed by the mesh outranks a file, a file a link; within one kind the higher
version counts, whenever it came.`,
		Example:     "  outrider config apply convoy.orc\n  outrider config apply photo.jpg\n  outrider config apply 'outrider://c/#...'\n  outrider config apply - --password-file link.pw < link.txt",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.configGiven(cmd.Context(), args[0], f, "/v1/configs/apply", a.showApplied)
		},
	}
	passwordFlag(c, &f.passwordFile, "password-file", "the config's password")
	return c
}

// configGiven hands a link to the node, running or not.
func (a *app) configGiven(ctx context.Context, arg string, f givenFlags, path string, show func(openedView)) error {
	frame, file, err := a.readFrame(arg)
	if err != nil {
		return err
	}
	if !deeplink.IsUpdate(frame) {
		return &failure{exit: exitUsage, code: "is_join", message: deeplink.ErrIsJoin.Error(), next: "outrider join"}
	}
	c, done, err := a.configClient(ctx)
	if err != nil {
		return err
	}
	defer done()
	q := map[string]any{"link": deeplink.Link(frame), "file": file}
	if deeplink.NeedsPassword(frame) {
		p, err := a.password(ctx, f.passwordFile, "Password of the config")
		if err != nil {
			return err
		}
		q["password"] = string(p)
	}
	var v openedView
	raw, err := c.call(ctx, http.MethodPost, path, q, &v)
	if err != nil {
		return err
	}
	return a.answer(raw, func() { show(v) })
}

// readFrame takes a config from an argument: a link, - for standard input, or
// the name of a file or picture.
func (a *app) readFrame(arg string) (frame []byte, file bool, err error) {
	text := arg
	switch {
	case arg == "-":
		line, err := a.configFromInput()
		if err != nil {
			return nil, false, err
		}
		text = string(line)
	case !strings.Contains(arg, "#"):
		raw, pictured, err := readLinkFile(arg, configFileMax)
		if raw, err = tooLong(raw, err); err != nil {
			return nil, false, err
		}
		text, file = string(raw), !pictured // a QR code holds a link
	}
	frame, err = deeplink.DecodeLink(text)
	switch {
	case errors.Is(err, deeplink.ErrVersion):
		return nil, file, &failure{exit: exitUsage, code: "link_version", message: api.Sentence(err)}
	case errors.Is(err, deeplink.ErrNoLink):
		return nil, file, noLink(file, err)
	case err != nil:
		return nil, file, &failure{exit: exitUsage, code: "link_damaged", message: "this config is damaged or not whole", hint: "ask for it again, as a file or as a QR code"}
	}
	return frame, file, nil
}

// configFromInput takes a file's bytes or one line, so that a password may
// follow on the next.
func (a *app) configFromInput() ([]byte, error) {
	b := bufio.NewReaderSize(a.in, configFileMax+2)
	a.in = b
	if head, err := b.Peek(3); err == nil && string(head) == "OR1" {
		return tooLong(io.ReadAll(io.LimitReader(b, configFileMax+1)))
	}
	line, err := b.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, usageError("the link on standard input is longer than %d KiB", configFileMax>>10)
	}
	return bytes.Clone(line), nil
}

func tooLong(raw []byte, err error) ([]byte, error) {
	if err == nil && len(raw) > configFileMax {
		return nil, usageError("the file is larger than any config (%d KiB)", configFileMax>>10)
	}
	return raw, err
}

func (a *app) showOpened(v openedView) {
	a.printf("group %s, version %d, of network %s\n", clean(v.Group), v.Sequence, clean(v.NetworkName))
	a.printf("signed by an admin of this network (%s)\n", clean(v.Issuer))
	a.printf("issued     %s\n", when(v.Issued))
	if !v.Expires.IsZero() {
		a.printf("expires    %s\n", when(v.Expires))
	}
	a.showSwitches(v.configView)
	a.printf("\nApplied here:\n")
	a.showChanges(v)
}

func (a *app) showChanges(v openedView) {
	for _, line := range v.Changes {
		a.printf("  %s\n", clean(line))
	}
	switch {
	case !v.Changed:
		a.printf("  nothing changes: this node knows it already\n")
	case !v.InForce:
		a.printf("  it is kept, but something that outranks it stays in force\n")
	case len(v.Changes) == 0:
		a.printf("  nothing changes for the users of this node\n")
	}
	if v.Conflict {
		a.printf("ALARM: two versions of this group carry the number %d and differ. The stricter value\nof each field is in force. Ask the admin to issue a new version.\n", v.Sequence)
	}
	if v.Unverified {
		a.printf("note: this node's clock is not confirmed; the dates are judged again when it is\n")
	}
}

func (a *app) showApplied(v openedView) {
	a.printf("version %d of group %s is on this node\n", v.Sequence, clean(v.Group))
	a.showChanges(v)
}
