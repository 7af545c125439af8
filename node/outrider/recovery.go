package main

import (
	"context"
	"html/template"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// oneTimeCode is what the node answers to who asks for a code.
type oneTimeCode struct {
	Code    string    `json:"code"`
	Name    string    `json:"name"`
	NewKey  bool      `json:"new_key"`
	Expires time.Time `json:"expires"`
	URL     string    `json:"url"`       // for every machine
	Local   string    `json:"local_url"` // for this one
}

// codeFlags are the flags of user code.
type codeFlags struct {
	adminFile, link, linkPasswordFile, ttl string
}

func (a *app) userCodeCmd() *cobra.Command {
	var f codeFlags
	c := &cobra.Command{
		Use:   "code NAME",
		Short: "A one-time code, to set a password on the page",
		Long: `Code lets a person set a password on the node's page, once, within a short time.
The node must be running; a code ends when it is used, when its time is over, or
when the node stops.

For a name that is not in the network yet it makes a new user, who lives on this
node. For a user of this node it is the way back after a forgotten password: the
user gets a new key, contacts see that the key has changed, and messages from
before stay sealed. (A recovery sheet avoids that: outrider user sheet.)

It needs the admin's key on this node, or a join link from where that key is.`,
		Example:     "  outrider user code bravo\n  outrider user code bravo --for 1h\n  outrider user code --link bravo.orc --link-password-file bravo.pw",
		Args:        cobra.MaximumNArgs(1),
		Annotations: exits(exitNotRunning, exitRefused, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.userCode(cmd.Context(), args, f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.ttl, "for", "15m", "how long the code is good, 1m to 24h")
	fl.StringVar(&f.link, "link", "", "read a join link from this file; - is standard input")
	passwordFlag(c, &f.adminFile, "admin-password-file", "the admin password")
	passwordFlag(c, &f.linkPasswordFile, "link-password-file", "the link's password")
	return c
}

func (a *app) userCode(ctx context.Context, args []string, f codeFlags) error {
	d, err := parseSpan(f.ttl, time.Minute, 24*time.Hour)
	switch {
	case err != nil:
		return usageError("--for %q: %v", shorten(f.ttl), err)
	case (f.link == "") == (len(args) == 0):
		return usageError("give a name, or --link, which names the user")
	}
	q := map[string]any{"ttl_s": int64(d / time.Second)}
	if f.link != "" {
		if err := a.codeLink(ctx, f, q); err != nil {
			return err
		}
	} else {
		if err := a.mustAdmin(ctx); err != nil {
			return withHint(err, "not_admin", "or open a link that was made there: outrider user code --link FILE")
		}
		admin, err := a.password(ctx, f.adminFile, "Admin password")
		if err != nil {
			return err
		}
		q["name"], q["admin_password"] = args[0], string(admin)
	}
	var out oneTimeCode
	return a.do(ctx, http.MethodPost, "/v1/codes", q, &out, func() { a.showCode(out) })
}

func (a *app) codeLink(ctx context.Context, f codeFlags, q map[string]any) error {
	var link string
	var err error
	if f.link == "-" {
		link, err = a.readLink(ctx, []string{"-"}, "")
	} else {
		link, err = a.readLink(ctx, nil, f.link)
	}
	if err != nil {
		return err
	}
	password, err := a.password(ctx, f.linkPasswordFile, "Password of the link")
	if err != nil {
		return err
	}
	q["link"], q["link_password"] = link, string(password)
	return nil
}

func (a *app) showCode(c oneTimeCode) {
	if c.NewKey {
		a.printf("%s lives here already. The code makes a NEW key: contacts see that it has changed,\nand messages from before stay sealed.\n", clean(c.Name))
	}
	a.printf("code for %s: %s\ngood once, until %s\n", clean(c.Name), clean(c.Code), when(c.Expires))
	at := func(url string) string { return clean(strings.SplitN(url, "#", 2)[0]) }
	switch {
	case c.URL != "":
		a.printf("enter it at %s\n", at(c.URL))
		a.showQR(c.URL)
	case c.Local != "":
		a.printf("enter it at %s on this machine\n", at(c.Local))
	default:
		a.printf("The page is off, so it can be entered nowhere yet. Write this into outrider.toml, start the\nnode again, and make a new code:\n\n[page]\nlisten = [\"127.0.0.1\"]\n")
	}
}

func (a *app) userPasswordCmd() *cobra.Command {
	var oldFile, newFile string
	c := &cobra.Command{
		Use:   "password",
		Short: "Change the password of the user who is logged in",
		Long: `Password puts the keys of the user who is logged in under another password, of at
least 12 characters. Other sessions of the user end.`,
		Example:     "  outrider user password\n  outrider user password --old-password-file old.pw --password-file new.pw",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin, exitRefused, exitBusy),
		RunE: func(cmd *cobra.Command, _ []string) error {
			old, err := a.password(cmd.Context(), oldFile, "Password until now")
			if err != nil {
				return err
			}
			p, err := a.newPassword(cmd.Context(), newFile, "New password")
			if err != nil {
				return err
			}
			return a.do(cmd.Context(), http.MethodPost, "/v1/password", map[string]string{"old": string(old), "password": string(p)}, nil,
				func() { a.printf("the password is changed\n") })
		},
	}
	passwordFlag(c, &oldFile, "old-password-file", "the password until now")
	passwordFlag(c, &newFile, "password-file", "the new password")
	return c
}

// recoverySheet is what is printed and locked away.
type recoverySheet struct {
	User    string `json:"user_id"`
	Name    string `json:"name"`
	Network string `json:"network"`
	Words   string `json:"words"`
}

func (a *app) userSheetCmd() *cobra.Command {
	var passwordFile, file string
	c := &cobra.Command{
		Use:   "sheet",
		Short: "A recovery sheet of the user who is logged in",
		Long: `Sheet writes 24 words that bring the user's key back when the password is
forgotten: on this node with everything that is here, on another node of the
network without the messages. Who has the words is that user: print the sheet,
lock it away, and delete the file. It needs the password.

The file is HTML to be printed, or text if its name ends in .txt; without --file
the words go to standard output. Make a new sheet after a change of key.`,
		Example:     "  outrider user sheet --file sheet.html\n  outrider user sheet",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin, exitRefused, exitBusy),
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := a.password(cmd.Context(), passwordFile, "Password")
			if err != nil {
				return err
			}
			return a.sheet(cmd.Context(), password, file)
		},
	}
	c.Flags().StringVar(&file, "file", "", "write the sheet to this new file, readable for its owner only")
	passwordFlag(c, &passwordFile, "password-file", "the password")
	return c
}

