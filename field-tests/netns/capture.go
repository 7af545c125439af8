package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"outrider/field-tests/pcap"
)

// captureBuffer is the kernel's room for frames not yet written, in bytes.
const captureBuffer = 32 << 20

// A Capture writes every frame of one interface to a pcap file.
type Capture struct {
	node *Node
	fd   int      // the packet socket's own number, for options
	sock *os.File // the same socket, for reading
	file *os.File
	w    *pcap.Writer
	done chan struct{}

	packets int64 // by the reading goroutine; afterwards by Close
	err     error

	once   sync.Once
	result CaptureResult
}

// A CaptureResult says how complete a capture is.
type CaptureResult struct {
	Packets int64 // in the file
	Dropped int64 // by the kernel, which had no more room
}

// ErrDropped is returned by Close when frames are missing from the file: what
// a search does not find in it may have been in them.
var ErrDropped = errors.New("netns: the capture is not complete")

// Capture starts to write all frames that a node sends and receives on a net.
// Loopback, where a user's own page may speak plainly, is not captured.
func (n *Node) Capture(netName, path string) (*Capture, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("netns: capture: %w", err)
	}
	w, err := pcap.NewWriter(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	fd := -1
	err = n.ns.do(func() (err error) { fd, err = packetSocket(netName); return err })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netns: capture %s of %s: %w", netName, n.Name, err), file.Close())
	}
	c := &Capture{node: n, fd: fd, sock: os.NewFile(uintptr(fd), "capture"), file: file, w: w, done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.captures == nil {
		n.captures = map[*Capture]bool{}
	}
	n.captures[c] = true
	go c.read()
	return c, nil
}

// packetSocket opens a packet(7) socket on one interface of this thread's
// namespace.
func packetSocket(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	// Protocol 0 until bound: no frames of other interfaces.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, captureBuffer) // without privilege, what there is
		if err != nil {
			return -1, errors.Join(err, unix.Close(fd))
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// read writes frames until the read deadline that Close sets.
func (c *Capture) read() {
	defer close(c.done)
	buf := make([]byte, pcap.MaxPacket)
	for c.err == nil {
		n, err := c.sock.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.err = err
			}
			return
		}
		c.keep(buf[:n])
	}
}

func (c *Capture) keep(frame []byte) {
	if err := c.w.Write(time.Now(), frame); err != nil {
		c.err = err
		return
	}
	c.packets++
}

// Close writes what is still in the kernel and ends the capture. The error
// wraps ErrDropped when frames are missing. Further calls return the same.
func (c *Capture) Close() (CaptureResult, error) {
	c.once.Do(c.finish)
	return c.result, c.err
}

func (c *Capture) finish() {
	errs := []error{c.sock.SetReadDeadline(time.Now())}
	<-c.done
	c.drain()
	st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err == nil && st.Drops > 0 {
		err = fmt.Errorf("%w: %d frames dropped", ErrDropped, st.Drops)
	}
	errs = append(errs, c.err, err, c.w.Flush(), c.file.Close(), c.sock.Close())
	c.result = CaptureResult{Packets: c.packets}
	if st != nil {
		c.result.Dropped = int64(st.Drops)
	}
	c.err = errors.Join(errs...)
	c.node.mu.Lock()
	delete(c.node.captures, c)
	c.node.mu.Unlock()
}

// drain takes the frames that are in the socket already.
func (c *Capture) drain() {
	buf := make([]byte, pcap.MaxPacket)
	for c.err == nil {
		n, _, err := unix.Recvfrom(c.fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return // EAGAIN: empty
		}
		c.keep(buf[:n])
	}
}
