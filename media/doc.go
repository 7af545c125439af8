// Package media is calls as the nodes of their participants see them: who
// calls whom, what state that is in, and which signals and records come of it.
//
// A Call is one user's side of a call; the two sides may live on two nodes and
// learn of each other by signals alone, which travel as sealed messages:
//
//	caller                               callee
//	calling   -- invite (commitment) -->  ringing
//	ringing   <-- ring ------------------
//	accepted  <-- answer (key) ----------  accepted
//	          -- reveal (key) ---------->
//	over      <-- end (reason) --------->  over
//
// Calls is the machine: it does no I/O and reads no clock; what it wants done
// it returns as effects. It sees commitments and public keys pass and can make
// nothing of them: the call's keys are agreed by the ends (media/agree), the
// frames sealed by them (media/sframe), and media/rtc forwards what it cannot
// open.
package media
