package envelope

import "time"

// Fixed by the protocol: changing one breaks other nodes.
const (
	// Suite is the only suite written so far: HPKE with MLKEM768-X25519 in
	// export-only mode, HKDF-SHA-256, AES-256-GCM, Ed25519.
	Suite = 1
	// KEMID is the suite's HPKE KEM identifier (draft-ietf-hpke-pq).
	KEMID = 0x647a

	encSize    = 1120 // KEM ciphertext, bytes
	publicSize = 1216 // KEM public key, bytes
	seedSize   = 32   // KEM private key, bytes
	aeadExtra  = 28   // random nonce and tag, bytes
	prefixSize = 6    // masked slot and index, bytes
	sigSize    = 64

	// MaxPayload is the largest payload of a bundle, in bytes.
	MaxPayload = 64 << 10
	// MaxHeader is the largest bundle header, in bytes.
	MaxHeader = 256
	// maxPlain is the largest padded plaintext: the last padding step that,
	// sealed, fits a payload.
	maxPlain = 61440
	// MaxBody is the largest body of an Inner, in bytes.
	MaxBody = 60_000
	// MaxParents is the number of parents an Inner can name.
	MaxParents = 4
	// MaxMembers is the number of devices in a roster.
	MaxMembers = 1024
	// maxInline is the number of members up to which a wrap carries the roster;
	// larger ones are named by their hash. Direct conversations are not larger.
	maxInline = 64
	// maxOp is the largest encoded operation, in bytes.
	maxOp = 4096
	// maxOpParents is the number of parents an operation can name.
	maxOpParents = 16

	// Days is the number of tags of an epoch: one for each day since the
	// sender learnt it, the last for all days after.
	Days = 9
	// WatchedPrekeys is the number of newest prekeys whose inbox tags a
	// device watches, besides the last resort's.
	WatchedPrekeys = 64

	// liveBit marks indexes of the chain for live positions.
	liveBit = 1 << 31
	// replyBit marks the numbers of reply keys.
	replyBit = 1 << 31
)

// Chosen here: a peer may choose otherwise.
const (
	// MaxJump is how far beyond the last message of a chain an index may lie.
	MaxJump = 5000
	// MaxGaps is the number of message keys kept for messages of one chain
	// that others overtook.
	MaxGaps = 2000
	// MaxGapsTotal is the same over all chains.
	MaxGapsTotal = 20_000
	// maxLost is the number of ranges of given-up indexes remembered per chain.
	maxLost = 64
	// maxUnaccepted is the number of messages opened and not accepted.
	maxUnaccepted = 1024
	// reserveBlock is the number of indexes a sender sets aside at once.
	reserveBlock = 32
	// maxRecent is the number of messages whose keys stay in memory after
	// they were accepted, to tell a cloned sender from a repeated bundle.
	maxRecent = 256
	// maxEpochs is the number of epochs a keyring holds.
	maxEpochs = 4096
	// maxConversationEpochs is the number of epochs held per conversation.
	maxConversationEpochs = 64
	// maxReplies is the number of reply keys handed out and not used.
	maxReplies = 256

	// PrekeyLife is how long a prekey is current.
	PrekeyLife = 7 * 24 * time.Hour
	// RefreshAge and RefreshMessages are when an epoch should be replaced.
	RefreshAge      = 7 * 24 * time.Hour
	RefreshMessages = 1000
	// DefaultMaxDelay is the maximum delay of the network preset "standard".
	DefaultMaxDelay = 30 * 24 * time.Hour
)
