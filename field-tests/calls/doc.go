// Package calls proves calls from outside: one real node, two Chromiums whose
// microphones are the browser's own test tone, and somebody at the node who
// sees everything that is forwarded and wants to hear it.
package calls
