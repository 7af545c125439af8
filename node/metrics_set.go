package node

import (
	"context"
	"math"
	"slices"
	"time"

	"outrider/mesh"
	"outrider/node/api"
	"outrider/node/metrics"
)

// collect puts the node's figures into the words of node/metrics.
func (n *Node) collect(ctx context.Context) *metrics.Set {
	h, s := n.health(ctx), &metrics.Set{}
	s.Add("outrider_build_info", 1, h.Version)
	s.Add("outrider_start_time_seconds", float64(n.started.Unix()))
	s.Add("outrider_enrolled", metrics.Bool(h.Enrolled))
	collectMesh(s, h)
	collectCounts(s, h.Counters)
	collectStore(s, h.Store)
	for _, source := range clockSources {
		s.Add("outrider_clock_source", metrics.Bool(source == h.Clock.Source), source)
	}
	s.Add("outrider_clock_offset_seconds", h.Clock.OffsetS)
	s.Add("outrider_clock_below_floor", metrics.Bool(h.Clock.BelowFloor))
	s.Add("outrider_users", float64(h.UsersLocked), "locked")
	s.Add("outrider_users", float64(h.UsersUnlocked), "unlocked")
	s.Add("outrider_waiting_for_users_bundles", float64(h.UsersWaiting))
	s.Add("outrider_core_contacts", metrics.Bool(h.Core.Up))
	reached := 0.0
	if !h.Core.Reached.IsZero() {
		reached = float64(h.Core.Reached.Unix())
	}
	s.Add("outrider_core_last_reached_timestamp_seconds", reached)
	s.Add("outrider_core_messages_total", float64(h.Core.Stored), "stored")
	s.Add("outrider_core_messages_total", float64(h.Core.Present), "present")
	s.Add("outrider_core_messages_total", float64(h.Core.Resent), "resent")
	s.Add("outrider_core_messages_total", float64(h.Core.Pulled), "pulled")
	s.Add("outrider_calls_running", float64(h.Calls.Running))
	s.Add("outrider_calls_participants", float64(h.Calls.Participants))
	s.Add("outrider_calls_packets_forwarded_total", float64(h.Calls.Forwarded))
	s.Add("outrider_calls_packets_dropped_total", float64(h.Calls.Dropped))
	s.Add("outrider_memory_heap_bytes", float64(h.Memory.HeapBytes))
	s.Add("outrider_memory_resident_bytes", float64(h.Memory.ResidentBytes))
	limit := math.Inf(1)
	if h.Memory.LimitBytes > 0 {
		limit = float64(h.Memory.LimitBytes)
	}
	s.Add("outrider_memory_limit_bytes", limit)
	s.Add("outrider_goroutines", float64(h.Memory.Goroutines))
	return s
}

func collectMesh(s *metrics.Set, h api.Health) {
	for _, l := range h.Links {
		s.Add("outrider_mesh_contacts", float64(l.Contacts), l.Class)
		s.Add("outrider_mesh_waiting_bundles", float64(l.Waiting), l.Class)
		s.Add("outrider_mesh_payload_sent_bytes_total", float64(l.PayloadSent), l.Class)
		s.Add("outrider_mesh_payload_received_bytes_total", float64(l.PayloadReceived), l.Class)
		s.Add("outrider_mesh_link_sent_bytes_total", float64(l.Sent), l.Class)
		s.Add("outrider_mesh_link_received_bytes_total", float64(l.Received), l.Class)
	}
	for _, q := range h.Queue {
		s.Add("outrider_mesh_queue_bytes", float64(q.Bytes), q.Precedence)
		s.Add("outrider_mesh_queue_bundles", float64(q.Bundles), q.Precedence)
		s.Add("outrider_mesh_queue_oldest_seconds", float64(q.OldestS), q.Precedence)
	}
	heard := math.Inf(1)
	if !h.LastHeard.IsZero() {
		heard = max(0, time.Since(h.LastHeard).Seconds())
	}
	s.Add("outrider_mesh_last_heard_seconds", heard)
	s.Add("outrider_mesh_neighbours_known", float64(h.PeersKnown))
	s.Add("outrider_mesh_strangers_refused_total", float64(h.Crowded), "crowded")
	s.Add("outrider_mesh_strangers_refused_total", float64(h.Refused), "refused")
	s.Add("outrider_gossip_foreign_total", float64(h.Foreign))
}

func collectCounts(s *metrics.Set, c api.HealthCounts) {
	s.Add("outrider_mesh_submitted_total", float64(c.Submitted))
	s.Add("outrider_mesh_bundles_forwarded_total", float64(c.Sent))
	s.Add("outrider_mesh_bundles_received_total", float64(c.Received))
	s.Add("outrider_mesh_delivered_total", float64(c.Delivered))
	s.Add("outrider_mesh_duplicates_total", float64(c.Duplicates))
	s.Add("outrider_mesh_demoted_total", float64(c.Demoted))
	s.Add("outrider_mesh_stalls_total", float64(c.Stalls))
	for _, r := range mesh.Reasons {
		s.Add("outrider_mesh_dropped_total", float64(c.Dropped[string(r)]), string(r))
	}
	b := metrics.Buckets{Counts: slices.Clone(c.Delay), Sum: float64(c.DelaySum)}
	for _, v := range c.DelayBound {
		b.Bounds = append(b.Bounds, float64(v))
	}
	s.AddHistogram("outrider_mesh_delivery_delay_seconds", b)
}

func collectStore(s *metrics.Set, st api.HealthStore) {
	for _, share := range st.Shares() {
		s.Add("outrider_store_bytes", float64(share.Bytes), share.Kind)
		s.Add("outrider_store_limit_bytes", float64(share.Limit), share.Kind)
	}
	s.Add("outrider_store_bytes", float64(st.IndexBytes), "index")
	s.Add("outrider_store_free_bytes", float64(st.FreeBytes))
	s.Add("outrider_store_free_floor_bytes", float64(st.FloorBytes))
	s.Add("outrider_store_fsyncs_total", float64(st.Syncs))
}
