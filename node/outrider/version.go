package main

import (
	"bytes"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		GroupID:     groupTool,
		Short:       "Which build this is",
		Long:        "Version prints the version of this program, of the Go it was built with, and the\nmachine it was built for.",
		Example:     "  outrider version",
		Args:        cobra.NoArgs,
		Annotations: exits(),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.emit(map[string]string{"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			}
			a.printf("outrider %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return a.werr
		},
	}
}

func (a *app) exitCodesCmd() *cobra.Command {
	long := "Every verb ends with one of these numbers. They keep their meaning.\n"
	for _, e := range exitCodes {
		long += fmt.Sprintf("\n  %d  %s", e.code, e.text)
	}
	return &cobra.Command{
		Use:     "exit-codes",
		GroupID: groupTool,
		Short:   "The exit codes and what they mean",
		Long:    long,
		Example: "  outrider exit-codes\n  outrider exit-codes --json",
		Args:    cobra.NoArgs, Annotations: exits(),
		RunE: func(*cobra.Command, []string) error {
			if !a.json {
				a.printf("%s\n", long)
				return a.werr
			}
			table := map[string]string{}
			for _, e := range exitCodes {
				table[fmt.Sprint(int(e.code))] = e.text
			}
			return a.emit(table)
		},
	}
}

func (a *app) completionCmd() *cobra.Command {
	return &cobra.Command{
		Use:         "completion SHELL",
		GroupID:     groupTool,
		Short:       "Print shell completions",
		Long:        "Completion prints a script that completes verbs and flags, for bash, zsh or fish.",
		Example:     "  outrider completion bash > ~/.local/share/bash-completion/completions/outrider",
		Args:        cobra.ExactArgs(1),
		ValidArgs:   []string{"bash", "zsh", "fish"},
		Annotations: exits(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var script bytes.Buffer
			var err error
			switch args[0] {
			case "bash":
				err = cmd.Root().GenBashCompletionV2(&script, true)
			case "zsh":
				err = cmd.Root().GenZshCompletion(&script)
			case "fish":
				err = cmd.Root().GenFishCompletion(&script, true)
			default:
				return usageError("no completions for %q: use bash, zsh or fish", shorten(args[0]))
			}
			if err != nil {
				return err
			}
			return a.text(script.String())
		},
	}
}

func (a *app) helpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:         "help [VERB]",
		GroupID:     groupTool,
		Short:       "Help about any command",
		Long:        "Help prints the help of a verb, as VERB --help does, or the list of all verbs.",
		Example:     "  outrider help user add",
		Annotations: exits(),
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownVerb(cmd, rest[0])
			}
			return cmd.Help()
		},
	}
}

// help prints a verb's help by show, or as JSON.
func (a *app) help(show func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		var text bytes.Buffer
		cmd.SetOut(&text)
		show(cmd, args)
		cmd.SetOut(nil)
		if err := a.text(text.String()); err != nil && a.werr == nil {
			a.werr = err
		}
	}
}
