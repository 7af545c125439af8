package scenario

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Ports are chosen long before a node listens on them, and while a node is down
// nobody else may have them. So they lie below those that the kernel gives to
// connections, each process has a range of its own, and gives each port once
// before it gives one twice.
const (
	firstPort  = 10_000
	rangePorts = 500
	ranges     = 40
)

var ports struct {
	mu    sync.Mutex
	lock  *os.File // held until the process ends
	first int
	next  int
}

// FreePorts finds ports that are free for tcp and udp alike.
func FreePorts(ip string, n int) ([]int, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.lock == nil {
		if err := ownRange(); err != nil {
			return nil, err
		}
	}
	var out []int
	var last error
	for range rangePorts {
		port := ports.first + ports.next
		ports.next = (ports.next + 1) % rangePorts
		if last = free(ip, port); last != nil {
			continue
		}
		if out = append(out, port); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("scenario: find %d free ports: %w", n, last)
}

// ownRange takes a range that no other process has.
func ownRange() error {
	for i := range ranges {
		f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("outrider-ports-%d.lock", i)), os.O_CREATE|os.O_RDWR, 0o666)
		if errors.Is(err, os.ErrPermission) {
			continue // another account's
		}
		if err != nil {
			return fmt.Errorf("scenario: find free ports: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			ports.lock, ports.first = f, firstPort+i*rangePorts
			return nil
		}
		f.Close()
	}
	return fmt.Errorf("scenario: find free ports: %d processes have all of them", ranges)
}

func free(ip string, port int) error {
	at := net.JoinHostPort(ip, strconv.Itoa(port))
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	return p.Close()
}
