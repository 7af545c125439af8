package doctor

import (
	"fmt"
	"strings"
)

// A Severity says how bad a finding is.
type Severity string

// The severities. Both make `outrider doctor` end with a code of its own.
const (
	Fault   Severity = "fault"   // something does not work, or mail is in danger
	Warning Severity = "warning" // works for now, or works badly
)

// A Kind is something that can be wrong. Words in braces stand for what was
// found.
type Kind struct {
	ID       string
	Severity Severity
	Sentence string
	Cure     string
}

// Kinds is the one table of findings; FINDINGS.md is written from it. An id
// stays what it is once released.
var Kinds = []Kind{
	{"not-initialised", Fault, "There is no node in {dir}.", "Run `outrider init`, or name the node's folder with --dir."},
	{"no-network", Warning, "This node belongs to no network.", "Run `outrider network create NAME` for a new one, or `outrider join LINK`."},
	{"state-damaged", Fault, "The state file of {dir} cannot be used: {why}.", "Put back a copy of the file {dir}/state. Without one, move the folder away, run `outrider init`, and join with a new link; other nodes still have what they carry."},
	{"state-later", Fault, "The state file of {dir} was written by a later version of outrider.", "Install that version again; this one would lose what it does not know."},
	{"folder-not-writable", Fault, "{path} cannot be written: {why}.", "Run the node as the account that owns the folder, or give it the folder: `chown -R outrider: {dir}`; a disk that became read-only needs `fsck` and a new mount."},
	{"folder-owner", Fault, "{path} belongs to {owner}, but the folder belongs to {folder}: the node was once run as somebody else.", "Stop the node and run `chown -R {folder}: {dir}`."},
	{"folder-open", Fault, "{path} has mode {mode}: other users of this machine can reach the node's keys.", "Run `chmod {want} {path}`."},
	{"config-error", Fault, "The settings have a mistake: {mistake}.", "Correct {file}; `outrider config check` reads it again, `outrider config show --defaults` shows what can stand there."},
	{"clock-unset", Fault, "The clock says {now}: it was never set since the machine was switched on.", "Set it (`date -s '2026-11-22 12:00'`), run an NTP or GPS daemon, or fit a clock battery. Mail is carried meanwhile; joining and certificates wait."},
	{"clock-below-floor", Fault, "The clock says {now}, but {floor} has certainly passed.", "Set it (`date -s '2026-11-22 12:00'`), or run an NTP or GPS daemon. Nothing is lost meanwhile; no certificate is issued."},
	{"clock-unsynchronised", Warning, "Nothing disciplines the clock, so that it will drift.", "Run chrony, systemd-timesyncd or gpsd. Without any of them look at the clock now and then."},
	{"disk-full", Fault, "The disk of {dir} is full: {free} free.", "Free space on it (`du -xsh /*`), or move the node's folder to a larger disk."},
	{"disk-inodes", Fault, "The disk of {dir} has no room for more files, though it has {free} free.", "Delete small files on it, or make the file system anew with more inodes (`mkfs.ext4 -N`)."},
	{"disk-below-floor", Fault, "The disk of {dir} has {free} free, less than the {floor} that are never used: new mail is refused.", "Free space on it, or lower store.free_floor_mb."},
	{"disk-volatile", Fault, "{dir} lies in memory ({kind}): everything is lost when the power goes.", "Move the folder to a disk, a card or a stick and name it with --dir."},
	{"disk-slow", Warning, "The disk of {dir} takes {time} to make {bytes} durable.", "Each message waits that long. Use a better card or a disk; see whether another program writes much (`iotop`)."},
	{"port-busy", Fault, "{port} ({use}) is taken by {owner}.", "Stop that program, or change {key}."},
	{"port-refused", Fault, "{port} ({use}) cannot be listened on: {why}.", "Change {key}."},
	{"address-missing", Fault, "No interface has the address {address}, on which {use} should listen.", "Bring the interface up (`ip address`), or change {key}."},
	{"firewall-drops", Fault, "The firewall drops what comes to {port} ({use}): {rule}.", "{cure}"},
	{"firewall-loop", Fault, "A connection from this machine to its own {port} ({use}) does not arrive, and its firewall rules cannot be read.", "Run `outrider doctor` as root to see the rule; `outrider config ports` prints the lines that let other nodes in."},
	{"page-certificate-expired", Fault, "The certificate of the page on {address} ended on {end}.", "See that the clock is right, then start the node anew: it makes a new one."},
	{"page-certificate-address", Fault, "The certificate of the page on {address} does not name {missing}, by which others reach it.", "Start the node anew: its certificate then has the addresses of today."},
	{"page-silent", Fault, "The page on {address} does not answer: {why}.", "See the node's log, and start it anew."},
	{"wrong-network", Warning, "Nodes of another network are in reach: {count} times something came that no key of this network opens, at last {last}.", "If they should be yours, one side has joined the wrong network or has an old key: compare `outrider status` on both. Else give one network other ports."},
	{"no-peer-ever", Fault, "This node never heard another one.", "Check cable, antenna and radio, that the other side is up (`outrider status` there), and that one of these can be reached: {seeds}."},
	{"memory-low", Fault, "Only {free} of memory are free; a login needs {need}.", "Stop other programs, add swap, or use a board with more memory."},
	{"memory-cgroup", Fault, "The control group {group} leaves {free} of memory; a login needs {need}.", "Raise MemoryMax of the unit, or the container's limit."},
	{"memory-setting", Warning, "memory_limit_mb allows {setting}, more than the {limit} that the control group {group} gives.", "Lower memory_limit_mb to three quarters of that, so that memory is given back before the kernel kills the node."},
	{"cpu-no-aes", Warning, "This processor has no AES instructions that Go can use: sealing takes ten times as long.", "Nothing needs to be done; files of many megabytes will be slow."},
	{"files-limit", Warning, "A process may open {limit} files only; the node can need {need}.", "Raise LimitNOFILE of the unit, or `ulimit -n`."},
	{"socket-refused", Fault, "The socket in {dir} may not be used by this account.", "Use the account that runs the node, or become a member of the group outrider: `usermod -aG outrider NAME`, then log in again."},
	{"node-silent", Fault, "A node has the folder {dir} but does not answer.", "Wait a minute if it has just been started. Else look at its log, and start it anew: `systemctl restart outrider`."},
	{"version-mismatch", Warning, "The running node has version {node}, this command {command}.", "Start the node anew: `systemctl restart outrider`."},
	{"node-crashed", Warning, "The node crashed on {when}.", "Run `outrider report` and hand the file to a developer."},
	{"atak-ca-damaged", Fault, "The TAK bridge's CA in {dir} cannot be used.", "Put back a copy of {dir}. Without one remove the folder, start the node anew, and enrol every TAK client again (`outrider atak enroll`)."},
	{"atak-silent", Fault, "The TAK bridge on {address} does not answer: {why}.", "See the node's log; another program may have the port (`outrider config check`)."},
	{"atak-no-client", Warning, "The TAK bridge is on, but nobody can connect: no client was enrolled.", "Run `outrider atak enroll NAME`, or set enabled = false below [atak]."},
	{"atak-shares-nothing", Warning, "The TAK bridge is on, but positions go to nobody.", "Name people, or \"*\" for everybody, in atak.share_with."},
	{"atak-old-tls", Warning, "The TAK bridge takes TLS 1.2, which shows client certificates to whoever listens.", "Set tls12 = false below [atak], unless a client knows no TLS 1.3."},
}

// A Finding is a Kind that was found here and now.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Sentence string   `json:"sentence"`
	Cure     string   `json:"cure"`
}

// found makes a finding; pairs are the words in braces and what they stand
// for. An id or word that the table does not have is a mistake of ours.
func found(id string, pairs ...string) Finding {
	for _, k := range Kinds {
		if k.ID != id {
			continue
		}
		for i := range len(pairs) / 2 {
			pairs[2*i] = "{" + pairs[2*i] + "}"
		}
		r := strings.NewReplacer(pairs...)
		return Finding{ID: k.ID, Severity: k.Severity, Sentence: r.Replace(k.Sentence), Cure: r.Replace(k.Cure)}
	}
	panic("doctor: no finding is called " + id)
}

// Markdown writes the table as FINDINGS.md has it.
func Markdown() string {
	var b strings.Builder
	for _, k := range Kinds {
		fmt.Fprintf(&b, "## %s (%s)\n\n%s\n\nCure: %s\n\n", k.ID, k.Severity, k.Sentence, k.Cure)
	}
	return b.String()
}
