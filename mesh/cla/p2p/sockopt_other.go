//go:build !linux

package p2p

import "syscall"

// tuneSocket does nothing where the options differ: only Linux is supported
// in the field.
func (p Profile) tuneSocket(_, _ string, _ syscall.RawConn) error { return nil }
