package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"outrider/mesh/identity"
	"outrider/node"
	"outrider/node/api"
	"outrider/offline/carry"
)

func (a *app) carryCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "carry FOLDER",
		GroupID: groupNode,
		Short:   "Exchange bundles with a stick or any folder",
		Long: `Carry is a contact with a stick: the node gives it what it would give a passing
node, and takes what others gave it. Do it at one node, take the stick along,
do it at the next. Everything on the stick is sealed; it may be pulled out at
any moment, and the next carry goes on from there. It keeps bundles until they
have arrived or their lifetime ends.

FOLDER is where the stick is mounted, or any folder that exists.`,
		Example:     "  outrider carry /media/stick\n  outrider carry /media/stick --json",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitNotRunning, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.carry(cmd.Context(), args[0]) },
	}
}

// carried is what the verb prints as JSON.
type carried struct {
	Medium   string `json:"medium"`
	Took     uint64 `json:"took"` // onto the stick
	Gave     uint64 `json:"gave"` // from it
	Held     int    `json:"held"`
	Bytes    int64  `json:"bytes"`
	Complete bool   `json:"complete"`
	Damaged  int    `json:"damaged"` // transactions lost on the stick since last time
}

func (a *app) carry(ctx context.Context, folder string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	terms, err := c.carryTerms(ctx)
	if err != nil {
		return err
	}
	if terms.Root == nil { // a stick that knows nothing either is left as it is
		made, err := carry.Made(folder, terms.Network)
		if err != nil {
			return carryFailure(folder, err)
		}
		if !made {
			return errNoRoot
		}
	}
	m, err := carry.Open(folder, terms.Network)
	if err != nil {
		return carryFailure(folder, err)
	}
	if terms, err = c.exchangeRoot(ctx, m, terms); err != nil {
		return errors.Join(carryFailure(folder, err), m.Close())
	}
	result, err := c.carryContact(ctx, m, terms, a.carryProgress())
	full := result.Full || m.Full()
	out := carried{
		Medium: m.ID().String(), Took: result.Took, Gave: result.Gave, Held: result.Held, Bytes: result.Bytes, Complete: result.Complete,
		Damaged: m.Damage().Frames,
	}
	if err := errors.Join(err, m.Close()); err != nil {
		return carryFailure(folder, err)
	}
	// For the doctor. The carry is over and good without it.
	_, _ = c.call(ctx, http.MethodPost, "/v1/carry/result", api.CarryResult{Full: full, Damaged: m.Damage() != (carry.Damage{})}, nil)
	if a.json {
		return a.emit(out)
	}
	a.printf("taken onto the stick: %d, given to the node: %d; the stick holds %d bundles, %s\n", out.Took, out.Gave, out.Held, bytesText(out.Bytes))
	if d := m.Damage(); d != (carry.Damage{}) {
		a.printf("The stick lost %d entries and %s since it was used last. Check it, and carry with another one too.\n", d.Frames, bytesText(d.Bytes))
	}
	if full {
		return &failure{exit: exitBusy, code: "medium_full", message: "the stick is full: not everything found room on it",
			hint: "what crossed is safe; make room on the stick, or carry again once others have taken what is theirs", next: "outrider carry " + folder}
	}
	if !out.Complete {
		return &failure{exit: exitBusy, code: "incomplete", message: "not everything could cross: the contact was cut",
			hint: "what did cross is safe", next: "outrider carry " + folder}
	}
	a.printf("The stick can be taken out.\n")
	return nil
}

func (a *app) carryProgress() func(node.CarryProgress) {
	f, ok := a.err.(*os.File)
	if a.json || !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(p node.CarryProgress) {
		fmt.Fprintf(a.err, "\r\x1b[K%d taken, %d given, %s\r", p.Took, p.Gave, bytesText(int64(p.BytesTaken+p.BytesOut)))
	}
}

