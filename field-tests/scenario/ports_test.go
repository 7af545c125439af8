package scenario

import (
	"net"
	"slices"
	"strconv"
	"testing"
)

// Ports are given once, and none that somebody has.
func TestFreePorts(t *testing.T) {
	var all []int
	for range 20 {
		got, err := FreePorts("127.0.0.1", 3)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	next := all[len(all)-1] + 1
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(next)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := FreePorts("127.0.0.1", 1)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, got...)
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != len(all) || slices.Contains(all, next) {
		t.Errorf("given twice, or while in use: %v", all)
	}
}
