package operate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"outrider/field-tests/scenario"
	"outrider/mesh/identity"
	"outrider/node/doctor"
)

// faults makes each fault and looks whether doctor finds it.
var faults = map[string]func(t *testing.T){
	"not-initialised": func(t *testing.T) { expect(t, consult(t, box(t, "none"), nil), "not-initialised") },
	"no-network": func(t *testing.T) {
		b := box(t, "lone")
		if _, err := b.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "no-network")
	},
	"state-damaged": func(t *testing.T) {
		b := founded(t, "damaged")
		if err := os.Truncate(filepath.Join(b.Dir, "state"), 50); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "state-damaged")
	},
	"state-later": func(t *testing.T) {
		b := founded(t, "later")
		raw, err := identity.Marshal(map[int]int{1: 99})
		if err == nil {
			err = os.WriteFile(filepath.Join(b.Dir, "state"), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "state-later")
	},
	"position-unreachable": func(t *testing.T) {
		b := founded(t, "blind")
		configure(t, b, "\n[position]\nsource = \"/dev/ttyNONE\"\n")
		up(t, b)
		expect(t, consult(t, b, nil), "position-unreachable", "/dev/ttyNONE")
	},
	"atak-refused": func(t *testing.T) {
		b := founded(t, "guarded")
		ports, err := scenario.FreePorts("127.0.0.1", 2)
		if err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprintf("127.0.0.1:%d", ports[0])
		configure(t, b, fmt.Sprintf("\n[atak]\nenabled = true\nlisten = %q\nlisten_https = \"127.0.0.1:%d\"\n", at, ports[1]))
		up(t, b)
		err = scenario.Poll(soon(t), "the bridge to turn a stranger away", func() (bool, error) {
			c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true}) // who answers does not matter here
			if err != nil {
				return false, err
			}
			defer c.Close()
			_, err = c.Read(make([]byte, 1)) // the bridge asks for a certificate, gets none, and says so
			return err != nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var list []finding
		err = scenario.Poll(soon(t), "the bridge to have counted it", func() (bool, error) { // it tells the stranger first
			list = consult(t, b, nil)
			_, ok := get(list, "atak-refused")
			return ok, fmt.Errorf("doctor finds %+v", list)
		})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, list, "atak-refused", "connections")
	},
	"folder-not-writable": readOnlyFolder,
	"folder-owner":        foreignFile,
	"folder-open": func(t *testing.T) {
		b := founded(t, "open")
		if err := errors.Join(os.Chmod(b.Dir, 0o755), os.Chmod(filepath.Join(b.Dir, "state"), 0o644)); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "folder-open", "0644")
	},
	"config-error": func(t *testing.T) {
		b := founded(t, "misspelt")
		configure(t, b, "\n[store]\nlimit_mbb = 5\n")
		expect(t, consult(t, b, nil), "config-error", "limit_mbb", "line")
	},
	"core-credentials": func(t *testing.T) {
		b := founded(t, "seedless")
		configure(t, b, "\n[core]\nservers = [\"127.0.0.1:4222\"]\nseed_file = \"unit.seed\"\npins = [\"sha256/"+strings.Repeat("A", 43)+"=\"]\n")
		expect(t, consult(t, b, nil), "core-credentials", "unit.seed")
	},
	"policy-damaged": func(t *testing.T) {
		b := founded(t, "torn")
		if err := os.WriteFile(filepath.Join(b.Dir, "policy"), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "policy-damaged", "policy")
	},
	"clock-below-floor": futureFloor,
	"disk-full": func(t *testing.T) {
		b := onSmallDisk(t, "full", "size=8m")
		fill(t, b.Dir)
		expect(t, consult(t, b, nil), "disk-full")
	},
	"disk-inodes": func(t *testing.T) {
		b := onSmallDisk(t, "inodes", "size=64m,nr_inodes=64")
		for i := 0; ; i++ {
			if err := os.WriteFile(filepath.Join(b.Dir, fmt.Sprintf("file%d", i)), nil, 0o600); err != nil {
				break
			}
		}
		expect(t, consult(t, b, nil), "disk-inodes")
	},
	"disk-below-floor": func(t *testing.T) {
		expect(t, consult(t, onSmallDisk(t, "floor", "size=64m"), nil), "disk-below-floor", "256 MB")
	},
	"store-full": fullStore,
	"disk-volatile": func(t *testing.T) {
		expect(t, consult(t, onSmallDisk(t, "volatile", "size=64m"), nil), "disk-volatile", "tmpfs")
	},
	"disk-slow": func(t *testing.T) {
		// The kernel makes every sync of this process wait.
		wrap := []string{need(t, "strace", "strace"), "-f", "-q", "-o", os.DevNull, "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=400000"}
		expect(t, consult(t, founded(t, "slow"), wrap), "disk-slow")
	},
	"port-busy": func(t *testing.T) {
		b := founded(t, "busy")
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", outside, b.Mesh))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		name, err := os.ReadFile("/proc/self/comm")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "port-busy", strings.TrimSpace(string(name))+", process "+fmt.Sprint(os.Getpid()))
	},
	"port-refused": func(t *testing.T) {
		b := founded(t, "refused")
		b.Mesh = 700
		configure(t, b, "")
		expect(t, consult(t, b, without("net_bind_service")), "port-refused", "700/tcp")
	},
	"address-missing": func(t *testing.T) {
		b := founded(t, "address")
		b.IP = "203.0.113.9"
		configure(t, b, "")
		expect(t, consult(t, b, nil), "address-missing", "203.0.113.9")
	},
	"firewall-drops": func(t *testing.T) {
		b := founded(t, "walled")
		nft(t, "add table inet test", "add chain inet test input { type filter hook input priority 0; policy drop; }",
			"add rule inet test input iifname lo accept", "add rule inet test input ct state established,related accept",
			fmt.Sprintf("add rule inet test input udp dport { %d, %d } accept", b.Mesh, b.Gossip))
		list := consult(t, b, nil)
		expect(t, list, "firewall-drops", fmt.Sprintf("%d/tcp", b.Mesh), "policy of chain input")
		for _, f := range list {
			if f.ID == "firewall-drops" && (strings.Contains(f.Sentence, fmt.Sprintf("%d/udp", b.Mesh)) || strings.Contains(f.Sentence, fmt.Sprintf("%d/udp", b.Gossip))) {
				t.Errorf("what is let in is said to be dropped: %s", f.Sentence)
			}
		}
		must(t, "nft", "flush ruleset")
		iptables(t, "iptables-legacy", b.Mesh)
		expect(t, consult(t, b, nil), "firewall-drops", fmt.Sprintf("%d/tcp", b.Mesh), "rule 1 of chain INPUT in table filter of iptables-legacy",
			fmt.Sprintf("iptables-legacy -I INPUT -p tcp --dport %d -j ACCEPT", b.Mesh))
		b.IP = "[::]"
		configure(t, b, "")
		expect6 := func(rule, cure string) {
			t.Helper()
			expect(t, consult(t, b, nil), "firewall-drops", fmt.Sprintf("%d/tcp", b.Mesh), rule+", for IPv6", cure)
		}
		if f, found := get(consult(t, b, nil), "firewall-drops"); found {
			t.Errorf("rules for IPv4 drop IPv6: %s", f.Sentence)
		}
		iptables(t, "ip6tables-legacy", b.Mesh)
		expect6("of ip6tables-legacy", "ip6tables-legacy -I INPUT")
		must(t, "ip6tables-legacy", "-F")
		nft(t, "add table ip6 test", "add chain ip6 test input { type filter hook input priority 0; policy drop; }", "add rule ip6 test input icmpv6 type nd-neighbor-solicit accept")
		expect6("policy of chain input in table test", "nft 'add rule inet filter input tcp")
	},
	"firewall-loop": func(t *testing.T) {
		b := founded(t, "looped")
		nft(t, "add table inet test", "add chain inet test input { type filter hook input priority 0; }",
			fmt.Sprintf("add rule inet test input tcp dport %d drop", b.Mesh))
		list := consult(t, b, without("net_admin"))
		expect(t, list, "firewall-loop", fmt.Sprintf("%d/tcp", b.Mesh))
		if f, ok := get(list, "firewall-loop"); ok && strings.Contains(f.Sentence, fmt.Sprint(b.Gossip)) {
			t.Errorf("the open port is named: %s", f.Sentence)
		}
	},
	"wrong-network": foreignNetwork,
	"no-peer-ever":  neverMet,
	"memory-cgroup": func(t *testing.T) { tightGroup(t, "memory-cgroup") },
	"memory-setting": func(t *testing.T) {
		tightGroup(t, "memory-setting")
	},
	"cpu-no-aes": func(t *testing.T) {
		expect(t, consult(t, founded(t, "noaes"), nil, "GODEBUG=cpu.aes=off"), "cpu-no-aes")
	},
	"files-limit": func(t *testing.T) {
		expect(t, consult(t, founded(t, "files"), []string{"sh", "-c", `ulimit -n 256; exec "$@"`, "sh"}), "files-limit", "256")
	},
	"socket-refused": func(t *testing.T) {
		b := founded(t, "socket")
		up(t, b)
		if err := os.Chmod(b.Socket(), 0); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, without("dac_override")), "socket-refused")
	},
	"node-silent": func(t *testing.T) {
		b := founded(t, "silent")
		up(t, b)
		pid := b.Pid()
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
		expect(t, consult(t, b, nil), "node-silent")
	},
	"version-mismatch": func(t *testing.T) {
		b := founded(t, "old")
		up(t, b)
		expect(t, consultBy(t, otherVersion(t), b.Dir, nil), "version-mismatch", "v9.9.9")
	},
	"node-crashed": func(t *testing.T) {
		b := founded(t, "crashed")
		up(t, b)
		if err := syscall.Kill(b.Pid(), syscall.SIGABRT); err != nil {
			t.Fatal(err)
		}
		<-b.Exited()
		expect(t, consult(t, b, nil), "node-crashed")
	},
}

