// Package linkemu emulates radio links between network interfaces, in user
// space: rate, delay, jitter, loss, a shared half-duplex channel, a queue
// before it, and a schedule of links going up and down.
//
// A Scenario names nodes and the nets (radios or cables) that join them. An
// Ether carries Ethernet frames between the ports of one scenario; a port is
// anything that reads and writes whole frames, as a rule a TAP interface in a
// node's network namespace. Programs in the nodes are unmodified.
//
// What it promises: a half-duplex channel keeps its long-term rate, because
// airtime is counted against a running clock; frames of one link are never
// reordered; every frame that entered is in exactly one counter of its link:
// received, lost, dropped by a full queue, dropped because the link was down,
// or still under way. What it does not model: collisions, hidden nodes,
// link-layer retransmission, adaptive rates, capture.
//
// The command in linkemu/linkemu runs a scenario by itself; package netns
// builds one for a test. README.md describes fields and limits.
package linkemu
