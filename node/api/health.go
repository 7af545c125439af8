package api

import (
	"net/http"
	"time"
)

// Health is what a node knows of how it is, in figures: for `outrider top`,
// `outrider doctor` and reports. It names no user and no node.
type Health struct {
	Version       string          `json:"version"`
	UptimeS       int64           `json:"uptime_s"`
	Enrolled      bool            `json:"enrolled"` // has met its network
	PeersKnown    int             `json:"peers_known"`
	LastHeard     time.Time       `json:"last_heard,omitzero"` // any neighbour, zero if none ever was
	Foreign       uint64          `json:"foreign"`             // gossip that no key of this network opens
	ForeignLast   time.Time       `json:"foreign_last,omitzero"`
	Crowded       uint64          `json:"strangers_crowded"` // found no place at the door
	Refused       uint64          `json:"strangers_refused"` // were not admitted
	Queue         []HealthQueue   `json:"queue"`             // FLASH first
	Links         []HealthLinks   `json:"links"`             // by class
	Store         HealthStore     `json:"store"`
	Clock         HealthClock     `json:"clock"`
	Memory        HealthMemory    `json:"memory"`
	Counters      HealthCounts    `json:"counters"`
	UsersLocked   int             `json:"users_locked"`
	UsersUnlocked int             `json:"users_unlocked"`
	UsersWaiting  int             `json:"users_waiting"` // bundles that wait for locked users
	Calls         HealthCalls     `json:"calls"`
	Core          HealthCore      `json:"core"`
	Carry         *HealthCarry    `json:"carry,omitempty"`    // the last contact with a stick since the start
	TAKRefused    uint64          `json:"tak_refused"`        // connections to the TAK bridge without a certificate that is good here
	Archives      []HealthArchive `json:"archives,omitempty"` // of the readers that the configuration names
}

// HealthArchive is how the archive of one reader stands.
type HealthArchive struct {
	Reader  string    `json:"reader"`
	Keys    bool      `json:"keys"`
	Here    bool      `json:"here"`
	Waiting int       `json:"waiting"`
	Oldest  time.Time `json:"oldest,omitzero"`
	Records uint64    `json:"records"`
	Folder  string    `json:"folder,omitempty"`
	Seen    time.Time `json:"seen,omitzero"` // an archiver
}

// HealthCarry is how a contact with a stick ended.
type HealthCarry struct {
	Ended time.Time `json:"ended"`
	CarryResult
}

// HealthQueue is what is held of one precedence.
type HealthQueue struct {
	Precedence string `json:"precedence"`
	Bundles    int    `json:"bundles"`
	Bytes      int64  `json:"bytes"`
	OldestS    int64  `json:"oldest_s"`
}

// HealthLinks is what links of one class do and did.
type HealthLinks struct {
	Class           string `json:"class"`
	Contacts        int    `json:"contacts"`
	Waiting         int    `json:"waiting"` // bundles
	PayloadSent     uint64 `json:"payload_sent"`
	PayloadReceived uint64 `json:"payload_received"`
	Sent            uint64 `json:"sent"` // bytes on links
	Received        uint64 `json:"received"`
}

// HealthStore is the store. Bytes and LimitBytes are those by which bundles
// are refused: half of what the settings give the store on the disk.
type HealthStore struct {
	Bytes        uint64 `json:"bytes"`
	LimitBytes   uint64 `json:"limit_bytes"`
	RelayedBytes uint64 `json:"relayed_bytes"` // of Bytes, what came from neighbours
	RelayedLimit uint64 `json:"relayed_limit_bytes"`
	FileBytes    uint64 `json:"file_bytes"`
	FileLimit    uint64 `json:"file_limit_bytes"`
	IndexBytes   uint64 `json:"index_bytes"`
	FreeBytes    uint64 `json:"free_bytes"`
	FloorBytes   uint64 `json:"floor_bytes"`
	Syncs        uint64 `json:"syncs"`
}

// StoreFullPercent is from where on a share of the store counts as full. The
// alert OutriderStoreNearlyFull (node/dist/alerts.yml) has the same figure.
const StoreFullPercent = 90

// A StoreShare is what content of one kind takes of the store, and may take.
type StoreShare struct {
	Kind         string // bundles, relayed, files: a label of the metrics
	Bytes, Limit uint64
}

// Full reports whether operators are to be told: soon, or already, what finds
// no room is refused.
func (s StoreShare) Full() bool { return s.Bytes > s.Limit/100*StoreFullPercent }

// Shares lists what has a limit of its own.
func (s HealthStore) Shares() []StoreShare {
	return []StoreShare{{"bundles", s.Bytes, s.LimitBytes}, {"relayed", s.RelayedBytes, s.RelayedLimit}, {"files", s.FileBytes, s.FileLimit}}
}

// HealthClock is what is believed of the time.
type HealthClock struct {
	Source     string  `json:"source"` // kernel, network, none
	BelowFloor bool    `json:"below_floor"`
	OffsetS    float64 `json:"offset_s"` // what the kernel still has to correct
}

// HealthMemory is the process.
type HealthMemory struct {
	HeapBytes     uint64 `json:"heap_bytes"`
	ResidentBytes uint64 `json:"resident_bytes"`
	LimitBytes    int64  `json:"limit_bytes"` // 0 for none
	Goroutines    int    `json:"goroutines"`
}

// HealthCounts counts since the start.
type HealthCounts struct {
	Submitted  uint64            `json:"submitted"`
	Received   uint64            `json:"received"`
	Sent       uint64            `json:"sent"`
	Delivered  uint64            `json:"delivered"`
	Demoted    uint64            `json:"demoted"`
	Stalls     uint64            `json:"stalls"`
	Duplicates uint64            `json:"duplicates"`
	Dropped    map[string]uint64 `json:"dropped"` // by reason, without those at 0
	Delay      []uint64          `json:"delay"`   // by bucket, see delay_bounds_s
	DelayBound []uint32          `json:"delay_bounds_s"`
	DelaySum   uint64            `json:"delay_sum_s"`
}

// health is GET /v1/health.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	writeJSON(w, http.StatusOK, s.cfg.Health(r.Context()))
	return nil
}

// HealthCore is the way to the core; all zero when there is none.
type HealthCore struct {
	Up      bool      `json:"up"`
	Reached time.Time `json:"last_reached,omitzero"`
	Stored  uint64    `json:"stored"`
	Present uint64    `json:"present"`
	Resent  uint64    `json:"resent"`
	Pulled  uint64    `json:"pulled"`
}
