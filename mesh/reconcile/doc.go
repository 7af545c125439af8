// Package reconcile finds out, in bytes proportional to the difference, what
// two nodes hold that the other lacks. It is pure: no I/O, no clock, no
// goroutine, no float, so that every machine computes the same symbols.
//
// A set is described by short ids of eight bytes,
//
//	short = SipHash-2-4(salt, id (16 B) || purged (1 B, 0 or 1))
//
// where the salt is derived from the network's secret. Three things are made
// of short ids:
//
//	fingerprint  count, and the sum of all short ids modulo 2^64
//	root         first 16 B of SHA-256("outrider/v1/root\x00" || for each
//	             scope in order: count (8 B) || sum (8 B)), big-endian
//	symbols      the coded symbols of a rateless invertible Bloom lookup
//	             table (Yang, Gilad, Alizadeh: "Practical Rateless Set
//	             Reconciliation", arXiv 2402.02668)
//
// A coded symbol is the XOR of the short ids mapped to it, the XOR of their
// checks, and their number. Symbol i holds a short id with probability
// 1/(1+i/2); symbol 0 holds all of them. The difference of two sets' symbols
// is a symbol of their symmetric difference, and peeling recovers d items
// from about 1.4 d symbols whatever the size of the sets.
//
// On the wire a symbol is
//
//	sum    8 B big-endian
//	check  4 B big-endian
//	count  zig-zag varint of (count - floor(2n/(2+i))), n the sender's set size
//
// The mapping uses integers only. Each short id seeds a SplitMix64 generator;
// each draw u gives s = max(u>>32, u mod 2^32) + 1, which is distributed like
// 2^32 times the square root of a uniform variate, and the next index after i
// is i + max(1, ceil((2i+3) * (floor(2^63/s) - 2^31) / 2^32)): the inverse of
// the distribution of section 4.2 of the paper for alpha = 1/2.
package reconcile
