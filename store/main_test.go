package store_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// childEnv makes this program one that works on a store until it is killed:
// see child_test.go.
const childEnv = "OUTRIDER_STORE_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		if err := runChild(mode); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	fewerChecks("40") // each opens a database several times
	os.Exit(m.Run())
}

// fewerChecks sets the number of runs of a rapid test, unless the command line
// does.
func fewerChecks(n string) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", n); err != nil {
			panic(err)
		}
	}
}
