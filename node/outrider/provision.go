package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"outrider/node"
	"outrider/node/api"
	"outrider/offline/deeplink"
)

// linkMax bounds a join link, in bytes; a printed one has under 1 kB.
const linkMax = 16 << 10

// provisioner does what changes a node's folder itself. Package node does it;
// wire.go connects the two. An error that is a *failure is shown as it is.
type provisioner interface {
	// Init makes a node in dir.
	Init(ctx context.Context, dir string) (nodeInfo, error)
	// CreateNetwork founds a network whose admin keys lie on this node, sealed
	// under the password.
	CreateNetwork(ctx context.Context, dir, name, preset string, adminPassword []byte) (networkInfo, error)
	// CanCreate says why CreateNetwork would be refused whatever the password.
	CanCreate(dir string) error
	// AddUser issues a user while no node runs on dir; a running one is asked
	// through its socket.
	AddUser(ctx context.Context, dir string, u newUser) (invitation, error)
	// CanInvite says why AddUser would be refused whatever the password.
	CanInvite(dir string) error
	// Join applies a join link while no node runs on dir. It succeeds without
	// any peer in reach.
	Join(ctx context.Context, dir string, j joinRequest) (joined, error)
	// SetLink opens or shuts the gate towards a node while none runs on dir.
	SetLink(ctx context.Context, dir, node string, up bool) error
	// Up runs the node until ctx ends. It calls ready once, when the node
	// takes requests.
	Up(ctx context.Context, o upOptions, ready func(upInfo)) error
}

// provision is the provisioner in use.
var provision provisioner

type nodeInfo struct {
	Node string `json:"node"` // identifier
	Dir  string `json:"dir"`
}

type networkInfo struct {
	Network     string `json:"network"` // identifier
	Name        string `json:"name"`
	Preset      string `json:"preset"`
	Fingerprint string `json:"fingerprint"` // words to compare by voice
}

// newUser asks for a user. Here makes the keys on this node under Password;
// else a join link for another node is issued.
type newUser struct {
	Name          string   `json:"name"`
	TTLSeconds    int64    `json:"ttl_s,omitempty"` // of the join link
	Roles         []string `json:"roles,omitempty"`
	Here          bool     `json:"here,omitempty"`
	Again         bool     `json:"again,omitempty"`
	Password      string   `json:"password,omitempty"`
	AdminPassword string   `json:"admin_password,omitempty"`
	Addrs         []string `json:"addrs,omitempty"` // to put into the link, best first; none: those of the node
}

type invitation struct {
	User     string    `json:"user_id,omitempty"`
	Name     string    `json:"name"`
	Link     string    `json:"link,omitempty"`
	PageLink string    `json:"page_link,omitempty"`
	Password string    `json:"password,omitempty"` // of the link
	Expires  time.Time `json:"expires,omitzero"`
	Addrs    []string  `json:"addrs,omitempty"`
}

type joinRequest struct {
	Link         string `json:"link"`
	LinkPassword string `json:"password"`
	UserPassword string `json:"user_password"` // new, of the user's keys on this node
}

