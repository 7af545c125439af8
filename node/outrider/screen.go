package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A screen remembers what a terminal shows, so that only what differs is sent
// again: a serial line of 9,600 baud carries 960 characters a second. It needs
// three sequences of ECMA-48 (cursor position, erase display, erase line),
// which every terminal since the VT100 knows.
type screen struct {
	lines         []string
	width, height int
}

// paint returns what makes the terminal show lines.
func (s *screen) paint(lines []string, width, height int) string {
	var b strings.Builder
	if width != s.width || height != s.height {
		b.WriteString("\x1b[2J")
		s.lines, s.width, s.height = nil, width, height
	}
	for i := range max(len(lines), len(s.lines)) {
		var was, now string
		if i < len(s.lines) {
			was = s.lines[i]
		}
		if i < len(lines) {
			now = lines[i]
		}
		change(&b, i+1, []rune(was), []rune(now))
	}
	s.lines = append(s.lines[:0:0], lines...)
	return b.String()
}

// change writes one row's difference: from the first character that differs
// to the last, and an erasure if the row has become shorter.
func change(b *strings.Builder, row int, was, now []rune) {
	first := 0
	for first < len(was) && first < len(now) && was[first] == now[first] {
		first++
	}
	if first == len(was) && first == len(now) {
		return
	}
	last := len(now)
	if len(was) == len(now) {
		for last > first && was[last-1] == now[last-1] {
			last--
		}
	}
	fmt.Fprintf(b, "\x1b[%d;%dH%s", row, first+1, string(now[first:last]))
	if len(was) > len(now) {
		b.WriteString("\x1b[K")
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// terminalSize returns columns and lines; a serial line knows neither.
func terminalSize(f *os.File) (width, height int) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return serialWidth, serialHeight
	}
	return max(narrowest, int(ws.Col)), max(shortest, int(ws.Row))
}

// rawMode takes keys one by one and unseen (termios(3)); back undoes it.
// Signals stay with the terminal.
func rawMode(f *os.File) (back func(), err error) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t := *old
	t.Lflag &^= unix.ICANON | unix.ECHO
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}
