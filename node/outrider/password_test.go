package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo-terminal (pts(4)): what a person types goes into
// master, what they see comes out of it.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// seen reads the terminal until it shows a text.
func seen(t *testing.T, master *os.File, all *strings.Builder, text string) {
	t.Helper()
	buf := make([]byte, 256)
	for !strings.Contains(all.String(), text) {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatalf("%v; seen so far: %q", err, all)
		}
		all.Write(buf[:n])
	}
}

func onTerminal(t *testing.T) (cmd *exec.Cmd, master, slave *os.File) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state"), nil, 0o600); err != nil { // a node
		t.Fatal(err)
	}
	master, slave = openTerminal(t)
	cmd = exec.Command("outrider", "network", "create", "eagle") // the test program, see TestMain
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "OUTRIDER_DIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(2*time.Minute, func() { // a read of the terminal ends when nobody holds its other end
		_ = cmd.Process.Kill()
		slave.Close()
	})
	t.Cleanup(func() { late.Stop() })
	return cmd, master, slave
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	st, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return st.Lflag&unix.ECHO != 0
}

// waitForEcho waits until the terminal's echo is as wanted. The prompt comes a
// moment before the echo goes.
func waitForEcho(t *testing.T, f *os.File, want bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if echoes(t, f) == want {
			return
		}
	}
	t.Fatalf("the terminal's echo does not become %v", want)
}

func TestPasswordsAreNotEchoed(t *testing.T) {
	cmd, master, slave := onTerminal(t)
	var screen strings.Builder
	for _, prompt := range []string{"New admin password: ", "The same once more: "} {
		seen(t, master, &screen, prompt)
		waitForEcho(t, slave, false)
		if _, err := master.WriteString("typed secret\n"); err != nil {
			t.Fatal(err)
		}
	}
	seen(t, master, &screen, "fingerprint")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if strings.Contains(screen.String(), "secret") {
		t.Errorf("the password was shown:\n%s", screen.String())
	}
	if b, err := os.ReadFile(filepath.Join(strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "OUTRIDER_DIR="), "admin")); err != nil || string(b) != "typed secret" {
		t.Errorf("%q, %v", b, err)
	}
}

// Ctrl-C at the prompt ends the program and leaves a terminal that echoes.
func TestInterruptAtThePromptRestoresTheTerminal(t *testing.T) {
	cmd, master, slave := onTerminal(t)
	var screen strings.Builder
	seen(t, master, &screen, "New admin password: ")
	waitForEcho(t, slave, false)
	if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	seen(t, master, &screen, "interrupted")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != int(exitFailed) {
		t.Errorf("%v, exit code %d", err, cmd.ProcessState.ExitCode())
	}
	if !echoes(t, slave) {
		t.Error("the terminal does not echo any more")
	}
}
