// Package sim drives the product's own agent (mesh.Machine) through networks
// that do not exist: virtual time, contacts that come and go, thin links,
// crashes that lose what was not synced, wrong clocks, full disks and
// neighbours that lie. Everything is drawn from one seed, and the same seed
// gives the same event log on every machine.
//
// A run has two parts. In the first, faults happen and safety is checked at
// every step: nothing acknowledged is lost, nothing is handed over twice or
// after its time, nothing is purged but what its reader released, budgets and
// quotas hold. Then the faults end, the links heal, and within bounded time
// everything that is still alive must have arrived and all sets must be equal.
package sim
