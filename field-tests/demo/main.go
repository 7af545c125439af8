// Demo shows Outrider at work: three nodes on this machine, Alpha, Bravo and
// Charlie. Alpha and Charlie never hear each other; Bravo hears one of them at
// a time, and is killed hard once on the way. A message, a file of 5 MB and a
// position go from Alpha to Charlie, and an answer comes back.
//
// Every line of the story is an event of a node. The nodes stay up until
// Ctrl-C, so that a browser can join in.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"outrider/field-tests/scenario"
)

func main() { os.Exit(run()) }

func run() int {
	bin := flag.String("bin", "bin/outrider", "the outrider binary")
	dir := flag.String("dir", "", "folder for the three nodes (default: a new one, removed at the end)")
	without := flag.Bool("without-bravo", false, "do not start Bravo: nothing can arrive")
	exit := flag.Bool("exit", false, "end after the summary instead of staying up")
	limit := flag.Duration("limit", 2*time.Minute, "give up after this long")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parent, remove, err := folder(*dir)
	if err != nil {
		return complain(err)
	}
	defer remove()
	abs, err := filepath.Abs(*bin)
	if err != nil {
		return complain(err)
	}
	ip := "127.0.0.1"
	trio, err := scenario.NewTrio(ctx, func(name string) (*scenario.Box, error) { return scenario.NewBox(parent, name, abs, ip) }, scenario.People)
	if err != nil {
		return complain(err)
	}
	s := scenario.NewStory(ctx, trio, os.Stdout)
	defer func() {
		if err := s.Close(); err != nil {
			complain(err)
		}
	}()

	s.WithBravo = !*without
	if err := prepare(ctx, s); err != nil {
		return complain(err)
	}
	limited, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	err = play(limited, s)
	s.Summary(ctx)
	if err != nil {
		return complain(err)
	}
	if *exit {
		return 0
	}
	s.Invite()
	<-ctx.Done()
	return 0
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "demo:", err)
	return 1
}

// folder makes the parent of the nodes' folders.
func folder(dir string) (parent string, remove func(), err error) {
	if dir != "" {
		return dir, func() {}, os.MkdirAll(dir, 0o750)
	}
	parent, err = os.MkdirTemp("", "outrider-demo-")
	return parent, func() { _ = os.RemoveAll(parent) }, err
}
