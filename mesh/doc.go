// Package mesh is the bundle agent: it accepts bundles, keeps them, passes
// them on when it meets a neighbour, and hands over what is for this node. It
// has no means to open what it carries.
//
// Machine decides everything and touches nothing: Step(now, input) returns
// outputs. It reads no clock, does no I/O, starts no goroutine, depends on no
// map order, uses no floating point and draws from a source it is given, so
// that a simulation with a seed runs the very code of the product. Shell
// drives it on a node: links, store, timers, calls and subscriptions.
//
// What the package promises:
//
//   - Submit returns nil, and a neighbour is told Durable, only after the
//     store said that the bundle is on disk.
//   - A bundle that was accepted leaves this node's store by purge, by the end
//     of its lifetime or, if it came from a neighbour, for a bundle of higher
//     precedence when space is short. Never because a neighbour has it too.
//   - A replica budget is changed on disk before the replica is sent.
//   - Every bundle that is dropped or refused is counted under a reason.
//   - Memory, queues and what is in flight are bounded; see Limits.
//
// PROTOCOL.md is the wire; DESIGN.md says why.
package mesh
