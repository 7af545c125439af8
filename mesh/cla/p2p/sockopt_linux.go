package p2p

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// tuneSocket keeps application bytes out of the socket (mesh.md 3.7): what
// sits there can no longer be overtaken by something more urgent. Options
// that a kernel does not know are not worth losing a contact over.
func (p Profile) tuneSocket(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		if p.SendBuffer > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, p.SendBuffer)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, p.Unsent)
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	})
}
