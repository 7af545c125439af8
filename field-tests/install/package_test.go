package install_test

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/install"
	"outrider/field-tests/scenario"
)

func sum(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))
}

func output(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// isStatic fails when a program needs a loader or libraries.
func isStatic(t *testing.T, path string, want elf.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != want {
		t.Errorf("%s is for %v, not %v", filepath.Base(path), f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s needs a loader", filepath.Base(path))
		}
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("%s needs %v", filepath.Base(path), libs)
	}
}

// here is the machine this test runs on.
func here(t *testing.T) elf.Machine {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Machine
}

// The same files give the same package, whenever and under whatever umask,
// for each of the architectures.
func TestPackagesAreReproducible(t *testing.T) {
	top, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := install.Package(t.Context(), dir, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "outrider-1.2.3")
	isStatic(t, bin, here(t))
	seen, lists := map[string]string{}, ""
	for _, arch := range []string{"amd64", "arm64", "armhf"} {
		one, two := filepath.Join(dir, arch+"-one.deb"), filepath.Join(dir, arch+"-two.deb")
		env := []string{"VERSION=1.2.3-dev.5", "TOOL=" + bin}
		output(t, top, env, "bash", ".ci/deb", arch, bin, one)
		old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		if err := os.Chtimes(bin, old, old); err != nil {
			t.Fatal(err)
		}
		output(t, top, append(env, "TZ=Asia/Kathmandu", "LC_ALL=C.UTF-8"), "sh", "-c", `umask 077; exec bash .ci/deb "$0" "$1" "$2"`, arch, bin, two)
		if sum(t, one) != sum(t, two) {
			t.Errorf("%s: two packages of the same files differ", arch)
		}
		if got := strings.Fields(output(t, dir, nil, "dpkg-deb", "-W", "--showformat=${Architecture} ${Version}", one)); strings.Join(got, " ") != arch+" 1.2.3~dev.5" {
			t.Errorf("%s: it says it is %v", arch, got)
		}
		if other := seen[sum(t, one)]; other != "" {
			t.Errorf("%s and %s are one file: the check proves nothing", arch, other)
		}
		seen[sum(t, one)] = arch
		wellFormed(t, one)
		if got := files(t, one); lists == "" {
			lists = got
		} else if got != lists {
			t.Errorf("%s holds other files:\n%s\nthan the first:\n%s", arch, got, lists)
		}
	}
}

// files lists what a package holds: modes, owners and names.
func files(t *testing.T, deb string) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(output(t, ".", nil, "dpkg-deb", "-c", deb)) {
		f := strings.Fields(line) // mode, owner, size, date, time, name, and where a link goes
		out = append(out, strings.Join(append([]string{f[0], f[1]}, f[5:]...), " "))
		if f[1] != "root/root" || strings.ContainsAny(f[0], "stST") || f[0][8] == 'w' {
			t.Errorf("%s: %s", filepath.Base(deb), line)
		}
	}
	return strings.Join(out, "\n")
}

// wellFormed checks what a package says of itself.
func wellFormed(t *testing.T, deb string) {
	t.Helper()
	for field, form := range map[string]string{
		"Package": `outrider`, "Maintainer": `.+ <.+@.+>`, "Section": `net`, "Priority": `optional`, "Installed-Size": `[1-9][0-9]{3,5}`,
		"Description": `[^.\n]{20,80}(?s:\n .*)`, "Depends": `.+`,
	} {
		got := strings.TrimRight(output(t, ".", nil, "dpkg-deb", "-f", deb, field), "\n")
		if !regexp.MustCompile(`^` + form + `$`).MatchString(got) {
			t.Errorf("%s: %s is %q, want %s", filepath.Base(deb), field, got, form)
		}
	}
	inside := t.TempDir()
	output(t, ".", nil, "dpkg-deb", "-e", deb, inside)
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		output(t, inside, nil, "sh", "-n", script)
		if st, err := os.Stat(filepath.Join(inside, script)); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %s: %v, %v", filepath.Base(deb), script, st.Mode(), err)
		}
	}
	output(t, ".", nil, "dpkg-deb", "-x", deb, inside)
	output(t, inside, nil, "sh", "-c", `test -s md5sums && md5sum --check --strict --quiet md5sums`)
}
