package bench

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	Clean()
	os.Exit(code)
}

// TestMemoryIsRefused keeps the benchmarks honest: where a sync costs nothing
// they must not run.
func TestMemoryIsRefused(t *testing.T) {
	if err := OnDisk("/dev/shm"); err == nil {
		t.Error("/dev/shm, a file system in memory, was accepted")
	}
	if err := OnDisk("/does/not/exist"); err == nil {
		t.Error("a folder that is not there was accepted")
	}
}

// TestProcReads reads this process's own figures.
func TestProcReads(t *testing.T) {
	pid := os.Getpid()
	now, err := RSS(pid)
	if err != nil || now < 1 {
		t.Errorf("resident memory %g MiB, %v", now, err)
	}
	if peak, err := PeakRSS(pid); err != nil || peak < now/2 {
		t.Errorf("peak of resident memory %g MiB, now %g, %v", peak, now, err)
	}
	if _, err := CPU(pid); err != nil {
		t.Error(err)
	}
	if _, err := RSS(1 << 30); err == nil {
		t.Error("a process that is not there has resident memory")
	}
}
