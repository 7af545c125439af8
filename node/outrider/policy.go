package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"outrider/node/api"
	"outrider/offline/deeplink"
)

// configFileMax is the most read of a file or of standard input: the largest
// frame there is, as text.
const configFileMax = 128 << 10

// configDesk opens what may be done with signed configs on a folder where no
// node runs. wire.go sets it.
var configDesk func(ctx context.Context, dir string, use func(api.Configs) error) error

// policyUser is somebody in a config.
type policyUser struct {
	ID   string `json:"user_id"`
	Name string `json:"name"`
}

// configView is a version of a group's policy as the API tells it.
type configView struct {
	Group      string       `json:"group"`
	Sequence   uint64       `json:"sequence"`
	Source     string       `json:"source"`
	Issued     time.Time    `json:"issued"`
	Expires    time.Time    `json:"expires"`
	PastDays   int          `json:"past_days"`
	Files      bool         `json:"files"`
	Location   bool         `json:"location"`
	Members    []policyUser `json:"members"`
	Seen       uint64       `json:"seen"`
	Conflict   bool         `json:"conflict"`
	Unverified bool         `json:"unverified"`
	Later      bool         `json:"later"`
	Compliance string       `json:"compliance"`
	Reader     string       `json:"compliance_name"`
}

type issuedView struct {
	configView
	Pushed        bool   `json:"pushed"`
	Withdrawn     bool   `json:"withdrawn"`
	Link          string `json:"link"`
	PageLink      string `json:"page_link"`
	Password      string `json:"password"`
	NeedsPassword bool   `json:"needs_password"`
	Live          bool   `json:"live"`
}

type openedView struct {
	configView
	NetworkName string   `json:"network_name"`
	Issuer      string   `json:"issuer"`
	InForce     bool     `json:"in_force"`
	Changed     bool     `json:"changed"`
	Changes     []string `json:"changes"`
}

// newConfig is what is asked of the API.
type newConfig struct {
	Group         string   `json:"group"`
	Members       []string `json:"members,omitempty"`
	Files         *bool    `json:"files,omitempty"`
	Location      *bool    `json:"location,omitempty"`
	Compliance    *string  `json:"compliance,omitempty"`
	TTLMinutes    int      `json:"ttl_min,omitempty"`
	MaxAgeMinutes int      `json:"max_age_min,omitempty"`
	Push          bool     `json:"push,omitempty"`
	Withdraw      bool     `json:"withdraw,omitempty"`
	Open          bool     `json:"open,omitempty"`
	Password      string   `json:"password,omitempty"`
	Again         bool     `json:"again,omitempty"`
	AdminPassword string   `json:"admin_password,omitempty"`
}

// configFlags are the flags of config new and config push.
type configFlags struct {
	members                 []string
	files, location         string
	compliance, ttl, maxAge string
	adminFile, passwordFile string
	out, qrFile             string
	open, again, noQR       bool
}

func (a *app) configNewCmd() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "new GROUP",
		Short: "Issue a group's policy as link, QR code and file",
		Long: `New makes the next version of the policy of a security group and signs it with
the admin key, which needs no network and nobody in reach. It prints a link, on a
terminal as a QR code too, and the password made for it; --out writes the same as
a file. Whoever applies it on a node of this network (outrider config apply) puts
it in force there.

The group "default" is everybody who is in no other. What is not given stays as it
was in the version before; a new group allows everything.

  --files off      no file attachments and no voice memos: none is sent, none opened
  --location off   no positions are shared and none shown
  --compliance U   the user U archives everything said from the next full minute on;
                   all members see that

A link may go without a password (--no-password): then only nodes of this network
can open it. A file or a code to print needs one. With a compliance reader a link
is good for a day at most, else for up to 30 days. --again prints the newest link
once more.`,
		Example: "  outrider config new convoy --member bravo --member charlie --files off --out convoy.orc\n" +
			"  outrider config new default --location off --no-password\n  outrider config new convoy --again",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.configNew(cmd, args[0], f) },
	}
	fl := c.Flags()
	issueFlags(c, &f)
	fl.BoolVar(&f.open, "no-password", false, "a link without a password, for nodes of this network only")
	fl.BoolVar(&f.again, "again", false, "print the newest link of the group once more; its password is not kept")
	fl.StringVar(&f.out, "out", "", "write it to this file too (name.orc)")
	fl.StringVar(&f.qrFile, "qr-file", "", "write the QR code to this file, .png or .svg")
	fl.BoolVar(&f.noQR, "no-qr", false, "do not draw the link as a QR code (none is drawn unless the output is a terminal)")
	passwordFlag(c, &f.passwordFile, "password-file", "a password of your own for the link")
	return c
}

