package main

import (
	"bufio"
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"outrider/node"
	"outrider/offline/deeplink"
)

func (a *app) openCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "open LINK",
		GroupID: groupTool,
		Short:   "Say what to do with a link",
		Long: `Open looks at a link that a browser or mail program handed over (the desktop
registers it for outrider:// links) and says what to type. It changes nothing: a
link brings this machine into a network only by "outrider join", with the
password that goes with it, and a signed config is put in force only by "outrider
config apply".`,
		Example:     "  outrider open 'outrider://c/#...'",
		Args:        cobra.ExactArgs(1),
		Annotations: exits(),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.openLink(args[0])
			if err != nil && !a.json { // said before the window closes
				err = &failure{exit: exitCode(a.report(err)), said: true}
			}
			if !a.json {
				a.holdWindow(cmd.Context())
			}
			return err
		},
	}
}

// openLink explains a link without opening it.
func (a *app) openLink(link string) error {
	frame, err := deeplink.DecodeLink(link)
	if err != nil {
		f := &failure{exit: exitUsage, code: "link_damaged", message: "this is no whole link of Outrider", hint: "ask for it again, as a file or as a QR code"}
		if errors.Is(err, deeplink.ErrVersion) {
			f.code, f.hint = "link_version", "it needs a later Outrider than this one"
		}
		return f
	}
	link = deeplink.Link(frame) // nothing in it can end a quoted word
	dir, err := a.dir()
	if err != nil {
		return err
	}
	if deeplink.IsUpdate(frame) {
		return a.openUpdate(link, dir)
	}
	here := !errors.Is(node.LookHome(dir), node.ErrNotInitialised)
	if a.json {
		return a.emit(map[string]any{"link": link, "dir": dir, "node_here": here, "next": "outrider join"})
	}
	a.printf("This link brings a machine and one person into an Outrider network. It works\nonce, and only with the password that was handed over with it.\n\n")
	if here {
		a.printf("The node in %s would take the person in.", clean(dir))
	} else {
		a.printf("There is no node in %s yet; join makes one.", clean(dir))
	}
	a.printf(" To do that, type:\n\n  %s '%s'\n\n", a.inDir("outrider join"), clean(link))
	return a.werr
}

// openUpdate explains a signed config.
func (a *app) openUpdate(link, dir string) error {
	if a.json {
		return a.emit(map[string]any{"link": link, "dir": dir, "next": "outrider config apply"})
	}
	a.printf("This link is no join: it holds what an admin decides for the users of a network,\nfor nodes that are in that network already.\n\n")
	a.printf("To see what it would change on the node in %s, and then to apply it, type:\n\n", clean(dir))
	a.printf("  %s '%s'\n  %s '%s'\n\n", a.inDir("outrider config show"), clean(link), a.inDir("outrider config apply"), clean(link))
	return a.werr
}

// holdWindow waits for Enter, or Ctrl-C, where a desktop opened a terminal only
// for us.
func (a *app) holdWindow(ctx context.Context) {
	in, ok := a.in.(*os.File)
	out, ok2 := a.out.(*os.File)
	if !ok || !ok2 || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return
	}
	a.printf("Press Enter to close this.\n")
	entered := make(chan struct{})
	go func() { // ends with the process at the latest
		_, _ = bufio.NewReader(in).ReadString('\n') // whatever ends it ends us
		close(entered)
	}()
	select {
	case <-entered:
	case <-ctx.Done():
	}
}
