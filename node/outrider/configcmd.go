package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"outrider/node"
	"outrider/node/config"
)

func (a *app) configCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "config",
		GroupID: groupTool,
		Short:   "This node's settings, and the network's signed policies",
		Long: `Config has two subjects. Check, ports and show without an argument work on the
settings file of the node's folder, ` + config.FileName + `, or on the one given with
--file. New, push, apply, list and expire, and show with an argument, work on
signed configs: what an admin decides for the users of the network. None of them
needs a running node.`,
		Example: "  outrider config check\n  outrider config new convoy --member bravo --files off --out convoy.orc\n  outrider config apply convoy.orc",
	}
	c.AddCommand(a.configCheckCmd(), a.configShowCmd(), a.configPortsCmd(),
		a.configNewCmd(), a.configApplyCmd(), a.configPushCmd(), a.configListCmd(), a.configExpireCmd())
	return c
}

// settingsFlag names the settings file.
func settingsFlag(c *cobra.Command) *string {
	return c.Flags().String("file", "", "the settings file (default: "+config.FileName+" in the node's folder)")
}

// loadConfig reads the settings; a node without a file has the defaults.
func (a *app) loadConfig(path string) (config.Config, string, error) {
	given := path != ""
	if !given {
		dir, err := a.dir()
		if err != nil {
			return config.Config{}, "", err
		}
		path = filepath.Join(dir, config.FileName)
	}
	c, err := config.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !given:
		return config.Default(), "", nil
	case errors.Is(err, fs.ErrNotExist):
		return c, path, &failure{exit: exitMissing, code: "no_file", message: "no settings file " + path}
	case err != nil:
		return c, path, configFailure(path, err)
	}
	return c, path, nil
}

func configFailure(path string, err error) error {
	f := &failure{exit: exitSetup, code: "bad_settings", next: "outrider config show --defaults"}
	mistakes := config.Errors(err)
	if len(mistakes) == 0 {
		f.message = err.Error()
		return f
	}
	f.message = path + ": " + mistakeText(mistakes[0])
	for _, m := range mistakes[1:] {
		f.hint = joinHints(f.hint, mistakeText(m))
	}
	return f
}

func mistakeText(m *config.Error) string {
	s := m.Message
	if m.Key != "" {
		s = m.Key + ": " + s
	}
	if m.Line > 0 {
		s = "line " + strconv.Itoa(m.Line) + ": " + s
	}
	if m.Hint != "" {
		s += " (" + m.Hint + ")"
	}
	return s
}

func (a *app) configCheckCmd() *cobra.Command {
	var path *string
	c := &cobra.Command{
		Use:   "check",
		Short: "Find mistakes before the node does",
		Long: `Check reads the settings and reports every mistake with its line: unknown keys
and the one that was probably meant, values out of bounds, ports that collide.
Then it tries the ports and names the program that has a busy one, if the system
tells; those of this node itself, when it runs, are as they should be. It exits
with 9 when something is wrong.`,
		Example:     "  outrider config check\n  outrider config check --file outrider.toml",
		Args:        cobra.NoArgs,
		Annotations: exits(exitMissing, exitSetup),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, from, err := a.loadConfig(*path)
			if err == nil && from == "" {
				err = a.nodeThere()
			}
			if err != nil {
				return err
			}
			found := a.notOurs(cmd.Context(), c.Check())
			if a.json {
				err = a.emit(map[string]any{"file": from, "findings": append([]config.Finding{}, found...)})
			} else {
				a.showFindings(from, found)
			}
			if err == nil && len(found) > 0 {
				err = &failure{exit: exitSetup, code: "ports_busy", message: plural(len(found), "port", "ports") + " cannot be used"}
			}
			return err
		},
	}
	path = settingsFlag(c)
	return c
}

// nodeThere says that the folder holds no node, whose settings could be
// checked.
func (a *app) nodeThere() error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	switch err := node.LookHome(dir); {
	case errors.Is(err, node.ErrStateLost):
		return setupError(err)
	case errors.Is(err, node.ErrNotInitialised):
		return &failure{exit: exitMissing, code: codeNoNode, message: "there is neither a node nor a settings file in " + dir,
			hint: "name another folder with --dir, or a settings file with --file", next: "outrider init"}
	}
	return nil
}