func (a *app) configPushCmd() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "push GROUP",
		Short: "Issue a group's policy into the mesh",
		Long: `Push makes the next version of a group's policy and brings it into the mesh, where
it goes right behind FLASH to every node. What was pushed outranks every link and
file of the group. Without a running node it leaves with the next outrider up.
What is not given stays as it was in the version before. A user named with
--compliance archives everything said from the next full minute on.`,
		Example:     "  outrider config push convoy --files on\n  outrider config push default --compliance archive",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.request(cmd, args[0])
			if err != nil {
				return err
			}
			q.Push = true
			return a.configIssue(cmd.Context(), q, f)
		},
	}
	issueFlags(c, &f)
	return c
}

func (a *app) configExpireCmd() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:   "expire GROUP",
		Short: "Withdraw a group's policy",
		Long: `Expire takes a group's policy back: every version so far, links and files included,
counts no more on any node that hears of it, and can be applied nowhere. The
group's members are then ruled by the other groups they are in, or by "default".
It goes by the mesh; a later version can be issued as before.`,
		Example:     "  outrider config expire convoy",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.configIssue(cmd.Context(), newConfig{Group: args[0], Withdraw: true}, f)
		},
	}
	passwordFlag(c, &f.adminFile, "admin-password-file", "the admin password")
	return c
}

func issueFlags(c *cobra.Command, f *configFlags) {
	fl := c.Flags()
	fl.StringSliceVar(&f.members, "member", nil, "a member of the group, name or id; all of them: those not named are no members any more")
	fl.StringVar(&f.files, "files", "", "on or off: file attachments and voice memos")
	fl.StringVar(&f.location, "location", "", "on or off: sharing positions")
	fl.StringVar(&f.compliance, "compliance", "", "the user who archives everything, name or id; none: nobody")
	fl.StringVar(&f.ttl, "ttl", "", "how long it can be applied, for example 36h or 5d (default 7d; with a reader 24h; pushed: no end)")
	fl.StringVar(&f.maxAge, "max-age", "", "refuse it when older than this by any time an admin has signed, whatever the clock says")
	passwordFlag(c, &f.adminFile, "admin-password-file", "the admin password")
}

// request turns flags into what is asked of the API.
func (f configFlags) request(cmd *cobra.Command, group string) (q newConfig, err error) {
	q = newConfig{Group: group, Members: f.members, Open: f.open, Again: f.again}
	if q.Files, err = onOff("--files", f.files); err != nil {
		return q, err
	}
	if q.Location, err = onOff("--location", f.location); err != nil {
		return q, err
	}
	if cmd.Flags().Changed("compliance") {
		who := f.compliance
		if who == "none" {
			who = ""
		}
		q.Compliance = &who
	}
	for _, d := range []struct {
		flag, text string
		to         *int
	}{{"--ttl", f.ttl, &q.TTLMinutes}, {"--max-age", f.maxAge, &q.MaxAgeMinutes}} {
		if d.text == "" {
			continue
		}
		v, err := parseDuration(d.text)
		if err != nil || v < time.Minute {
			return q, usageError("%s %q: give at least a minute, for example 36h or 5d", d.flag, shorten(d.text))
		}
		*d.to = int(v / time.Minute)
	}
	return q, nil
}

func onOff(flag, s string) (*bool, error) {
	on := s == "on"
	switch s {
	case "":
		return nil, nil
	case "on", "off":
		return &on, nil
	}
	return nil, usageError("%s %q: use on or off", flag, shorten(s))
}

func (a *app) configNew(cmd *cobra.Command, group string, f configFlags) error {
	q, err := f.request(cmd, group)
	switch {
	case err != nil:
		return err
	case f.open && (f.out != "" || f.qrFile != ""):
		return usageError("--no-password makes a link only: a file or a code to print needs a password")
	case f.open && f.passwordFile != "":
		return usageError("--no-password and --password-file: give one of the two")
	case f.qrFile != "" && qrWriter(f.qrFile) == nil:
		return usageError("--qr-file %q: the name ends in .png or .svg", shorten(f.qrFile))
	}
	return a.configIssue(cmd.Context(), q, f)
}

