package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"outrider/node"
	"outrider/node/api"
	"outrider/node/config"
)

func init() { configDesk = openConfigDesk }

// openConfigDesk opens the folder of a node that does not run.
func openConfigDesk(_ context.Context, dir string, use func(api.Configs) error) error {
	return withHome(dir, func(h *node.Home) error {
		c, err := config.Load(filepath.Join(dir, config.FileName))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		desk, shut, err := node.OfflineConfigs(h, c, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return errors.Join(use(desk), shut())
	})
}
