// Package twomachines carries out the README's "Two machines in five minutes"
// as a reader would: each line as it stands there, in a shell on a terminal, on
// machines that are network namespaces; prompts are answered by typing.
package twomachines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
)

// A Machine is a person's shell on one machine.
type Machine struct {
	Node    *netns.Node
	Env     []string
	Answers map[string]string // what to type, by the beginning of the prompt
	Columns uint16            // of the terminal
}

// A Terminal is one line of shell at work.
type Terminal struct {
	cmd    *exec.Cmd
	master *os.File
	ended  chan struct{} // closed when all output is in
	err    error

	mu     sync.Mutex
	out    strings.Builder
	asked  int    // bytes of out whose prompts were answered
	last   string // what was typed last
	answer map[string]string
}

// Start runs a line in a shell of its own, on a new terminal.
func (m *Machine) Start(line string) (*Terminal, error) {
	master, slave, err := openTerminal(m.Columns)
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	cmd := exec.Command("bash", "-c", line)
	cmd.Env = m.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := m.Node.Do(cmd.Start); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	t := &Terminal{cmd: cmd, master: master, ended: make(chan struct{}), answer: m.Answers}
	go t.read()
	return t, nil
}

// openTerminal makes a pseudo-terminal (pts(4)).
func openTerminal(columns uint16) (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, fmt.Errorf("twomachines: open terminal: %w", err)
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("twomachines: unlock terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("twomachines: name terminal: %w", err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 60, Col: columns}); err != nil {
		return nil, nil, fmt.Errorf("twomachines: size terminal: %w", err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

// read collects what is printed and answers prompts, until nobody has the
// terminal open any more.
func (t *Terminal) read() {
	defer close(t.ended)
	buf := make([]byte, 4096)
	for {
		n, err := t.master.Read(buf)
		t.take(string(buf[:n]))
		if err != nil { // EIO: the last program has ended
			break
		}
	}
	t.err = t.cmd.Wait()
	t.master.Close()
}

// promptEnd is how a question ends: a colon and a space, and then nothing.
var promptEnd = regexp.MustCompile(`(?:^|\n)([A-Z][^\n:]*): $`)

func (t *Terminal) take(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out.WriteString(strings.ReplaceAll(text, "\r\n", "\n"))
	open := t.out.String()[t.asked:]
	ask := promptEnd.FindStringSubmatch(open)
	if ask == nil {
		return
	}
	t.asked = t.out.Len()
	if strings.HasPrefix(ask[1], "The same once more") {
		fmt.Fprintf(t.master, "%s\n", t.last)
		return
	}
	for begins, what := range t.answer {
		if strings.HasPrefix(ask[1], begins) {
			t.last = what
			fmt.Fprintf(t.master, "%s\n", what)
			return
		}
	}
	fmt.Fprintf(t.master, "\x04") // nobody knows the answer: end of input
}

// Output is what the screen has shown so far.
func (t *Terminal) Output() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.String()
}

// Await waits until the screen shows a text.
func (t *Terminal) Await(ctx context.Context, text string) error {
	err := scenario.Poll(ctx, text, func() (bool, error) { return strings.Contains(t.Output(), text), nil })
	if err != nil {
		return fmt.Errorf("%w; the screen shows: %s", err, t.Output())
	}
	return nil
}

// Wait waits for the end of the line and returns what it printed.
func (t *Terminal) Wait(ctx context.Context) (string, error) {
	select {
	case <-t.ended:
	case <-ctx.Done():
		return t.Output(), fmt.Errorf("twomachines: %q does not end: %w: %s", t.cmd.Args[2], ctx.Err(), t.Output())
	}
	if t.err != nil {
		return t.Output(), fmt.Errorf("twomachines: %q: %w: %s", t.cmd.Args[2], t.err, t.Output())
	}
	return t.Output(), nil
}

// Kill ends everything the line started.
func (t *Terminal) Kill() {
	_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
	<-t.ended
}

// A Block is a fenced block of the README.
type Block struct {
	Where string // the word after "sh": on which machine
	Lines []string
}

// Blocks reads the fenced blocks of one section of a Markdown text.
func Blocks(markdown, section string) []Block {
	_, text, found := strings.Cut(markdown, "\n## "+section+"\n")
	if !found {
		return nil
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []Block
	inside := false
	for _, line := range strings.Split(text, "\n") {
		where, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && inside:
			inside = false
		case fence:
			inside = true
			blocks = append(blocks, Block{Where: strings.TrimSpace(strings.TrimPrefix(where, "sh"))})
		case inside:
			last := &blocks[len(blocks)-1]
			last.Lines = append(last.Lines, line)
		}
	}
	return blocks
}
