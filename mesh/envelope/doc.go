// Package envelope seals what people write and opens what they receive. It
// promises that nobody but the devices of an epoch's roster reads a message,
// that every message is by the device it names, and that a key that was used
// is gone.
//
// An epoch is a secret shared by a set of devices. It is delivered to each of
// them in a wrap (HPKE, hybrid KEM) that hides everything, sender and roster
// included, from the nodes that carry it:
//
//	wrap     KEM ciphertext (1,120 B) || nonce (12) || AES-256-GCM( frame ) || tag (16)
//	frame    operation, roster, wrapped secret, path to the signed root of all wraps, signature; padded
//
// From the secret every device of the roster gets two ratchet chains, one for
// mail and one for live positions. A message is one step of one chain:
//
//	payload  masked slot and index (6 B) || nonce (12) || AES-256-GCM( inner ) || tag (16)
//	inner    length of fields (2 B) || fields (CBOR) || Ed25519 signature (64) || zeros
//
// The bundle header is additional data of both and is signed in both, so no
// payload can be put under another header.
//
// A Keyring holds one device's prekeys, epochs and chains. Its secrets lie in
// a Vault, which can forget; the rest in Records, which the caller encrypts.
// Large content is cut into leaves (EncryptFile) that relays carry as a blob;
// the key travels in a message. ENVELOPE.md has every byte.
package envelope