// configIssue asks for the passwords, issues, and shows what came of it.
func (a *app) configIssue(ctx context.Context, q newConfig, f configFlags) error {
	c, done, err := a.configClient(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !q.Again {
		admin, err := a.password(ctx, f.adminFile, "Admin password")
		if err != nil {
			return err
		}
		q.AdminPassword = string(admin)
	}
	if f.passwordFile != "" {
		p, err := a.newPassword(ctx, f.passwordFile, "Password of the link")
		if err != nil {
			return err
		}
		q.Password = string(p)
	}
	var v issuedView
	raw, err := c.call(ctx, http.MethodPost, "/v1/configs", q, &v)
	if err != nil {
		return err
	}
	if err := writeCarriers(v, f); err != nil {
		return err
	}
	return a.answer(raw, func() { a.showIssued(v, f) })
}

// writeCarriers writes the file and the code that were asked for.
func writeCarriers(v issuedView, f configFlags) error {
	if f.out == "" && f.qrFile == "" {
		return nil
	}
	if !v.NeedsPassword {
		return usageError("this link has no password: a file or a code to print needs one")
	}
	frame, err := deeplink.DecodeLink(v.Link)
	if err != nil {
		return fmt.Errorf("the node's link: %w", err)
	}
	if f.out != "" {
		if err := os.WriteFile(f.out, frame, 0o600); err != nil {
			return &failure{exit: exitSetup, code: "no_file", message: "the config is issued, but its file was not written: " + err.Error(), next: "outrider config new " + v.Group + " --again --out FILE"}
		}
	}
	if f.qrFile != "" {
		return writeQR(f.qrFile, v.Link)
	}
	return nil
}

func (a *app) showIssued(v issuedView, f configFlags) {
	switch {
	case v.Withdrawn:
		a.printf("the policy of group %s is withdrawn: no version up to %d counts any more\n", clean(v.Group), v.Sequence)
		a.printf("it goes to every node by the mesh\n")
		return
	case v.Pushed:
		a.printf("version %d of group %s goes to every node by the mesh\n", v.Sequence, clean(v.Group))
		a.showSwitches(v.configView)
		return
	}
	a.printf("version %d of group %s, to be used on a node of this network with: outrider config apply\n\n%s\n\n", v.Sequence, clean(v.Group), clean(v.Link))
	if !f.noQR {
		a.showQR(v.Link)
	}
	switch {
	case v.Password != "":
		a.printf("password   %s\n", clean(v.Password))
	case !v.NeedsPassword:
		a.printf("password   none: only nodes of this network can open it\n")
	}
	a.printf("expires    %s\n", when(v.Expires))
	a.showSwitches(v.configView)
	if f.out != "" {
		a.printf("file       %s\n", clean(f.out))
	}
	if f.qrFile != "" {
		a.printf("code       %s\n", clean(f.qrFile))
	}
	a.printf("It rules nobody before it is applied or pushed: outrider config push %s sends it to all.\n", clean(v.Group))
}

func (a *app) showSwitches(v configView) {
	word := map[bool]string{true: "on", false: "off"}
	a.printf("files      %s\nlocation   %s\n", word[v.Files], word[v.Location])
	if v.Group == "default" {
		a.printf("members    everybody who is in no other group\n")
	} else {
		a.printf("members    %s\n", clean(memberNames(v.Members)))
	}
	switch {
	case v.Reader != "":
		a.printf("archived   by %s\n", clean(v.Reader))
	case v.Compliance != "":
		a.printf("archived   by user %s, whose name has not arrived at this node yet\n", clean(short(v.Compliance)))
	}
	if v.Later {
		a.printf("note: a later version made it; what this one does not know is not enforced here\n")
	}
}

func memberNames(list []policyUser) string {
	if len(list) == 0 {
		return "nobody"
	}
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = m.Name
	}
	return strings.Join(out, ", ")
}

func (a *app) configListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Policies in force here, and configs issued here",
		Long: `List shows the policy of each security group in force on this node: version, way
it came, switches, members, and what is past its date. On a node with the admin
key it also shows what was issued there and can still be applied; a link can be
printed again with outrider config new GROUP --again.`,
		Example:     "  outrider config list\n  outrider config list --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitMissing, exitSetup),
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.configList(cmd.Context()) },
	}
}