// carryFailures are what a person can mend.
var carryFailures = []struct {
	is         error
	exit       exitCode
	code, hint string
}{
	{fs.ErrNotExist, exitMissing, "no_folder", "is the stick mounted? The folder must exist"},
	{unix.ENOTDIR, exitMissing, "not_a_folder", "name the folder where the stick is mounted"},
	{unix.EROFS, exitSetup, "read_only", "the stick takes nothing, and a carry writes down what was taken: move its switch, or mount it for writing (mount -o remount,rw FOLDER); one that turned read-only by itself needs fsck first, or copy its folder " + carry.Folder + " to another stick"},
	{fs.ErrPermission, exitSetup, "no_permission", "the stick must be writable for you"},
	{carry.ErrForeign, exitConflict, "foreign_medium", "use another folder of the stick for this network"},
	{carry.ErrNotMedium, exitSetup, "not_medium", "rename its folder " + carry.Folder + " and begin anew; what it held is still at the nodes that gave it"},
	{carry.ErrBusy, exitConflict, "medium_busy", "wait until the other carry has ended"},
	{carry.ErrFull, exitBusy, "medium_full", "make room on the stick"},
	{carry.ErrBroken, exitSetup, "medium_failed", "take it out, put it in again and repeat; nothing that was acknowledged is lost"},
}

// carryFailure says what to do about an error of the stick.
func carryFailure(folder string, err error) error {
	for _, f := range carryFailures {
		if errors.Is(err, f.is) {
			return &failure{exit: f.exit, code: f.code, message: fmt.Sprintf("carry %s: %s", folder, strings.TrimPrefix(err.Error(), "carry: ")), hint: f.hint}
		}
	}
	return err
}

// carryTerms asks the node what a stick must know.
func (c *client) carryTerms(ctx context.Context) (t api.CarryTerms, err error) {
	var in struct {
		Node         identity.NodeID    `json:"node"`
		Network      identity.NetworkID `json:"network"`
		Root         []byte             `json:"root"`
		Salt         string             `json:"salt"`
		Generation   uint64             `json:"generation"`
		Opsec        bool               `json:"opsec"`
		CeilingS     int64              `json:"ceiling_s"`
		ClockTrusted bool               `json:"clock_trusted"`
	}
	raw, err := c.call(ctx, http.MethodGet, "/v1/carry", nil, nil)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return t, fmt.Errorf("carry: the node's answer: %w", err)
	}
	salt, err := hex.DecodeString(in.Salt)
	if err != nil || len(salt) != len(t.Salt) {
		return t, fmt.Errorf("carry: the node's answer has no salt")
	}
	return api.CarryTerms{
		Node: in.Node, Network: in.Network, Root: in.Root, Salt: [16]byte(salt), Generation: in.Generation, Opsec: in.Opsec,
		Ceiling: time.Duration(in.CeilingS) * time.Second, ClockTrusted: in.ClockTrusted,
	}, nil
}

var errNoRoot error = &failure{exit: exitConflict, code: "no_root", message: "the node has not met its network yet, and the stick does not know it either",
	hint: "carry with a stick that was at a node of the network, or let the node meet one"}

// exchangeRoot lets the network's root record travel: a node that has joined
// and met nobody learns it from the stick, and is then asked again.
func (c *client) exchangeRoot(ctx context.Context, m *carry.Medium, t api.CarryTerms) (api.CarryTerms, error) {
	if t.Root != nil {
		return t, m.SetRoot(t.Root)
	}
	root := m.Root()
	if root == nil {
		return t, errNoRoot
	}
	resp, err := c.request(ctx, http.MethodPost, "/v1/carry/root", "application/octet-stream", bytes.NewReader(root), int64(len(root)))
	if err != nil {
		return t, err
	}
	resp.Body.Close()
	for tick := time.NewTicker(rootLook); ; {
		if t, err = c.carryTerms(ctx); err != nil || t.Root != nil {
			tick.Stop()
			return t, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

// rootLook is how often a node that was given the root record is asked
// whether it has started with it.
const rootLook = 100 * time.Millisecond

// carryContact makes a connection a link of the mesh and serves the stick on
// it.
func (c *client) carryContact(ctx context.Context, m *carry.Medium, t api.CarryTerms, progress func(node.CarryProgress)) (r node.CarryResult, err error) {
	conn, err := dialSocket(ctx, c.dir)
	if err != nil {
		return r, c.transportError(ctx, err)
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://outrider/v1/carry", nil)
	if err != nil {
		return r, err
	}
	req.Header.Set("X-Outrider", "1")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "outrider-carry/1")
	req.Header.Set("Outrider-Medium", m.ID().String())
	if err := req.Write(conn); err != nil {
		return r, c.transportError(ctx, err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return r, c.transportError(ctx, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return r, fmt.Errorf("carry: the node answers %s", resp.Status)
	}
	return node.CarryContact(ctx, m, t, conn.(*net.UnixConn), in, slog.New(slog.DiscardHandler), progress)
}
