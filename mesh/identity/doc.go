// Package identity says who is who in a network: keys, certificates and the
// root record they hang from, routing tags, and the one CBOR dialect and the
// one table of labels that every other package uses.
//
// A network is its root record. Everything else is a chain of compact
// certificates that ends in it:
//
//	root record            Ed25519 and ML-DSA-65, both must hold
//	  admin                issues, revokes, configures
//	    user               a person; signs the devices it uses
//	      device           one user on one node; signs messages and prekeys
//	    node               a box that may forward and cannot read
//	    delegate           the one-use key of a join link: one user, one node, or both
//	      user -> device   provisional, until an admin confirms
//	      node             provisional
//
// IDENTITY.md in this folder has the formats, byte by byte.
//
// The package, its tests included, runs under GODEBUG=fips140=only.
package identity