func (a *app) configList(ctx context.Context) error {
	c, done, err := a.configClient(ctx)
	if err != nil {
		return err
	}
	defer done()
	c.token = "" // the operator's view, whoever is logged in
	var p struct {
		Configs []configView `json:"configs"`
		Readers []policyUser `json:"readers"`
	}
	var i struct {
		Issued []issuedView `json:"issued"`
	}
	all := map[string]json.RawMessage{}
	for path, into := range map[string]any{"/v1/policy": &p, "/v1/configs": &i} {
		raw, err := c.call(ctx, http.MethodGet, path, nil, into)
		if err == nil {
			err = json.Unmarshal(raw, &all)
		}
		if err != nil {
			return err
		}
	}
	if a.json {
		return a.emit(all)
	}
	a.showPolicies(p.Configs, p.Readers)
	if len(i.Issued) > 0 {
		a.printf("\nIssued here:\n")
		a.showIssuedList(i.Issued)
	}
	return a.werr
}

var onWord = map[bool]string{true: "on", false: "off"}

func (a *app) showPolicies(list []configView, readers []policyUser) {
	rows := [][]string{}
	for _, c := range list {
		who := "everybody else"
		if c.Group != "default" {
			who = memberNames(c.Members)
		}
		rows = append(rows, []string{c.Group, fmt.Sprint(c.Sequence), c.Source, onWord[c.Files], onWord[c.Location], c.dateText(), who})
	}
	a.tableOr("no policy is in force here: everything is allowed", []string{"GROUP", "VERSION", "CAME BY", "FILES", "LOCATION", "DATE", "MEMBERS"}, rows)
	for _, r := range readers {
		a.printf("%s archives everything that is said\n", clean(r.Name))
	}
	for _, c := range list {
		if c.Conflict {
			a.printf("ALARM: two versions of group %s carry the number %d and differ; the stricter value of each field is in force\n", clean(c.Group), c.Sequence)
		}
		if c.Seen > c.Sequence {
			a.printf("note: version %d of group %s was seen, but version %d from the %s outranks it\n", c.Seen, clean(c.Group), c.Sequence, clean(c.Source))
		}
	}
}

// dateText says how old a config in force is.
func (c configView) dateText() string {
	switch {
	case c.Expires.IsZero():
		return "no end"
	case c.PastDays > 0:
		return plural(c.PastDays, "day", "days") + " past date"
	}
	return "until " + when(c.Expires)
}

func (a *app) showIssuedList(list []issuedView) {
	rows := [][]string{}
	for _, c := range list {
		how, state := "link", "can be applied"
		switch {
		case c.Withdrawn:
			how, state = "withdrawal", ""
		case c.Pushed:
			how, state = "pushed", ""
		case !c.Live:
			state = "over"
		}
		rows = append(rows, []string{c.Group, fmt.Sprint(c.Sequence), how, onWord[c.Files], onWord[c.Location], when(c.Issued), state})
	}
	a.table([]string{"GROUP", "VERSION", "AS", "FILES", "LOCATION", "ISSUED", ""}, rows)
}

// configClient talks to the running node, or to the folder itself when none
// runs there; done gives the folder back.
func (a *app) configClient(ctx context.Context) (c *client, done func(), err error) {
	dir, err := a.dir()
	if err != nil {
		return nil, nil, err
	}
	if running(ctx, dir) {
		c, err = a.client()
		return c, func() {}, err
	}
	ready, over, failed := make(chan http.Handler, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- configDesk(ctx, dir, func(desk api.Configs) error {
			ready <- api.ConfigsHandler(desk)
			<-over
			return nil
		})
	}()
	select {
	case err := <-failed:
		return nil, nil, err
	case h := <-ready:
		c = &client{dir: dir, http: &http.Client{Transport: inProcess{h}}}
		return c, func() { close(over); <-failed }, nil
	}
}

// inProcess answers requests by a handler in this process.
type inProcess struct{ h http.Handler }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorded{head: http.Header{}, status: http.StatusOK}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.URL = &url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	t.h.ServeHTTP(w, r)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Header: w.head, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
	}, nil
}

// recorded is an answer in memory.
type recorded struct {
	head   http.Header
	status int
	body   bytes.Buffer
}

func (w *recorded) Header() http.Header         { return w.head }
func (w *recorded) WriteHeader(status int)      { w.status = status }
func (w *recorded) Write(b []byte) (int, error) { return w.body.Write(b) }
