// Outrider is the command of an Outrider node: it runs the node, sets up
// networks and users, and talks to the running node through the Unix socket in
// its folder. There is no second path into a running node's store.
//
// One file per verb; `outrider help` lists them, `outrider exit-codes` the
// numbers a script can rely on.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is stamped by the build: -X main.version=...
var version = "dev"

func main() { os.Exit(realMain()) }

// realMain runs the command line of this process and returns its exit code.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run carries out one command line. It is all of the program but the process:
// tests call it with streams of their own.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw, env: os.Getenv}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.werr
	}
	return a.report(err)
}