// inside are the findings whose fault the tests of node/doctor make: the
// machine's clock and memory are everybody's, and certificates that are wrong
// come from a server of the test's. field-tests/core makes core-pin as well,
// field-tests/compliance archive-folder and archive-broken.
var inside = []string{"clock-unset", "clock-unsynchronised", "memory-low", "page-certificate-expired", "page-certificate-address", "page-silent",
	"atak-silent", "position-silent",
	"core-pin", "core-refused", "core-full", "core-clock", "policy-past-date", "policy-conflict", "policy-behind",
	"carry-full", "carry-damaged", // made by field-tests/carry as well
	"archive-keys", "archive-behind", "archive-folder", "archive-full", "archive-broken"}

func TestA20EveryFaultIsNamedWithItsCure(t *testing.T) {
	for _, k := range doctor.Kinds {
		fault := faults[k.ID]
		if fault == nil {
			fault = pillarFaults[k.ID]
		}
		if fault == nil && !slices.Contains(inside, k.ID) {
			t.Errorf("no test makes the fault %s", k.ID)
		}
		if fault != nil {
			t.Run(k.ID, fault)
		}
	}
}

// A node that is well is not told to be ill, running or not.
func TestAWellNodeHasNoFinding(t *testing.T) {
	b := founded(t, "well")
	// Of the machine that the test runs on nothing is promised.
	machine := []string{"clock-unsynchronised", "clock-unset", "memory-low", "memory-cgroup", "memory-setting", "cpu-no-aes", "files-limit", "disk-slow", "disk-volatile", "disk-below-floor"}
	check := func() {
		t.Helper()
		for _, f := range consult(t, b, nil) {
			if !slices.Contains(machine, f.ID) {
				t.Errorf("%+v", f)
			}
		}
	}
	check()
	up(t, b)
	check()
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "doctor-") || e.Name() == "crash" {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}