func (a *app) sheet(ctx context.Context, password []byte, file string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var s recoverySheet
	raw, err := c.call(ctx, http.MethodPost, "/v1/recovery", map[string]string{"password": string(password)}, &s)
	if err != nil {
		return err
	}
	if file == "" {
		return a.answer(raw, func() { a.printf("%s", sheetText(s)) })
	}
	if err := writeSheet(file, s); err != nil {
		return &failure{exit: exitUsage, code: "no_file", message: "sheet: " + err.Error()}
	}
	if a.json {
		return a.emit(map[string]string{"file": file})
	}
	a.printf("written to %s: print it, lock it away, delete the file\n", clean(file))
	return a.werr
}

// writeSheet makes a file that was not there, so that none is overwritten.
func writeSheet(file string, s recoverySheet) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if strings.HasSuffix(file, ".txt") {
		_, err = f.WriteString(sheetText(s))
	} else {
		err = sheetPage.Execute(f, map[string]any{"S": s, "Words": strings.Fields(s.Words)})
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func sheetText(s recoverySheet) string {
	var b strings.Builder
	b.WriteString("Recovery sheet of " + clean(s.Name) + ", network " + clean(s.Network) + "\n\n")
	for i, w := range strings.Fields(s.Words) {
		b.WriteString(clean(w))
		if i%6 == 5 {
			b.WriteString("\n")
		} else {
			b.WriteString(" ")
		}
	}
	b.WriteString("\nWho has these words is this user. Keep them where nobody else comes.\nTo use them: outrider user restore, or the page of a node, \"I have a recovery sheet\".\n")
	return b.String()
}

var sheetPage = template.Must(template.New("sheet").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Recovery sheet</title><style>
body{font:14pt/1.5 sans-serif;margin:2cm}ol{columns:3;font:16pt/2 monospace;padding-left:2em}p{max-width:34em}
</style></head><body>
<h1>Recovery sheet</h1>
<p>User <strong>{{.S.Name}}</strong>, network <strong>{{.S.Network}}</strong><br>{{.S.User}}</p>
<ol>{{range .Words}}<li>{{.}}</li>{{end}}</ol>
<p>Who has these words is this user. Keep them where nobody else comes, and delete the file this was printed from.</p>
<p>To use them: on a node of the network <code>outrider user restore</code>, or on its page “I have a recovery sheet”.
Each word can be cut to its first four letters.</p>
</body></html>
`))

func (a *app) userRestoreCmd() *cobra.Command {
	var wordsFile, passwordFile string
	c := &cobra.Command{
		Use:   "restore",
		Short: "Set a new password with a recovery sheet",
		Long: `Restore brings a user's key back with the 24 words of a recovery sheet and puts it
under a new password, of at least 12 characters. On the node where the sheet was
made the messages there can be read again. On another node of the network the
user lives from then on too, with the same key.`,
		Example:     "  outrider user restore\n  outrider user restore --words-file sheet.words --password-file new.pw",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitRefused, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, _ []string) error {
			words, err := a.password(cmd.Context(), wordsFile, "The 24 words")
			if err != nil {
				return err
			}
			p, err := a.newPassword(cmd.Context(), passwordFile, "New password")
			if err != nil {
				return err
			}
			return a.restore(cmd.Context(), words, p)
		},
	}
	passwordFlag(c, &wordsFile, "words-file", "the 24 words")
	passwordFlag(c, &passwordFile, "password-file", "the new password")
	return c
}

// restore also logs in: the node's answer is a session.
func (a *app) restore(ctx context.Context, words, password []byte) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var out struct{ Token, Name string }
	raw, err := c.call(ctx, http.MethodPost, "/v1/recovery/restore", map[string]string{"words": string(words), "password": string(password)}, &out)
	if err != nil {
		return err
	}
	if out.Token != "" && len(out.Token) <= tokenMax {
		if err := a.saveToken(c.dir, out.Token); err != nil {
			return err
		}
	}
	return a.answer(raw, func() { a.printf("%s has a new password and is logged in\n", clean(out.Name)) })
}
