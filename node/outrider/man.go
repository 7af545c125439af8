package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCmd() *cobra.Command {
	return &cobra.Command{
		Use:         "man",
		GroupID:     groupTool,
		Short:       "Print the manual page",
		Long:        "Man prints the manual page outrider(1), made from the same texts as the help.",
		Example:     "  outrider man > outrider.1\n  outrider man | man -l -",
		Args:        cobra.NoArgs,
		Annotations: exits(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.text(manual(cmd.Root()))
		},
	}
}

// manual writes one page in the man(7) language. It has no date, so that the
// same program always prints the same page.
func manual(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(".TH OUTRIDER 1 \"\" Outrider \"User commands\"\n")
	fmt.Fprintf(&b, ".SH NAME\noutrider \\- %s\n", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	b.WriteString(".SH SYNOPSIS\n.B outrider\n.I verb\n[\\fIarguments\\fR] [\\fIflags\\fR]\n.SH DESCRIPTION\n")
	paragraphs(&b, root.Long)
	b.WriteString(".SH GLOBAL FLAGS\n")
	flags(&b, root.PersistentFlags())
	b.WriteString(".SH VERBS\n")
	verbs(&b, root)
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.code, roff(e.text))
	}
	b.WriteString(".SH ENVIRONMENT\n")
	for _, e := range [][2]string{
		{"OUTRIDER_DIR", "The node's folder, as --dir."},
		{"OUTRIDER_TOKEN", "A session's token, in place of the one that login keeps."},
		{"GOMEMLIMIT", "Overrides memory_limit_mb of the settings."},
	} {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", e[0], roff(e[1]))
	}
	return b.String()
}

func verbs(b *strings.Builder, cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		switch {
		case c.Name() == "help" || c.IsAdditionalHelpTopicCommand():
			continue
		case c.HasSubCommands():
			verbs(b, c)
			continue
		}
		fmt.Fprintf(b, ".SS %s\n", roff(c.UseLine()))
		paragraphs(b, c.Long)
		flags(b, c.NonInheritedFlags())
		fmt.Fprintf(b, ".PP\nExample:\n.PP\n.nf\n%s\n.fi\n", roff(c.Example))
	}
}

func flags(b *strings.Builder, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind := f.Value.Type(); kind != "bool" {
			name += " " + kind
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(f.Usage))
	})
}

func paragraphs(b *strings.Builder, text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.WriteString(roff(p) + "\n")
	}
}

// roff escapes what the formatter would take for its own: backslashes, hyphens
// that are typed as such, and lines that begin like a request.
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
