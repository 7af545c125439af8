package operate

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"outrider/field-tests/plainsearch"
	"outrider/field-tests/scenario"
	"outrider/mesh/identity"
)

const (
	fileName = "bridge-demolition-plan.txt"
	latitude = 47.1234567
	longitud = 8.7654321
)

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// writeReport lets a box write a report and unpacks it.
func writeReport(t *testing.T, b *scenario.Box, args ...string) (parts map[string]string, folder string) {
	t.Helper()
	stick, folder := t.TempDir(), t.TempDir()
	out, err := b.CLI(t.Context(), "", append([]string{"--json", "report", "--to", stick}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ File string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(answer.File)
	if err != nil || st.Mode().Perm() != 0o600 || filepath.Dir(answer.File) != stick {
		t.Fatalf("%s: %v %v", answer.File, st, err)
	}
	z, err := zip.OpenReader(answer.File)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	parts = map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, f.Name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		parts[f.Name] = string(raw)
	}
	return parts, folder
}

// secrets are what a node has and a report must not: keys, passwords, names,
// texts, a file, a position.
func secrets(t *testing.T, b *scenario.Box, body []byte) []plainsearch.Needle {
	t.Helper()
	var state struct {
		Seed    [32]byte `cbor:"2,keyasint"`
		Network struct {
			Secrets []struct {
				Secret [32]byte `cbor:"2,keyasint"`
			} `cbor:"4,keyasint"`
		} `cbor:"3,keyasint"`
	}
	if err := identity.UnmarshalOpen([]byte(read(t, filepath.Join(b.Dir, "state"))), &state); err != nil {
		t.Fatal(err)
	}
	if state.Seed == [32]byte{} || len(state.Network.Secrets) == 0 {
		t.Fatal("the state file has no keys")
	}
	list := []plainsearch.Needle{
		plainsearch.Block("node key", state.Seed[:]), plainsearch.Block("network secret", state.Network.Secrets[0].Secret[:]),
		plainsearch.Text("user's password", scenario.UserPassword), plainsearch.Text("admin's password", scenario.AdminPassword),
		plainsearch.Text("alice", aliceName), plainsearch.Text("bob", bobName), plainsearch.Text("network", "eaglesnest"),
		plainsearch.Text("text", secretText), plainsearch.Text("file name", fileName), plainsearch.Block("file", body),
	}
	return append(list, plainsearch.Coordinates("position", latitude, longitud)...)
}

func TestA20ReportHoldsNoSecret(t *testing.T) {
	a, b, _ := pair(t)
	awaitMail(t, a, b)
	body := bytes.Repeat([]byte("charges at the second pier; "), 40)
	if _, err := a.API.SendFile(t.Context(), bobName, fileName, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.API.SendLocation(t.Context(), bobName, latitude, longitud, secretText); err != nil {
		t.Fatal(err)
	}
	needles := secrets(t, a, body)
	search, err := plainsearch.New(needles)
	if err != nil {
		t.Fatal(err)
	}

	parts, folder := writeReport(t, a) // of a node that runs, alice unlocked
	if !strings.Contains(parts["status.json"], `"enrolled": true`) || strings.Contains(parts["status.json"], "no_answer") {
		t.Errorf("no figures: %s", parts["status.json"])
	}
	nothing(t, search, folder)

	if err := syscall.Kill(a.Pid(), syscall.SIGABRT); err != nil { // as a fatal fault ends it
		t.Fatal(err)
	}
	<-a.Exited()
	for i := range 2 { // also after the next start
		if i > 0 {
			up(t, a)
		}
		parts, folder = writeReport(t, a)
		for _, want := range []string{"SIGABRT", "goroutine ", "node.(*Node)"} {
			if !strings.Contains(parts["crash.txt"], want) {
				t.Errorf("crash.txt does not hold %q", want)
			}
		}
		nothing(t, search, folder)
	}
	for name, want := range map[string]string{
		"version.txt": "command ", "settings.toml": "[mesh]", "status.json": "precedence", "doctor.json": "node-crashed", "log.txt": "contact", "machine.txt": "kernel",
	} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("%s does not hold %q:\n%s", name, want, parts[name])
		}
	}
	for name, text := range parts {
		if strings.Contains(text, outside) {
			t.Errorf("%s holds this machine's address", name)
		}
	}
	if !strings.Contains(parts["settings.toml"], "address-") {
		t.Errorf("addresses are not replaced by words: %s", parts["settings.toml"])
	}
	if kept, _ := writeReport(t, a, "--addresses"); !strings.Contains(kept["settings.toml"], outside) {
		t.Error("--addresses keeps none")
	}

	// The same search finds each secret when it is there: in a log line, as a
	// careless programmer would write it.
	planted, found := founded(t, "planted"), map[string]bool{}
	var lines []byte
	for _, n := range needles {
		lines = append(append(append(lines, "level=INFO msg=\""...), n.Bytes...), "\"\n"...)
	}
	if err := os.WriteFile(filepath.Join(planted.Dir, "log"), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	_, folder = writeReport(t, planted, "--addresses")
	hits, err := search.Tree(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hits {
		found[h.Needle] = true
	}
	for _, n := range needles {
		if !found[n.Name] {
			t.Errorf("a planted %s is not found", n.Name)
		}
	}
}

func nothing(t *testing.T, s *plainsearch.Searcher, folder string) {
	t.Helper()
	hits, err := s.Tree(folder)
	if err != nil || len(hits) > 0 {
		t.Errorf("%v: %s", err, plainsearch.Summary(hits))
	}
}

func TestA20ReportsThatCannotBeWritten(t *testing.T) {
	b := founded(t, "unwritten")
	if _, err := b.CLI(t.Context(), "", "report", "--to", "/nowhere/at/all"); err == nil || !strings.Contains(err.Error(), "exit status 6") {
		t.Errorf("a stick that is not there: %v", err)
	}
	full := onSmallDisk(t, "full", "size=8m")
	fill(t, full.Dir)
	if _, err := b.CLI(t.Context(), "", "report", "--to", full.Dir); err == nil || !strings.Contains(err.Error(), "exit status 9") {
		t.Errorf("a full stick: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(full.Dir, "outrider-report-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("half a report is left: %v %v", left, err)
	}
}
