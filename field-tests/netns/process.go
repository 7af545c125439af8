package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// A Process is a program that runs in a node, with its children: they form a
// group that is signalled as one.
type Process struct {
	Cmd    *exec.Cmd
	node   *Node
	exited chan struct{} // closed when it has ended
	err    error         // of Wait; read after exited
}

// Start starts a command inside the node. Its streams are as the command says;
// it is killed when the World closes, at the latest.
func (n *Node) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, node: n, exited: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = 0 // it would act when the thread below ends
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errors.New("netns: start: the world is closed")
	}
	if err := n.ns.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("netns: start in %s: %w", n.Name, err)
	}
	if n.running == nil {
		n.running = map[*Process]bool{}
	}
	n.running[p] = true
	go p.wait()
	return p, nil
}

// Run runs a command inside the node to its end.
func (n *Node) Run(ctx context.Context, cmd *exec.Cmd) error {
	p, err := n.Start(cmd)
	if err != nil {
		return err
	}
	return p.Wait(ctx)
}

func (p *Process) wait() {
	p.err = p.Cmd.Wait()
	p.node.mu.Lock()
	delete(p.node.running, p)
	p.node.mu.Unlock()
	close(p.exited)
}

// PID returns the process id, valid inside the test's namespaces.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Signal sends a signal to the process, not to its children.
func (p *Process) Signal(s os.Signal) error { return p.Cmd.Process.Signal(s) }

// Kill ends the process and its children at once, as a power cut would.
func (p *Process) Kill() {
	select {
	case <-p.exited: // its number may belong to another by now
	default:
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // ended in this moment: nothing to kill
	}
}

// Wait waits for the end and returns the process's error. When ctx ends first
// the process is killed and ctx's error returned.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		p.Kill()
		<-p.exited
		return ctx.Err()
	}
}

// Stop asks the process to end, as systemd does, and waits; its own error is
// returned. When ctx ends first it is killed.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("netns: stop: %w", err)
	}
	return p.Wait(ctx)
}
