package identity

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// labelRoot begins every string that separates one use of a key or a hash
// from another. The version in it is that of the protocol suite.
const labelRoot = "outrider/v1/"

// A Domain names what a signature is about. The signed bytes are
// "outrider/v1/<domain>\x00" followed by the message: the prefix does what
// Ed25519ctx would, which FIPS 140-3 does not allow (crypto.md 2.3).
type Domain string

// The things that are signed.
const (
	DomainRoot        Domain = "root-record"    // root record body, by the root keys
	DomainCertificate Domain = "certificate"    // certificate body, by its issuer
	DomainPossession  Domain = "possession"     // device certificate body, by the device itself
	DomainPrekey      Domain = "prekey"         // prekey bundle, by a device
	DomainProfile     Domain = "profile"        // display name, by a device or an admin
	DomainRevocation  Domain = "revocation"     // revocation set, by an admin
	DomainLink        Domain = "link"           // content of a config link, by an admin
	DomainConfig      Domain = "config"         // signed config, by an admin
	DomainMessage     Domain = "message"        // inner message, by a device
	DomainEpoch       Domain = "epoch"          // start of an epoch, by a device
	DomainMember      Domain = "gossip-member"  // gossip metadata, by a node
	DomainSecret      Domain = "network-secret" // voucher for a generation of the network secret, by an admin
)

// A Label names what a derived key, tag or hash is for.
type Label string

// The things that are derived. Packages that cannot or need not import this
// one write theirs out; the test of this table knows them. A derivation's info is
// "outrider/v1/<label>\x00" followed by its context, whose parts have fixed
// lengths or carry them.
const (
	LabelDeviceID      Label = "device-id"        // SHA-256 prefix
	LabelKeyID         Label = "key-id"           // SHA-256 prefix
	LabelRootEd25519   Label = "root-ed25519"     // from the root seed
	LabelRootMLDSA     Label = "root-mldsa"       // from the root seed
	LabelGossipKey     Label = "gossip-key"       // from a network secret
	LabelTagKey        Label = "tag-key"          // from a network secret
	LabelControlKey    Label = "control-key"      // from a network secret
	LabelReconcileSalt Label = "reconcile-salt"   // from a network secret
	LabelPageCA        Label = "page-ca"          // from a network secret
	LabelRecovery      Label = "user-recovery"    // from a user key's seed
	LabelSecretHash    Label = "secret-hash"      // SHA-256 prefix of a network secret
	LabelInboxTag      Label = "inbox-tag"        // HMAC prefix
	LabelControlTag    Label = "control-tag"      // HMAC prefix
	LabelControlObject Label = "control-object"   // AAD prefix of sealed control objects
	LabelSupersede     Label = "supersede"        // SHA-256 prefix of a control object's key
	LabelHeads         Label = "revocation-heads" // SHA-256 prefix of all revoked keys
	LabelFingerprint   Label = "fingerprint"      // SHA-256 prefix of spoken words
	LabelLock          Label = "lock"             // AAD prefix of password-sealed blobs
	LabelLinkKey       Label = "link-key"         // from a network secret
	LabelVersionHash   Label = "version-hash"     // SHA-256 prefix of a signed config
	LabelWrap          Label = "wrap"             // HPKE info of an epoch wrap
	LabelWrapKey       Label = "wrap-key"         // HPKE export of an epoch wrap
	LabelWrapAAD       Label = "wrap-aad"         // AAD prefix of an epoch wrap
	LabelEpochID       Label = "epoch-id"         // SHA-256 prefix
	LabelEpochRoot     Label = "epoch-expand"     // from an epoch secret
	LabelEpochChain    Label = "epoch-chain"      // from an epoch root
	LabelEpochCarry    Label = "epoch-carry"      // from an epoch secret
	LabelEpochTag      Label = "epoch-tag"        // from an epoch secret
	LabelEpochTagDay   Label = "epoch-tag-day"    // HMAC prefix
	LabelEpochControl  Label = "epoch-control"    // from an epoch secret
	LabelEpochHeader   Label = "epoch-header"     // from an epoch secret
	LabelEpochChild    Label = "epoch-child"      // from a carry
	LabelRosterHash    Label = "roster-hash"      // SHA-256 prefix
	LabelWrapTree      Label = "wrap-tree"        // SHA-256 prefix
	LabelChainMessage  Label = "chain-message"    // HMAC prefix
	LabelChainNext     Label = "chain-next"       // HMAC prefix
	LabelMessageSeal   Label = "message-seal"     // AAD prefix, from a message key
	LabelMessagePurge  Label = "message-purge"    // from a message key
	LabelWrapPurge     Label = "wrap-purge"       // from a wrap secret
	LabelFileKey       Label = "file-key"         // from a file's random key
	LabelFileLeaf      Label = "file-leaf"        // AAD prefix of a leaf
	LabelVaultRow      Label = "vault-row"        // AAD prefix of a timeline row
	LabelKeystore      Label = "keystore"         // from a user's unlocked key
	LabelKeystoreVault Label = "keystore-vault"   // from a user's unlocked key
)

// Prefix returns the bytes that stand before a message signed in domain d.
func (d Domain) Prefix() []byte { return []byte(labelRoot + string(d) + "\x00") }

// Prefix returns the bytes that stand before whatever is hashed, or used as
// context or additional data, under l.
func (l Label) Prefix() []byte { return []byte(labelRoot + string(l) + "\x00") }

// Derive makes a 32-byte key from a 32-byte secret: HKDF-SHA-256 without
// salt, info = l.Prefix() followed by context. The parts of context must have
// fixed lengths or carry them.
func Derive(secret [32]byte, l Label, context ...[]byte) [32]byte {
	return DeriveSalted(secret, nil, l, context...)
}

// DeriveSalted is Derive with a salt.
func DeriveSalted(secret [32]byte, salt []byte, l Label, context ...[]byte) [32]byte {
	info := l.Prefix()
	for _, c := range context {
		info = append(info, c...)
	}
	key, err := hkdf.Key(sha256.New, secret[:], salt, string(info), 32)
	if err != nil {
		panic("identity: HKDF of a 32-byte secret failed: " + err.Error()) // key and output length are constants
	}
	return [32]byte(key)
}

// MAC returns HMAC-SHA-256 under key of l.Prefix() followed by the parts,
// which must have fixed lengths or carry them.
func MAC(key [32]byte, l Label, parts ...[]byte) [32]byte {
	m := hmac.New(sha256.New, key[:])
	m.Write(l.Prefix())
	for _, p := range parts {
		m.Write(p)
	}
	return [32]byte(m.Sum(nil))
}

// Hash returns SHA-256 of l.Prefix() followed by the parts, which must have
// fixed lengths or carry them.
func Hash(l Label, parts ...[]byte) [32]byte {
	h := sha256.New()
	h.Write(l.Prefix())
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

// What mesh/envelope derives besides.
const (
	LabelWrapFrame    Label = "wrap-frame"   // HPKE export and AAD prefix of an epoch wrap's frame
	LabelConversation Label = "conversation" // SHA-256 prefix of a direct conversation's users
	LabelMessageHash  Label = "message-hash" // SHA-256 prefix of a signed message
	LabelEnvelopeID   Label = "envelope-id"  // from a device key; HMAC prefix of a keyring's vault ids
)

// What the archive of a network derives (offline/compliance).
const (
	LabelArchiveMessage Label = "archive-message" // SHA-256 prefix of a record's message id
	LabelArchiveGroup   Label = "archive-group"   // SHA-256 of a record's conversation id
	LabelArchiveJournal Label = "archive-journal" // SHA-256 that the first record of a journal stands on
)