// notOurs leaves out the ports that are busy because this very node has them.
func (a *app) notOurs(ctx context.Context, found []config.Finding) []config.Finding {
	dir, err := a.dir()
	if err != nil {
		return found
	}
	pid := nodeProcess(ctx, dir)
	return slices.DeleteFunc(found, func(f config.Finding) bool { return pid != 0 && f.Owner.PID == pid })
}

func (a *app) showFindings(from string, found []config.Finding) {
	if from == "" {
		from = "no settings file: defaults"
	}
	for _, f := range found {
		a.printf("%s\n  %s\n", clean(f.Message), clean(f.Hint))
	}
	if len(found) == 0 {
		a.printf("%s: good, all ports can be had\n", clean(from))
	}
}

func (a *app) configShowCmd() *cobra.Command {
	var defaults bool
	var path *string
	var f givenFlags
	c := &cobra.Command{
		Use:   "show [LINK|FILE|-]",
		Short: "Print the settings in force, or what a signed config would change",
		Long: `Show prints every setting with its meaning, unit and default, as a settings file
that can be edited. With --defaults it prints the file a new node starts with.

With a link, a file or - it verifies a signed config as apply does, says in plain
words what it would change on this node, and changes nothing.`,
		Example:     "  outrider config show\n  outrider config show --defaults > outrider.toml\n  outrider config show convoy.orc",
		Args:        cobra.MaximumNArgs(1),
		Annotations: exits(exitRefused, exitMissing, exitConflict, exitBusy, exitSetup),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.configGiven(cmd.Context(), args[0], f, "/v1/configs/read", a.showOpened)
			}
			c := config.Default()
			if !defaults {
				var err error
				if c, _, err = a.loadConfig(*path); err != nil {
					return err
				}
			}
			if !a.json {
				a.printf("%s", c.Text(true))
				return a.werr
			}
			return a.emit(settingsJSON(c))
		},
	}
	c.Flags().BoolVar(&defaults, "defaults", false, "the defaults, whatever the file says")
	path = settingsFlag(c)
	passwordFlag(c, &f.passwordFile, "password-file", "the signed config's password")
	return c
}

type settingJSON struct {
	Key     string `json:"key"`
	Value   string `json:"value"` // as in the file
	Default string `json:"default"`
	Unit    string `json:"unit"`
	Doc     string `json:"doc"`
}

func settingsJSON(c config.Config) map[string][]settingJSON {
	var out []settingJSON
	def := config.Default()
	for _, f := range config.Fields {
		out = append(out, settingJSON{f.Key, c.Value(f.Key), def.Value(f.Key), f.Unit, f.Doc})
	}
	return map[string][]settingJSON{"settings": out}
}

func (a *app) configPortsCmd() *cobra.Command {
	var path *string
	c := &cobra.Command{
		Use:   "ports",
		Short: "The port table, and the firewall lines for it",
		Long: `Ports prints every port this node uses or has reserved, and the nftables or ufw
commands that let other nodes in. The README's table is this one.`,
		Example:     "  outrider config ports",
		Args:        cobra.NoArgs,
		Annotations: exits(exitMissing, exitSetup),
		RunE: func(*cobra.Command, []string) error {
			c, _, err := a.loadConfig(*path)
			if err != nil {
				return err
			}
			ports := c.Ports()
			if a.json {
				return a.emit(map[string]any{"ports": ports, "nftables": append([]string{}, config.Firewall(ports)...), "ufw": append([]string{}, config.FirewallUFW(ports)...)})
			}
			rows := [][]string{}
			for _, p := range ports {
				rows = append(rows, []string{fmt.Sprintf("%d/%s", p.Port, p.Proto), p.Where(), p.Name, p.Key, p.Use})
			}
			a.table([]string{"PORT", "LISTENS ON", "NAME", "SETTING", "USE"}, rows)
			lines := config.Firewall(ports)
			if len(lines) == 0 {
				a.printf("\nNothing here can be reached from other machines, so no firewall need let anybody in.\n")
				return a.werr
			}
			a.printf("\nTo let other machines in, with nftables (table inet filter, chain input):\n")
			for _, line := range lines {
				a.printf("  %s\n", line)
			}
			a.printf("\nor with ufw:\n")
			for _, line := range config.FirewallUFW(ports) {
				a.printf("  %s\n", line)
			}
			return a.werr
		},
	}
	path = settingsFlag(c)
	return c
}