// without runs a program without one capability, root or not.
func without(capability string) []string {
	return []string{"setpriv", "--bounding-set=-" + capability, "--inh-caps=-" + capability}
}

// iptables drops what comes to a port, until the test ends.
func iptables(t *testing.T, tool string, port int) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command(tool, "-F").Run() })
	must(t, tool, "-A", "INPUT", "-p", "tcp", "--dport", fmt.Sprint(port), "-j", "DROP")
}

func nft(t *testing.T, lines ...string) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command("nft", "flush", "ruleset").Run() })
	for _, l := range lines {
		must(t, "nft", l)
	}
}

func readOnlyFolder(t *testing.T) {
	b := founded(t, "readonly")
	if err := unix.Mount(b.Dir, b.Dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(b.Dir, unix.MNT_DETACH)
	if err := unix.Mount("", b.Dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	expect(t, consult(t, b, nil), "folder-not-writable", "read-only")
}

// foreignFile gives a file to somebody else. Without root nobody else can be
// had in a user namespace; the system's own files are somebody else's there.
func foreignFile(t *testing.T) {
	b := founded(t, "owner")
	lock := filepath.Join(b.Dir, "lock")
	if err := os.Chown(lock, 65534, 65534); err != nil {
		if err := unix.Mount("/etc/passwd", lock, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(lock, unix.MNT_DETACH)
	}
	expect(t, consult(t, b, nil), "folder-owner", "lock")
}

// futureFloor gives a node the memory of a later day, as one has whose clock
// went back.
func futureFloor(t *testing.T) {
	b := founded(t, "floor")
	path := filepath.Join(b.Dir, "state")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var state map[int]any
	if err := identity.UnmarshalOpen(raw, &state); err != nil {
		t.Fatal(err)
	}
	state[6] = map[int]int64{1: 2082758400} // 2036
	if raw, err = identity.Marshal(state); err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	expect(t, consult(t, b, nil), "clock-below-floor", "2036")
}

// onSmallDisk is a founded box whose folder is a file system of its own.
func onSmallDisk(t *testing.T, name, options string) *scenario.Box {
	t.Helper()
	b, small := founded(t, name), t.TempDir()
	if err := unix.Mount("none", small, "tmpfs", 0, options+",mode=0750"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	if err := os.CopyFS(small, os.DirFS(b.Dir)); err != nil {
		t.Fatal(err)
	}
	b.Dir = small
	return b
}

func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = io.Copy(f, zeroes{})
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk does not fill: %v", err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// foreignNetwork lets a node of another network knock at this one's port.
func foreignNetwork(t *testing.T) {
	b, other := founded(t, "ours"), box(t, "theirs")
	if _, err := other.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.CreateNetwork(t.Context(), "falcon"); err != nil {
		t.Fatal(err)
	}
	up(t, b)
	toml := fmt.Sprintf("[gossip]\nlisten = \"%s:%d\"\nseeds = [\"%s\"]\n[mesh]\nlisten = [\"%s:%d\"]\n[page]\nlisten = []\n", outside, other.Gossip, b.GossipAddr(), outside, other.Mesh)
	if err := os.WriteFile(filepath.Join(other.Dir, "outrider.toml"), []byte(toml), 0o640); err != nil {
		t.Fatal(err)
	}
	up(t, other)
	err := scenario.Poll(soon(t), "the other network to be noticed", func() (bool, error) {
		_, ok := get(consult(t, b, nil), "wrong-network")
		return ok, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// neverMet joins a network of which nobody is in reach.
func neverMet(t *testing.T) {
	a, b := founded(t, "inviting"), box(t, "invited")
	inv, err := a.Invite(t.Context(), "bravo-of-this-test", "10.9.0.77")
	if err == nil {
		_, err = b.Init(t.Context())
	}
	if err == nil {
		err = b.Join(t.Context(), inv)
	}
	if err != nil {
		t.Fatal(err)
	}
	list := consult(t, b, nil)
	expect(t, list, "no-peer-ever")
	if f, _ := get(list, "no-peer-ever"); !strings.Contains(f.Cure, "10.9.0.77") {
		t.Errorf("the cure does not name the address: %s", f.Cure)
	}
}

// tightGroup runs doctor in a control group with little memory. Where no group
// can be made, node/doctor's own test has the same files.
func tightGroup(t *testing.T, id string) {
	for _, g := range []struct{ root, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(g.root, fmt.Sprintf("outrider-operate-%d", os.Getpid()))
		if _, err := os.Stat(filepath.Join(g.root, "cgroup.procs")); err != nil || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		defer os.Remove(dir)
		if os.WriteFile(filepath.Join(dir, g.limit), []byte("67108864"), 0o644) != nil {
			continue
		}
		wrap := []string{"sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, dir}
		expect(t, consult(t, founded(t, "group"), wrap), id, "outrider-operate")
		return
	}
	t.Log("no control group can be made here; see TestMemory in node/doctor")
}

// otherVersion is the same program under another version.
func otherVersion(t *testing.T) string {
	t.Helper()
	root, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "outrider")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-X main.version=v9.9.9", "-o", bin, "./node/outrider")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return bin
}

const aliceName = "Alice Liddell-Hargreaves"
