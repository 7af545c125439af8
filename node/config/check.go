package config

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// An Owner is the process that holds a port. Its fields are empty when the
// kernel does not tell us, as with other users' processes.
type Owner struct {
	PID  int    `json:"pid,omitempty"`
	Name string `json:"name,omitempty"` // the command's name, as the kernel has it
}

// A Finding is something Check has to say about a valid configuration.
type Finding struct {
	Port    Port   `json:"port"`
	Owner   Owner  `json:"owner"`
	Busy    bool   `json:"-"` // another socket has the port
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// Check tries every port this configuration opens and reports those that
// cannot be had now, with the owner's name if it can be known. It binds each
// for a moment and listens to nothing.
func (c Config) Check() []Finding {
	var out []Finding
	for _, p := range c.Ports() {
		if !p.Open || p.Port == 0 || p.Port == portMDNS { // which all responders of a machine share
			continue
		}
		if f, bad := tryPort(p); bad {
			out = append(out, f)
		}
	}
	return out
}

func tryPort(p Port) (Finding, bool) {
	err := bind(p)
	if err == nil {
		return Finding{}, false
	}
	f := Finding{Port: p, Message: fmt.Sprintf("%s cannot listen on %s/%s: %v", p.Name, netip.AddrPortFrom(p.Addr, p.Port), p.Proto, reason(err))}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		f.Owner, f.Busy = portOwner(p), true
		f.Message = fmt.Sprintf("port %d/%s is busy", p.Port, p.Proto)
		f.Hint = fmt.Sprintf("stop the other program or change %s", p.Key)
		if f.Owner.Name != "" {
			f.Message += fmt.Sprintf(": %s (process %d) has it", f.Owner.Name, f.Owner.PID)
		}
		if f.Owner.Name == "outrider" {
			f.Hint = "a node is running already; if that is this one, all is well"
		}
	case errors.Is(err, syscall.EACCES):
		f.Hint = "ports below 1024 need a privilege: choose a higher one for " + p.Key
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		f.Hint = fmt.Sprintf("no interface has %s now: see `ip address`, or change %s", p.Addr, p.Key)
	default:
		f.Hint = "change " + p.Key
	}
	return f, true
}

// reason is the last link of a network error, without addresses twice.
func reason(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func bind(p Port) error {
	at := netip.AddrPortFrom(p.Addr, p.Port)
	family := "4"
	if p.Addr.Is6() {
		family = "6"
	}
	if p.Proto == "udp" {
		c, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return l.Close()
}

// portOwner finds who holds a port: the socket's inode from the kernel's
// tables (proc_pid_net(5)), then the process that has it open.
func portOwner(p Port) Owner {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/" + p.Proto, "/proc/net/" + p.Proto + "6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			if inode, ok := holder(sc.Text(), p); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return Owner{}
	}
	return processWith(inodes)
}

// holder reads one line of /proc/net/{tcp,udp}[6] and returns the socket's
// inode if it stands in p's way.
func holder(line string, p Port) (inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return "", false
	}
	const listening = "0A" // TCP_LISTEN
	if p.Proto == "tcp" && f[3] != listening {
		return "", false
	}
	host, port, found := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || uint16(n) != p.Port {
		return "", false
	}
	a, ok := kernelAddr(host)
	// Others may bind both families at once, so a foreign [::] stands in the way.
	return f[9], ok && (overlap(a, p.Addr) || a == netip.IPv6Unspecified())
}

// kernelAddr reads an address as the kernel prints it: 32-bit words in the
// byte order of the machine.
func kernelAddr(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		w := binary.BigEndian.Uint32(b[i:])
		binary.NativeEndian.PutUint32(b[i:], w)
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}

func processWith(sockets map[string]bool) Owner {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // unreadable processes are simply absent
	for _, fd := range fds {
		if dst, err := os.Readlink(fd); err != nil || !sockets[dst] {
			continue
		}
		proc := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(proc, "comm"))
		if err != nil {
			continue
		}
		return Owner{PID: pid, Name: strings.TrimSpace(string(name))}
	}
	return Owner{}
}