type joined struct {
	Network struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"network"`
	User    string `json:"user_id"`
	Name    string `json:"name"`
	Reached bool   `json:"reached"` // a node of the network has answered already
	Hint    string `json:"hint,omitempty"`
}

func (a *app) initCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "init",
		GroupID: groupNode,
		Short:   "Make a new node in its folder",
		Long: `Init makes the node's folder, its keys and a settings file with every default
explained. It changes nothing in a folder that holds a node already.`,
		Example:     "  outrider init\n  outrider init --dir /srv/outrider",
		Args:        cobra.NoArgs,
		Annotations: exits(exitConflict, exitSetup),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			info, err := provision.Init(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(info)
			}
			a.printf("node %s in %s\n", clean(info.Node), clean(info.Dir))
			a.next("outrider network create NAME, or outrider join, then %s", startCommand(dir))
			return a.werr
		},
	}
}

func (a *app) networkCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "network",
		GroupID: groupNode,
		Short:   "Found a network",
		Long:    "Network founds a new network with this node as its first.",
		Example: "  outrider network create eagle",
	}
	c.AddCommand(a.networkCreateCmd())
	return c
}

func (a *app) networkCreateCmd() *cobra.Command {
	var preset, passwordFile string
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Found a network and become its admin",
		Long: `Create makes a network: its root record, signed twice, and an admin key, which is
sealed under the password asked for and stays on this node. The preset bounds
how long messages live and are carried: standard 30 days, lean 6, opsec 3.`,
		Example:     "  outrider network create eagle\n  outrider network create eagle --preset lean --password-file admin.pw",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			if preset != "standard" && preset != "lean" && preset != "opsec" {
				return usageError("--preset %q: use standard, lean or opsec", shorten(preset))
			}
			dir, err := a.dir()
			if err != nil {
				return err
			}
			if err := provision.CanCreate(dir); err != nil {
				return err
			}
			password, err := a.newPassword(cmd.Context(), passwordFile, "New admin password")
			if err != nil {
				return err
			}
			info, err := provision.CreateNetwork(cmd.Context(), dir, args[0], preset, password)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(info)
			}
			a.printf("network %s (%s), preset %s\n", clean(info.Name), clean(short(info.Network)), clean(info.Preset))
			a.printf("fingerprint: %s\n", clean(info.Fingerprint))
			a.next("outrider user add NAME --here for yourself, then %s", startCommand(dir))
			return a.werr
		},
	}
	c.Flags().StringVar(&preset, "preset", "standard", "standard, lean or opsec")
	passwordFlag(c, &passwordFile, "password-file", "the new admin password")
	return c
}

// userAddFlags are the flags of user add.
type userAddFlags struct {
	here, guest, noQR, again bool
	ttl                      string
	addrs                    []string
	adminFile, passwordFile  string
}

func (a *app) userAddCmd() *cobra.Command {
	var f userAddFlags
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user to the network",
		Long: `Add issues a user, which needs the network's admin password. Without --here it
prints a join link for another node, on a terminal of 105 columns as a QR code
too, the password of the link, when the link expires, and the addresses inside:
those of this machine's interfaces, at most 3, unless --address names others. Tell link
and password apart from each other: who has both can join. With --address
127.0.0.1 the link is for trying a second node on this machine, and no other.

A name is given once, capitals aside, also while its link has not been used.

With --here the user lives on this node; the user's own password is asked for.

With --again the link is for a user there is, after a forgotten password, a lost
node or a lost link: it brings them new keys, and everybody sees that their key
changed.
On the node where they live: outrider user code NAME --link FILE.`,
		Example:     "  outrider user add bravo\n  outrider user add bravo --ttl 48h --address 192.168.7.1\n  outrider user add alice --here",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addUser(cmd.Context(), args[0], f)
		},
	}
	fl := c.Flags()
	fl.BoolVar(&f.again, "again", false, "a new link for a user there is: new keys")
	fl.BoolVar(&f.here, "here", false, "the user lives on this node; no link")
	fl.StringVar(&f.ttl, "ttl", "7d", "how long the link can be used, 1m to 30d")
	fl.BoolVar(&f.guest, "guest", false, "a guest of the network")
	fl.BoolVar(&f.noQR, "no-qr", false, "do not draw the link as a QR code (none is drawn unless the output is a terminal)")
	fl.StringSliceVar(&f.addrs, "address", nil, "address of this node to put into the link, best first; at most 3 (default: the node's own)")
	passwordFlag(c, &f.adminFile, "admin-password-file", "the admin password")
	passwordFlag(c, &f.passwordFile, "password-file", "the user's new password (with --here)")
	return c
}

func (a *app) addUser(ctx context.Context, name string, f userAddFlags) error {
	u := newUser{Name: name, Here: f.here, Again: f.again, Addrs: f.addrs}
	if f.guest {
		u.Roles = []string{"guest"}
	}
	ttl, err := parseSpan(f.ttl, api.MinLinkTTL, api.MaxLinkTTL)
	switch {
	case err != nil:
		return usageError("--ttl %q: %v", shorten(f.ttl), err)
	case len(f.addrs) > 3:
		return usageError("--address: at most 3 fit into a link, %d were given", len(f.addrs))
	case f.here && f.again:
		return usageError("--again makes a link; for a user on this node: outrider user code %s", shorten(name))
	case !f.here && f.passwordFile != "":
		return usageError("--password-file goes with --here; the password of a link is made by the node")
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	if !running(ctx, dir) {
		err = provision.CanInvite(dir)
	} else {
		err = a.mustAdmin(ctx)
	}
	if err != nil {
		return err
	}
	admin, err := a.password(ctx, f.adminFile, "Admin password")
	if err != nil {
		return err
	}
	u.AdminPassword = string(admin)
	if f.here {
		p, err := a.newPassword(ctx, f.passwordFile, "New password for "+name)
		if err != nil {
			return err
		}
		u.Password = string(p)
	} else {
		u.TTLSeconds = int64(ttl / time.Second)
	}
	inv, next, err := a.issueUser(ctx, dir, u)
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(inv)
	}
	a.showInvitation(inv, next, !f.noQR)
	return a.werr
}

// mustAdmin says that the running node holds no admin key, before anybody is
// asked for a password.
func (a *app) mustAdmin(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var n struct{ Admin bool }
	if _, err := c.call(ctx, http.MethodGet, "/v1/network", nil, &n); err != nil {
		return err
	}
	if !n.Admin {
		return setupError(node.ErrNotAdmin)
	}
	return nil
}

// withHint gives an error of a code one more thing that can be done.
func withHint(err error, code, hint string) error {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.code != code {
		return err
	}
	with := *f
	with.hint = joinHints(f.hint, hint)
	return &with
}

// upFirst begins a hint when no node runs yet.
func upFirst(dir string) string { return startCommand(dir) + ", then " }

// issueUser asks the running node, or opens the folder when none runs; next is
// what then has to be typed first.
func (a *app) issueUser(ctx context.Context, dir string, u newUser) (inv invitation, next string, err error) {
	if !running(ctx, dir) {
		inv, err = provision.AddUser(ctx, dir, u)
		return inv, upFirst(dir), err
	}
	c, err := a.client()
	if err != nil {
		return inv, "", err
	}
	_, err = c.call(ctx, http.MethodPost, "/v1/network/users", u, &inv)
	return inv, "", err
}

func (a *app) showInvitation(inv invitation, next string, qr bool) {
	if inv.Link == "" {
		a.printf("user %s lives on this node\n", clean(inv.Name))
		a.next("%soutrider login %s", next, clean(inv.Name))
		return
	}
	a.printf("link for %s, to be used on their machine with: outrider join\n\n%s\n\n", clean(inv.Name), clean(inv.Link))
	if qr {
		a.showQR(inv.Link)
	}
	a.printf("password   %s\n", clean(inv.Password))
	a.printf("expires    %s\n", when(inv.Expires))
	a.printf("addresses  %s\n", clean(strings.Join(inv.Addrs, " ")))
	if onlyLoopback(inv.Addrs) {
		a.printf("note: this link can be used on this machine only; --address names another address\n")
	}
	if next != "" {
		a.next("%sthe other machine can join", next)
	}
}

// onlyLoopback reports whether a link with these addresses is of use on this
// machine only. The node chooses no such address by itself.
func onlyLoopback(addrs []string) bool {
	return len(addrs) > 0 && !slices.ContainsFunc(addrs, func(s string) bool {
		host, _, err := net.SplitHostPort(s)
		if err != nil {
			host = s
		}
		ip, err := netip.ParseAddr(host)
		return err != nil || !ip.Unmap().IsLoopback()
	})
}

// joinFlags are the flags of join.
type joinFlags struct{ file, passwordFile, userPasswordFile string }

func (a *app) joinCmd() *cobra.Command {
	var f joinFlags
	c := &cobra.Command{
		Use:     "join [LINK]",
		GroupID: groupNode,
		Short:   "Join a network with a link",
		Long: `Join applies a join link: this node becomes one of the network's, and the user
named in the link lives on it. The link is an argument, or is read from --file,
which may be a picture (PNG or JPEG) of its QR code; - reads standard input; with
none of these it is asked for. Then its password is asked for, and a new password
for the user's keys on this node. Where there is no node yet, join makes one.

Join succeeds with nobody in reach; the node keeps trying the addresses in the
link, and join says what may be in the way.`,
		Example:     "  outrider join\n  outrider join 'outrider://c/#...'\n  outrider join --file bravo.orc\n  outrider join --file photo.jpg\n  outrider join - --password-file link.pw --user-password-file bravo.pw < link.txt",
		Args:        cobra.MaximumNArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.join(cmd.Context(), args, f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.file, "file", "", "read the link from this file, or from the QR code in this picture")
	passwordFlag(c, &f.passwordFile, "password-file", "the link's password")
	passwordFlag(c, &f.userPasswordFile, "user-password-file", "the user's new password")
	return c
}

func (a *app) join(ctx context.Context, args []string, f joinFlags) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	link, err := a.readLink(ctx, args, f.file)
	if err != nil {
		return err
	}
	linkPassword, err := a.password(ctx, f.passwordFile, "Password of the link")
	if err != nil {
		return err
	}
	userPassword, err := a.newPassword(ctx, f.userPasswordFile, "New password for the user on this node")
	if err != nil {
		return err
	}
	done, next, err := a.applyLink(ctx, dir, joinRequest{Link: link, LinkPassword: string(linkPassword), UserPassword: string(userPassword)})
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(done)
	}
	who := done.Name // known only if a neighbour has told it already
	if who == "" {
		who = done.User
	}
	a.printf("%s is on this node, in network %s (%s)\n", clean(who), clean(done.Network.Name), clean(short(done.Network.ID)))
	if done.Hint != "" {
		for _, line := range strings.Split(done.Hint, "\n") {
			a.printf("%s\n", clean(line))
		}
	}
	a.next("%soutrider login %s", next, clean(who))
	return a.werr
}

// applyLink asks the running node, or opens the folder when none runs; next is
// what then has to be typed first.
func (a *app) applyLink(ctx context.Context, dir string, j joinRequest) (done joined, next string, err error) {
	if !running(ctx, dir) {
		done, err = provision.Join(ctx, dir, j)
		var f *failure
		if errors.As(err, &f) && f.code == codeNoNode {
			if _, err = provision.Init(ctx, dir); err == nil {
				done, err = provision.Join(ctx, dir, j)
			}
		}
		return done, upFirst(dir), err
	}
	c, err := a.client()
	if err != nil {
		return done, "", err
	}
	_, err = c.call(ctx, http.MethodPost, "/v1/network/join", j, &done)
	return done, "", err
}

// readLink takes the link from the argument, standard input, a file or the
// terminal.
func (a *app) readLink(ctx context.Context, args []string, file string) (string, error) {
	var raw []byte
	var err error
	switch {
	case len(args) == 1 && file != "":
		return "", usageError("give the link or --file, not both")
	case len(args) == 1 && args[0] != "-":
		raw = []byte(args[0])
	case len(args) == 1:
		raw, err = a.linkFromInput()
	case file != "":
		raw, _, err = readLinkFile(file, linkMax)
	default:
		if raw, err = a.askLine(ctx, "Link"); err != nil {
			return "", &failure{exit: exitUsage, code: "usage", message: "join: which link?", hint: "give it as an argument, with --file, or as - on standard input"}
		}
	}
	if err != nil {
		return "", err
	}
	if raw = bytes.TrimSpace(raw); len(raw) > linkMax {
		return "", usageError("the link is longer than %d KiB", linkMax>>10)
	}
	if _, err := deeplink.DecodeLink(string(raw)); errors.Is(err, deeplink.ErrNoLink) {
		return "", noLink(file != "", err)
	}
	return string(raw), nil
}

// noLink says what is no link at all, a config's or one to join.
func noLink(file bool, err error) error {
	f := &failure{exit: exitUsage, code: "link_damaged", message: api.Sentence(err), hint: "a link begins with outrider://c/#"}
	if file {
		f.message, f.hint = "this file is no join link and no config of Outrider", "ask for it again, as a file or as a QR code"
	}
	return f
}

// linkFromInput takes one line, so that passwords may follow on the next ones.
func (a *app) linkFromInput() ([]byte, error) {
	b := bufio.NewReaderSize(a.in, linkMax+2)
	a.in = b
	line, err := b.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	return bytes.Clone(line), nil
}
