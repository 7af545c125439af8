package p2p

import (
	"time"

	"outrider/mesh/crowd"
)

// What the protocol fixes: a node with other numbers does not fit ours.
const (
	protoRoot  = "/outrider/root/1"
	protoHello = "/outrider/hello/1"
	protoMesh  = "/outrider/mesh/1"
	// protoSecret hands network secrets from one admitted node to another.
	protoSecret = "/outrider/secret/1"

	protoMultistream = "/multistream/1.0.0"
	protoNoise       = "/noise"
	protoYamux       = "/yamux/1.0.0"
	alpnQUIC         = "libp2p"

	yamuxWindow = 256 << 10 // bytes that a stream may always receive

	maxHello  = 4 << 10 // bytes of one message on a hello or mesh stream's opening
	maxRoot   = 8 << 10 // bytes of a root record
	maxSecret = 8 << 10 // bytes of one block on a secret stream

	// ProtocolMin and ProtocolMax are the protocol versions we speak.
	ProtocolMin, ProtocolMax = 1, 1
)

// What we chose.
const (
	maxStrangers       = 4        // inbound connections before admission, together
	maxDials           = 4        // outbound connections before admission, together
	maxStrangerBytes   = 32 << 10 // what a stranger may send in all, on TCP
	maxStrangerStreams = 4        // streams a stranger may open in all
	maxConns           = 64       // admitted connections
	maxPeerConns       = 2        // admitted connections of one peer
	maxPeerStreams     = 4        // open streams of one peer's making
	maxMemory          = 32 << 20 // bytes of receive windows of all yamux streams
	maxProposals       = 3        // protocols a peer may propose on one stream
	maxToken           = 64       // bytes of a proposed protocol's name

	graceShare   = 20                     // a stranger may be silent for 1/20 of its time
	answerLinger = time.Second            // how long a refused stranger has to read why
	closeLinger  = 5 * time.Second        // how long a closed link may take to deliver
	judgeEvery   = time.Minute            // how late an expired admission may be noticed
	busyRetries  = 3                      // dials again when the door was full
	busyPause    = 100 * time.Millisecond // before the first of them, jittered, doubling
	quicLead     = 250 * time.Millisecond // head start of QUIC before TCP
	readBuffer   = 8 << 10                // bytes of a stream's reader
	tokenAge     = time.Hour              // a proof of address on QUIC spares the next one
	tokensKept   = 64                     // such proofs kept, one for each peer
)

// knocks are the connections that a node hears out at all: a handshake costs
// it a millisecond, so a crowd of any size costs at most 2 % of a processor
// and each address with admitted peers at most 1 %.
var knocks = crowd.Limits{
	Stranger: crowd.Rate{Burst: 8, Every: time.Second},
	All:      crowd.Rate{Burst: 32, Every: 50 * time.Millisecond},
	Known:    crowd.Rate{Burst: 64, Every: 100 * time.Millisecond},
}
