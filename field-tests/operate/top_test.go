package operate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"outrider/field-tests/scenario"
)

// A console is a terminal with a program on it, and what it shows.
type console struct {
	master *os.File
	cmd    *exec.Cmd
	done   chan struct{}

	mu      sync.Mutex
	rows    [][]rune
	at      [2]int // row, column, from 0
	bytes   int
	paints  int // times the screen was erased
	strange string
}

// newConsole starts a program on a terminal of the given size.
func newConsole(t *testing.T, width, height uint16, argv ...string) *console {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
	c := &console{master: master, cmd: exec.CommandContext(t.Context(), argv[0], argv[1:]...), done: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.Env = append(os.Environ(), "TERM=vt100")
	c.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: unix.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read()
	t.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait(); master.Close(); <-c.done })
	return c
}

// read is a terminal that knows three sequences, the ones that top uses.
func (c *console) read() {
	defer close(c.done)
	buf, rest := make([]byte, 4096), []byte(nil)
	for {
		n, err := c.master.Read(buf)
		c.mu.Lock()
		c.bytes += n
		rest = c.show(append(rest, buf[:n]...))
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// show takes what is complete and returns what is not.
func (c *console) show(b []byte) []byte {
	for len(b) > 0 {
		switch {
		case b[0] == 0x1b:
			end := strings.IndexAny(string(b), "HJK")
			if end < 0 {
				return b
			}
			c.sequence(string(b[:end+1]))
			b = b[end+1:]
		case b[0] == '\r':
			c.at[1], b = 0, b[1:]
		case b[0] == '\n':
			c.at[0], b = c.at[0]+1, b[1:]
		default:
			if !utf8.FullRune(b) {
				return b
			}
			r, n := utf8.DecodeRune(b)
			c.put(r)
			b = b[n:]
		}
	}
	return nil
}

func (c *console) sequence(s string) {
	var row, col int
	switch {
	case s == "\x1b[2J":
		c.rows = nil
		c.paints++
	case s == "\x1b[K":
		if c.at[0] < len(c.rows) && c.at[1] < len(c.rows[c.at[0]]) {
			c.rows[c.at[0]] = c.rows[c.at[0]][:c.at[1]]
		}
	default:
		if n, err := fmt.Sscanf(s, "\x1b[%d;%dH", &row, &col); n != 2 || err != nil {
			c.strange = s
			return
		}
		c.at = [2]int{row - 1, col - 1}
	}
}

func (c *console) put(r rune) {
	for len(c.rows) <= c.at[0] {
		c.rows = append(c.rows, nil)
	}
	for len(c.rows[c.at[0]]) <= c.at[1] {
		c.rows[c.at[0]] = append(c.rows[c.at[0]], ' ')
	}
	c.rows[c.at[0]][c.at[1]] = r
	c.at[1]++
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, r := range c.rows {
		b.WriteString(strings.TrimRight(string(r), " ") + "\n")
	}
	return b.String()
}

func (c *console) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

func (c *console) await(t *testing.T, words ...string) {
	t.Helper()
	err := scenario.Poll(soon(t), fmt.Sprintf("the screen to show %q", words), func() (bool, error) {
		text := c.text()
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false, fmt.Errorf("%q is not in\n%s", w, text)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ends types keys and waits for the program's end.
func (c *console) ends(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(c.master, keys); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%q: %v", keys, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%q does not end it", keys)
	}
}

func TestTopOnATerminal(t *testing.T) {
	a, b, _ := pair(t)
	awaitMail(t, a, b)
	for _, size := range []struct{ width, height uint16 }{{80, 24}, {40, 16}, {0, 0}} {
		t.Run(fmt.Sprintf("%dx%d", size.width, size.height), func(t *testing.T) {
			c := newConsole(t, size.width, size.height, a.Bin, "--dir", a.Dir, "top", "--interval", "1")
			c.await(t, "HELD", "flash", "routine", "LINKS", "lan", "NEIGHBOUR", "q quits", "1 contact")
			width, height := int(size.width), int(size.height)
			if width == 0 {
				width, height = 80, 24
			}
			first := c.sent()
			if first > width*height*2 {
				t.Errorf("the first picture took %d bytes", first)
			}
			const looks = 4
			start := time.Now()
			time.Sleep(looks * time.Second) // what a serial line would carry meanwhile is what is measured
			perSecond := float64(c.sent()-first) / time.Since(start).Seconds()
			t.Logf("first picture %d B, then %.0f B/s", first, perSecond)
			if perSecond > 480 { // half of what 9,600 baud carry
				t.Errorf("%.0f bytes a second on a line that carries 960", perSecond)
			}
			lines := strings.Split(strings.TrimRight(c.text(), "\n"), "\n")
			if len(lines) > height {
				t.Errorf("%d lines on a screen of %d", len(lines), height)
			}
			for _, l := range lines {
				if utf8.RuneCountInString(l) >= width {
					t.Errorf("%q does not fit into %d columns", l, width)
				}
			}
			c.ends(t, "q")
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.strange != "" || c.paints != 1 {
				t.Errorf("sequence %q, screen erased %d times", c.strange, c.paints)
			}
		})
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		c := newConsole(t, 80, 24, a.Bin, "--dir", a.Dir, "top")
		c.await(t, "q quits")
		c.ends(t, "\x03")
	})
	t.Run("once", func(t *testing.T) {
		out, err := a.CLI(t.Context(), "", "top", "--once", "--interval", "1")
		if err != nil || !strings.Contains(out, "HELD") || strings.Contains(out, "\x1b") {
			t.Errorf("%v: %q", err, out)
		}
		out, err = a.CLI(t.Context(), "", "--json", "top", "--once", "--interval", "1")
		if err != nil || !strings.Contains(out, `"precedence":"flash"`) {
			t.Errorf("%v: %q", err, out)
		}
	})
	t.Run("no terminal", func(t *testing.T) {
		if _, err := a.CLI(t.Context(), "", "top"); err == nil || !strings.Contains(err.Error(), "exit status 2") {
			t.Errorf("%v", err)
		}
	})
	t.Run("the node ends", func(t *testing.T) {
		c := newConsole(t, 80, 24, a.Bin, "--dir", a.Dir, "top", "--interval", "1")
		c.await(t, "q quits")
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		err := c.cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("top ended with %v", err)
		}
	})
}
