package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// packageBytesMax bounds a connection package, in bytes; one has about 8 kB.
const packageBytesMax = 1 << 20

func (a *app) atakCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "atak",
		GroupID: groupUser,
		Short:   "Let ATAK, WinTAK and iTAK use this node as their TAK server",
		Long: `Atak gives users of this node connection packages for their TAK clients, lists
who has one, and withdraws them. The bridge itself is turned on in outrider.toml:

  [atak]
  enabled = true

Positions, chats to one person and data packages of a client then travel as that
user's own sealed messages, and what others send the user is shown in the client.`,
		Example: "  outrider atak enroll alice --to alice.zip\n  outrider atak list",
	}
	c.AddCommand(a.atakEnrollCmd(), a.atakListCmd(), a.atakWithdrawCmd())
	return c
}

type atakEnrolment struct{ to, address, passwordFile string }

func (a *app) atakEnrollCmd() *cobra.Command {
	var e atakEnrolment
	c := &cobra.Command{
		Use:   "enroll NAME",
		Short: "Make a connection package for a user's TAK client",
		Long: `Enroll makes a connection package: a zip file that a TAK client imports without
any network. It holds a certificate with its key, this bridge's CA, and where to
connect. NAME is a user whose keys are on this node; the password is needed once.

Who has the package is that user's client: while it is connected, the node holds
the user's keys open. Hand it over as you would a password, delete it after the
import, and withdraw it when the device is lost.`,
		Example:     "  outrider atak enroll alice --to alice.zip\n  outrider atak enroll alice --address 192.168.7.1 --to /media/stick/alice.zip",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitMissing, exitRefused, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.atakEnroll(cmd.Context(), args[0], e)
		},
	}
	c.Flags().StringVar(&e.to, "to", "", "write the package to this file (default outrider-NAME.zip here)")
	c.Flags().StringVar(&e.address, "address", "", "IPv4 address or host name at which the client reaches this node (default the node's best one)")
	passwordFlag(c, &e.passwordFile, "password-file", "the user's password")
	return c
}

func (a *app) atakEnroll(ctx context.Context, name string, e atakEnrolment) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	if !running(ctx, c.dir) { // before asking for a password
		return c.transportError(ctx, fs.ErrNotExist)
	}
	if e.to == "" {
		e.to = "outrider-" + filepath.Base(filepath.Clean("/"+name)) + ".zip"
	}
	f, err := os.OpenFile(e.to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // before a certificate is made
	if errors.Is(err, fs.ErrExist) {
		return &failure{exit: exitConflict, code: "exists", message: e.to + " exists already and was not touched", hint: "name another file with --to"}
	}
	if err != nil {
		return &failure{exit: exitUsage, code: "no_file", message: "write package: " + err.Error()}
	}
	id, err := a.writeATAKPackage(ctx, c, f, name, e)
	if err = errors.Join(err, f.Close()); err != nil {
		if rerr := os.Remove(e.to); rerr != nil {
			err = errors.Join(err, rerr)
		}
		var known *failure
		if errors.As(err, &known) {
			return known
		}
		return err
	}
	if a.json {
		return a.emit(map[string]string{"id": id, "file": e.to})
	}
	a.printf("%s is %s's client %s. Import it in ATAK (Import Manager, Local SD), then delete it.\n", clean(e.to), clean(name), clean(id[:min(8, len(id))]))
	return a.werr
}

// writeATAKPackage asks the node for a package and writes it, durable.
func (a *app) writeATAKPackage(ctx context.Context, c *client, f *os.File, name string, e atakEnrolment) (id string, err error) {
	password, err := a.password(ctx, e.passwordFile, "Password of "+name)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]string{"name": name, "password": string(password), "host": e.address})
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	resp, err := c.request(ctx, http.MethodPost, "/v1/atak/clients", "application/json", bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	pkg, err := io.ReadAll(io.LimitReader(resp.Body, packageBytesMax+1))
	if err != nil || len(pkg) > packageBytesMax {
		return "", &failure{exit: exitFailed, code: "bad_answer", message: "the node's answer broke off or is too long"}
	}
	_, err = f.Write(pkg)
	return resp.Header.Get("X-Outrider-Client"), errors.Join(err, f.Sync())
}

type atakClient struct {
	ID    string    `json:"id"`
	User  string    `json:"user_id"`
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
}

func (a *app) atakListCmd() *cobra.Command {
	return &cobra.Command{
		Use:         "list",
		Short:       "Certificates that TAK clients may connect with",
		Long:        "List shows every certificate that was issued and not withdrawn, with its user.",
		Example:     "  outrider atak list",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitConflict),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Clients []atakClient }
			return a.do(cmd.Context(), http.MethodGet, "/v1/atak/clients", nil, &out, func() {
				rows := [][]string{}
				for _, c := range out.Clients {
					name := c.Name
					if name == "" {
						name = c.User
					}
					rows = append(rows, []string{c.ID, name, when(c.Since)})
				}
				a.tableOr("no TAK client was enrolled", []string{"ID", "USER", "SINCE"}, rows)
			})
		},
	}
}

func (a *app) atakWithdrawCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "withdraw ID",
		Short: "Make a TAK client's certificate worthless",
		Long: `Withdraw forgets what a certificate opens and closes the connections of its
user. The user's other clients connect again by themselves.`,
		Example:     "  outrider atak withdraw 4f0c3a5be2d19477a0c86e1f52b3d990",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitMissing, exitConflict),
		RunE: func(cmd *cobra.Command, args []string) error {
			if id, err := hex.DecodeString(args[0]); err != nil || len(id) == 0 {
				return usageError("%q is no identifier of a TAK client: outrider atak list shows them", shorten(args[0]))
			}
			return a.do(cmd.Context(), http.MethodDelete, "/v1/atak/clients/"+args[0], nil, nil, func() {
				a.printf("withdrawn\n")
			})
		},
	}
}
