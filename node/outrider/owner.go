package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// asOwner makes root act as the one who owns the node's folder, so that what
// it makes there can be read by the service that runs under that account. It
// changes the whole process, for good; anybody else stays who they are.
func asOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	st, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the folder will be root's own
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	uid, gid := int(owner.Uid), int(owner.Gid)
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("act as the owner of %s (user %d): %w", dir, uid, err)
	}
	return nil
}

// serviceUnit is where the package puts the node's unit.
const serviceUnit = "/usr/lib/systemd/system/outrider.service"

// startCommand is what starts the node on dir: the service, where the package
// is installed and dir is its folder.
func startCommand(dir string) string {
	if dir == systemDir {
		if _, err := os.Stat(serviceUnit); err == nil {
			return "systemctl start outrider"
		}
	}
	return "outrider up"
}
