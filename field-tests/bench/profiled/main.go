// Profiled runs a node as `outrider up` does and writes profiles when it ends:
// cpu.pprof and heap.pprof in the node's folder. The benchmarks start it in
// place of the shipped binary, which has no such thing, when
// OUTRIDER_BENCH_PROFILE names a folder to copy the profiles to.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"outrider/node"
	"outrider/node/config"
	"outrider/node/web"
)

func main() {
	if len(os.Args) != 4 || os.Args[1] != "--dir" || os.Args[3] != "up" {
		fmt.Fprintln(os.Stderr, "usage: profiled --dir DIR up")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "profiled:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) (err error) {
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	defer func() {
		pprof.StopCPUProfile()
		err = errors.Join(err, cpu.Close(), heap(dir))
	}()
	c, err := config.Load(filepath.Join(dir, config.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		c, err = config.Default(), nil
	}
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(c.MemoryLimit())
	h, err := node.OpenHome(dir)
	if err != nil {
		return err
	}
	defer h.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	n := node.New(node.Options{Home: h, Config: c, Version: "profiled", Web: web.Handler(), Log: log})
	return n.Run(ctx, func(node.Ready) {})
}

func heap(dir string) error {
	f, err := os.Create(filepath.Join(dir, "heap.pprof"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}
