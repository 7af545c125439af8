package linkemu

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenTAP makes a TAP interface in the calling thread's network namespace. It
// goes when the file is closed.
func OpenTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("linkemu: open tun device: %w (is the kernel module tun there?)", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("linkemu: make interface %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Configure sets up an interface in the calling thread's network namespace
// and brings it up.
func Configure(i Interface) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("linkemu: configure %s: %w", i.Net, err)
	}
	defer unix.Close(fd)
	mask := uint32(0xffffffff) << (32 - i.Addr.Bits())
	addr := i.Addr.Addr().As4()
	steps := []struct {
		what string
		call uint
		fill func(*unix.Ifreq) error
	}{
		{"mtu", unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(uint32(i.MTU)); return nil }},
		{"address", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(addr[:]) }},
		{"netmask", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error {
			return r.SetInet4Addr([]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)})
		}},
		{"broadcast", unix.SIOCSIFBRDADDR, func(r *unix.Ifreq) error {
			m := ^mask
			return r.SetInet4Addr([]byte{addr[0] | byte(m>>24), addr[1] | byte(m>>16), addr[2] | byte(m>>8), addr[3] | byte(m)})
		}},
		{"up", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil }},
	}
	if err := setMAC(fd, i.Net, i.MAC); err != nil {
		return fmt.Errorf("linkemu: configure %s: hardware address: %w", i.Net, err)
	}
	for _, s := range steps {
		req, err := unix.NewIfreq(i.Net)
		if err == nil {
			err = s.fill(req)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, s.call, req)
		}
		if err != nil {
			return fmt.Errorf("linkemu: configure %s: %s: %w", i.Net, s.what, err)
		}
	}
	return nil
}

// setMAC fills the sockaddr that unix.Ifreq has no method for (netdevice(7)).
func setMAC(fd int, name string, mac [6]byte) error {
	var req [40]byte // struct ifreq
	copy(req[:unix.IFNAMSIZ-1], name)
	*(*uint16)(unsafe.Pointer(&req[unix.IFNAMSIZ])) = unix.ARPHRD_ETHER
	copy(req[unix.IFNAMSIZ+2:], mac[:])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&req[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
