package main

import (
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
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			}
			return usageError("no completions for %q: use bash, zsh or fish", shorten(args[0]))
		},
	}
}
