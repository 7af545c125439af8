// Package rtc moves the media of calls between clients and their node. It is
// the only package that knows pion.
//
// A Server forwards: what one participant of a call sends goes to the others,
// packet by packet, with the payload as it came. The payload is an SFrame that
// no key of the node opens; of the RTP header the SSRC and payload type are the
// receiver's, and sequence numbers and timestamps go on without a leap when a
// sender's connection is made anew.
//
// What the package promises:
//
//   - One UDP port and one TCP port serve everybody. They are open while
//     somebody is in a call and closed otherwise: a node where nobody calls
//     shows nothing to the network.
//   - The node is an ICE-lite end (RFC 8445, section 2.5): it asks no STUN or
//     TURN server, resolves no name, and its candidates are addresses of its
//     own interfaces at that moment.
//   - A client negotiates once, without waiting for candidates: it has one
//     connection with a transceiver that sends and one that receives.
//   - Neither session descriptions nor addresses nor payloads are logged.
//   - When Run has returned, nothing is left running or listening.
package rtc
