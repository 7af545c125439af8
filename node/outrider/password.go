package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"outrider/offline/deeplink"
)

// passwordMax is the longest password taken, in bytes, as at the API.
const passwordMax = 1024

func passwordFlag(c *cobra.Command, dst *string, name, what string) {
	c.Flags().StringVar(dst, name, "", "read "+what+" from the first line of this file; - is standard input")
}

// password reads a password from a file, or asks for it on the terminal
// without echo. It is never taken from the command line, which other users of
// the machine can see.
func (a *app) password(ctx context.Context, file, prompt string) ([]byte, error) {
	var p []byte
	var err error
	switch file {
	case "":
		p, err = a.ask(ctx, prompt)
	case "-":
		p, err = a.inputLine()
	default:
		var f *os.File
		if f, err = os.Open(file); err != nil {
			return nil, &failure{exit: exitUsage, code: "no_password_file", message: "password file: " + err.Error()}
		}
		defer f.Close()
		p, err = firstLine(bufio.NewReaderSize(f, passwordMax+2))
	}
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, usageError("the password is empty")
	}
	return p, nil
}

// codeWeak is the API's code of a password that is too short.
const codeWeak = "weak_password"

// newPassword is password for one that is being chosen: one that is too easy
// to guess is refused at once, and on a terminal it is asked for twice.
func (a *app) newPassword(ctx context.Context, file, prompt string) ([]byte, error) {
	first, err := a.password(ctx, file, prompt)
	if err != nil {
		return nil, err
	}
	if err := deeplink.CheckPassword(first); err != nil {
		return nil, &failure{exit: exitUsage, code: codeWeak, message: prompt + ": " + err.Error() + "; nothing was changed"}
	}
	if file != "" {
		return first, nil
	}
	again, err := a.ask(ctx, "The same once more")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, usageError("the two passwords differ; nothing was changed")
	}
	return first, nil
}

// inputLine takes the next line of standard input, so that two passwords can
// come one after the other.
func (a *app) inputLine() ([]byte, error) {
	b, ok := a.in.(*bufio.Reader)
	if !ok {
		b = bufio.NewReaderSize(a.in, passwordMax+2)
		a.in = b
	}
	return firstLine(b)
}

func firstLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) > passwordMax {
		return nil, usageError("the password is longer than %d bytes", passwordMax)
	}
	return bytes.Clone(line), nil
}

// ask prompts on the controlling terminal without echo, also when standard
// input is a pipe.
func (a *app) ask(ctx context.Context, prompt string) ([]byte, error) {
	p, err := a.prompt(ctx, prompt, false)
	if err == nil && len(p) > passwordMax {
		return nil, usageError("the password is longer than %d bytes", passwordMax)
	}
	return p, err
}

// askLine is ask with echo, for what is no secret by itself.
func (a *app) askLine(ctx context.Context, prompt string) ([]byte, error) {
	return a.prompt(ctx, prompt, true)
}

// terminalLine reads a line of a terminal, of up to 4 KiB (termios(3), canonical
// mode). It leaves the terminal's state alone: when the prompt is interrupted
// another has restored that already.
func terminalLine(fd int) ([]byte, error) {
	line := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, line)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		return bytes.TrimRight(line[:max(n, 0)], "\r\n"), err
	}
}

func (a *app) prompt(ctx context.Context, prompt string, echo bool) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, &failure{exit: exitUsage, code: "no_terminal", message: "there is no terminal to ask for a password on", hint: "use --password-file (- reads standard input)"}
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	if !echo { // before the question, so that a fast answer is not shown either
		if err := noEcho(fd); err != nil {
			return nil, fmt.Errorf("ask for the password: %w", err)
		}
		defer term.Restore(fd, before)
	}
	fmt.Fprintf(tty, "%s: ", clean(prompt))
	type line struct {
		p   []byte
		err error
	}
	got := make(chan line, 1)
	go func() {
		p, err := terminalLine(fd)
		got <- line{p, err}
	}()
	select {
	case l := <-got:
		fmt.Fprintln(tty)
		if l.err != nil {
			return nil, &failure{exit: exitUsage, code: "no_password", message: "nothing was given for: " + prompt}
		}
		return l.p, nil
	case <-ctx.Done(): // the reader above ends with the process
		err := term.Restore(fd, before)
		fmt.Fprintln(tty)
		return nil, errors.Join(&failure{exit: exitFailed, code: "interrupted", message: "interrupted"}, err)
	}
}

// noEcho stops a terminal from showing what is typed (termios(3)).
func noEcho(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag = t.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	t.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
