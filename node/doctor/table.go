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
	{"store-full", Warning, "{what} take {used} of the {limit} they may: what finds no room is refused.", "Raise {key}, or bring the node near those its mail is for."},
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
	{"calls-unheard", Warning, "Calls from other machines cannot work: the page is served at {page}, but the media of calls is taken at {calls}.", "Remove calls.listen from {file}: calls are then where the page is."},
	{"calls-page-unprotected", Warning, "Other machines reach the page by a proxy or a name ({names}) without TLS of this node: browsers then give it no microphone, and no call can be made.", "Add the address that others reach to page.listen, for example \"0.0.0.0\", and let them install the page's CA: `outrider page --ca-for 15m`."},
	{"socket-refused", Fault, "The socket in {dir} may not be used by this account.", "Use the account that runs the node, or become a member of the group outrider: `usermod -aG outrider NAME`, then log in again."},
	{"node-silent", Fault, "A node has the folder {dir} but does not answer.", "Wait a minute if it has just been started. Else look at its log, and start it anew: `systemctl restart outrider`."},
	{"version-mismatch", Warning, "The running node has version {node}, this command {command}.", "Start the node anew: `systemctl restart outrider`."},
	{"node-crashed", Warning, "The node crashed on {when}.", "Run `outrider report` and hand the file to a developer."},
	{"core-credentials", Fault, "The credentials for the core cannot be used: {why}.", "Get the files anew from whoever runs the core, name them below [core], `chmod 600` the seed, and start the node again."},
	{"core-pin", Fault, "A server at the core's address shows a key that is not pinned: {why}.", "Ask whoever runs the core whether its key has changed, by another way than this one. If it has, put the new pin into core.pins; if it has not, somebody stands between: nothing was sent to him."},
	{"core-refused", Fault, "The core does not let this node in: {why}.", "Ask whoever runs the core to add this node's key (`outrider core status` shows it)."},
	{"core-unreachable", Warning, "The core cannot be reached since {since}: {why}.", "Mail goes through the mesh meanwhile and up by itself when the backhaul is back. If it should be there: look at the backhaul, and whether one of {servers} can be reached."},
	{"core-full", Fault, "The core has no room left for this unit.", "Whoever runs the core must raise its limits. Nothing is lost: it is kept here."},
	{"core-clock", Warning, "The clock of this node and that of the core are {skew} apart.", "See which of the two is wrong (`date`), and set it."},
	{"core-opsec", Warning, "A core is configured, but this network's preset is opsec: it is not used.", "Remove the servers below [core]."},
	{"policy-past-date", Warning, "The policy of group {group} in force here (version {version}) is {days} past its date.", "It stays in force until a newer one comes. Ask the admin for one: `outrider config push {group}` there reaches every node."},
	{"policy-conflict", Fault, "Two versions of the policy of group {group} carry the number {version} and differ: the stricter value of each field is in force.", "Ask the admins whether both are theirs. If so, one of them issues the next version (`outrider config push {group}`); if not, an admin key is in wrong hands: `outrider revoke` it."},
	{"policy-behind", Warning, "Version {seen} of the policy of group {group} was seen here, but version {version}, which came by {source}, outranks it.", "What is pushed outranks a file, a file a link. If the newer one is meant, the admin pushes it: `outrider config push {group}`."},
	{"policy-damaged", Fault, "The policies kept in {dir}/policy cannot be read: {why}.", "Put back a copy of the file. Without one remove it: what was pushed is known again at the next start, links and files must be applied again."},
	{"archive-keys", Fault, "This network is archived by {reader}, and the archive's keys have not arrived at this node: nothing is sent until they have.", "Bring this node into contact with one that has met {reader}'s node, or take the reader back: outrider config push GROUP --compliance \"\"."},
	{"archive-behind", Warning, "{count} copies for the archive reader {reader} wait at this node, and nobody has archived any for an hour.", "Run: outrider compliance run {reader} --out FOLDER. Nothing is lost meanwhile."},
	{"archive-folder", Fault, "The archive's folder {folder} cannot be written: {why}.", "Mount its disk, or make it writable; the archiver goes on by itself."},
	{"archive-full", Fault, "The disk of the archive's folder {folder} has {free} free.", "Free space there, or move the archive to a larger disk. Nothing is lost: what does not fit waits at the node."},
	{"archive-broken", Fault, "The archive in {folder} is not what was written ({where}): {what}.", "Keep it as it is, find out who changed it (outrider compliance verify {folder}), and go on in a new folder with --fresh."},
	{"carry-full", Warning, "The stick that was here last ({when}) is full: not everything found room on it.", "Make room on it, or take another one, and repeat `outrider carry`. Nothing is lost: what did not fit is still here."},
	{"carry-damaged", Warning, "The stick that was here last ({when}) has lost part of what it held.", "Check it (`fsck`), or take another one, and repeat `outrider carry` here and at the nodes it comes from: they still have what they gave until it has arrived."},
	{"position-unreachable", Fault, "The position receiver {source} cannot be reached.", "See that it is plugged in, and that gpsd runs if it is named (`systemctl status gpsd`). For a serial device the packaged service needs /usr/share/doc/outrider/examples/receiver.conf, which says where it goes."},
	{"position-silent", Warning, "The position receiver {source} is there but has told no position for {time}.", "Give its antenna open sky; a cold start takes up to 15 minutes. If it stays silent look at what it says (`gpsmon`, or `cat` on the device) and at the speed of a serial port (`stty`)."},
	{"atak-refused", Warning, "{count} connections to the TAK bridge were turned away for want of a certificate that is good here.", "A client whose certificate was withdrawn or is of another node must be enrolled again: `outrider atak enroll NAME`, and import the new zip."},
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
