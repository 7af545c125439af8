package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// systemDir is where a node run by the system lives.
const systemDir = "/var/lib/outrider"

// app is one run of the command: its streams and global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string

	json    bool
	dirFlag string
	werr    error // first error of writing to out
}

func init() { cobra.EnableCommandSorting = false } // ours is the order of first use

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "outrider",
		Short:         "Messages, files and positions across a broken mesh",
		Long:          rootLong,
		Example:       "  outrider init\n  outrider network create eagle\n  outrider up",
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownVerb(cmd, args[0])
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &failure{exit: exitUsage, code: "usage", message: err.Error(), next: cmd.CommandPath() + " --help"}
	})
	pf := root.PersistentFlags()
	pf.StringVar(&a.dirFlag, "dir", "", "the node's folder (default $OUTRIDER_DIR, else "+systemDir+" for root, else ~/.local/share/outrider,\nor if that is not there and a node runs in "+systemDir+", that one)")
	pf.BoolVar(&a.json, "json", false, "print JSON, one value per line")
	root.AddGroup(&cobra.Group{ID: groupNode, Title: "The node:"}, &cobra.Group{ID: groupUser, Title: "Users and messages:"},
		&cobra.Group{ID: groupTool, Title: "Tools:"})
	root.SetHelpCommand(a.helpCmd(root))
	root.SetHelpFunc(a.help(root.HelpFunc()))
	root.SetUsageTemplate(usageTemplate)
	for _, c := range a.verbs() {
		root.AddCommand(c)
	}
	prepare(root)
	return root
}

// usageTemplate is what follows a command's text in its help; the example
// comes last, where the eye ends.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} VERB{{else}}{{.UseLine}}{{end}}{{if .HasAvailableFlags}} [flags]{{end}}
{{- if .HasAvailableSubCommands}}{{$cmds := .Commands}}{{if eq (len .Groups) 0}}

Verbs:{{range $cmds}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{else}}{{range $group := .Groups}}

{{.Title}}{{range $cmds}}{{if and (eq .GroupID $group.ID) (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Global flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- with index .Annotations "exit-codes"}}

Exit codes: {{.}} (outrider exit-codes says what they mean){{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
`

const rootLong = `Outrider stores, carries and forwards sealed messages, files and positions
between nodes whose links are never all up at once.

A node lives in one folder (--dir). "outrider up" runs it; the other verbs talk
to it through the socket in that folder.`

const (
	groupNode = "node"
	groupUser = "user"
	groupTool = "tool"
)

// verbs lists every command, in the order of the help.
func (a *app) verbs() []*cobra.Command {
	return []*cobra.Command{
		a.initCmd(), a.upCmd(), a.networkCmd(), a.joinCmd(),
		a.statusCmd(), a.peersCmd(), a.contactsCmd(), a.linksCmd(), a.linkCmd(), a.topCmd(), a.doctorCmd(), a.reportCmd(), a.pageCmd(),
		a.userCmd(), a.admitCmd(), a.revokeCmd(), a.loginCmd(), a.logoutCmd(),
		a.atakCmd(), a.sendCmd(), a.inboxCmd(), a.fileCmd(), a.locationCmd(), a.carryCmd(), a.coreCmd(), a.complianceCmd(),
		a.messageCmd(), a.whyCmd(), a.retryCmd(), a.recallCmd(), a.failuresCmd(),
		a.configCmd(), a.openCmd(), a.versionCmd(), a.completionCmd(), a.manCmd(), a.exitCodesCmd(),
	}
}

// prepare gives every command what all of them share.
func prepare(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	if cmd.HasSubCommands() && cmd.HasParent() && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &failure{exit: exitUsage, code: "usage", message: cmd.CommandPath() + ": which of its verbs?", next: cmd.CommandPath() + " --help"}
			}
			return unknownVerb(cmd, args[0])
		}
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &failure{exit: exitUsage, code: "usage", message: err.Error(),
					hint: "usage: " + cmd.UseLine(), next: cmd.CommandPath() + " --help"}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		prepare(c)
	}
}

const annotationExit = "exit-codes"

// exits documents which exit codes a verb can end with, beside 0, 1 and 2.
func exits(codes ...exitCode) map[string]string {
	list := []string{"0", "1", "2"}
	for _, c := range codes {
		list = append(list, fmt.Sprint(int(c)))
	}
	return map[string]string{annotationExit: strings.Join(list, ", ")}
}

func unknownVerb(cmd *cobra.Command, word string) error {
	f := &failure{exit: exitUsage, code: "usage", message: fmt.Sprintf("%s has no verb %q", cmd.CommandPath(), shorten(word)), next: cmd.CommandPath() + " --help"}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		f.hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return f
}

// dir returns the node's folder.
func (a *app) dir() (string, error) {
	for _, d := range []string{a.dirFlag, a.env("OUTRIDER_DIR")} {
		if d != "" {
			return filepath.Abs(d)
		}
	}
	if os.Geteuid() == 0 {
		return systemDir, nil
	}
	base := a.env("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", &failure{exit: exitSetup, code: "no_folder", message: "no home folder: " + err.Error(), hint: "name the node's folder with --dir or OUTRIDER_DIR"}
		}
		base = filepath.Join(home, ".local", "share")
	}
	own := filepath.Join(base, "outrider")
	// Without a node of one's own, talk to the system's if there is one.
	if _, err := os.Stat(own); os.IsNotExist(err) {
		if _, err := os.Stat(filepath.Join(systemDir, socketName)); err == nil {
			return systemDir, nil
		}
	}
	return own, nil
}

// print writes one line for people.
func (a *app) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(a.out, format, args...); err != nil && a.werr == nil {
		a.werr = fmt.Errorf("write: %w", err)
	}
}

// next says what can be typed now.
func (a *app) next(format string, args ...any) {
	a.printf("next: %s\n", a.inDir(fmt.Sprintf(format, args...)))
}

// inDir repeats --dir in commands to be typed next: without it they would be
// for another node.
func (a *app) inDir(commands string) string {
	if a.dirFlag == "" || strings.HasSuffix(commands, "--help") {
		return commands
	}
	dir := a.dirFlag
	if strings.ContainsFunc(dir, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+:@%,", r)
	}) {
		dir = "'" + strings.ReplaceAll(dir, "'", `'\''`) + "'"
	}
	return verbWords.ReplaceAllString(commands, "${0} --dir "+strings.ReplaceAll(dir, "$", "$$"))
}

// verbWords finds our commands up to their last verb.
var verbWords = regexp.MustCompile(`\boutrider( [a-z]+)+`)

// text writes a text as it is, or as one value of JSON.
func (a *app) text(s string) error {
	if a.json {
		return a.emit(map[string]string{"text": s})
	}
	a.printf("%s", s)
	return a.werr
}

// emit writes a value as one line of JSON.
func (a *app) emit(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	a.printf("%s\n", cleanJSON(line))
	return a.werr
}
