package api

import (
	"net"

	"golang.org/x/sys/unix"
)

// listenUnix creates the socket unreachable for others from its first moment:
// the mode between bind and chmod is the umask's doing.
func listenUnix(path string) (net.Listener, error) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	return net.Listen("unix", path)
}
