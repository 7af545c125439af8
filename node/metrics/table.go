package metrics

// Table is every metric of a node. Names stay what they are once released;
// new ones are added.
var Table = []Metric{
	{"outrider_build_info", Gauge, []string{"version"}, "Always 1; the version that runs."},
	{"outrider_start_time_seconds", Gauge, nil, "When the node was started, Unix time in seconds."},
	{"outrider_enrolled", Gauge, nil, "1 once the node has met its network, 0 while it looks for a first neighbour."},

	{"outrider_mesh_contacts", Gauge, []string{"class"}, "Neighbours in contact now, by class of link."},
	{"outrider_mesh_neighbours_known", Gauge, nil, "Nodes ever heard of."},
	{"outrider_mesh_last_heard_seconds", Gauge, nil, "Time since any neighbour was heard, in seconds; +Inf if none ever was."},
	{"outrider_mesh_queue_bytes", Gauge, []string{"precedence"}, "Payload of bundles held, in bytes, by precedence."},
	{"outrider_mesh_queue_bundles", Gauge, []string{"precedence"}, "Bundles held, by precedence."},
	{"outrider_mesh_queue_oldest_seconds", Gauge, []string{"precedence"}, "Age of the oldest bundle held, in seconds, by precedence."},
	{"outrider_mesh_waiting_bundles", Gauge, []string{"class"}, "Bundles that wait to be sent on open links, by class of link."},
	{"outrider_mesh_payload_sent_bytes_total", Counter, []string{"class"}, "Payload that neighbours took custody of, in bytes, by class of link: goodput out."},
	{"outrider_mesh_payload_received_bytes_total", Counter, []string{"class"}, "Payload of new bundles taken from neighbours, in bytes, by class of link: goodput in."},
	{"outrider_mesh_link_sent_bytes_total", Counter, []string{"class"}, "Bytes written to links, by class of link."},
	{"outrider_mesh_link_received_bytes_total", Counter, []string{"class"}, "Bytes read from links, by class of link."},
	{"outrider_mesh_submitted_total", Counter, nil, "Bundles made on this node."},
	{"outrider_mesh_bundles_forwarded_total", Counter, nil, "Bundles and purge records sent to neighbours."},
	{"outrider_mesh_bundles_received_total", Counter, nil, "Bundles that came from neighbours, also those not taken."},
	{"outrider_mesh_delivered_total", Counter, nil, "Bundles handed to a reader on this node."},
	{"outrider_mesh_duplicates_total", Counter, nil, "Bundles that came although they were known."},
	{"outrider_mesh_dropped_total", Counter, []string{"reason"}, "Bundles and frames dropped or refused, by reason (mesh/counters.go)."},
	{"outrider_mesh_demoted_total", Counter, nil, "Bundles beyond their neighbour's rate that were served as ROUTINE."},
	{"outrider_mesh_stalls_total", Counter, nil, "Links closed because nothing moved."},
	{"outrider_mesh_delivery_delay_seconds", Histogram, nil, "Age of bundles for readers on this node when they were stored here, in seconds."},
	{"outrider_mesh_strangers_refused_total", Counter, []string{"reason"}, "Inbound connections that did not become links: crowded (no place at the door) or refused (not admitted)."},
	{"outrider_gossip_foreign_total", Counter, nil, "Gossip that no key of this network opens: another network, an old key, or noise."},

	{"outrider_store_bytes", Gauge, []string{"kind"}, "Space used, in bytes: bundles, relayed (those of them that came from neighbours), files, index."},
	{"outrider_store_limit_bytes", Gauge, []string{"kind"}, "Where what finds no room is refused, in bytes: bundles (half of store.limit_mb), relayed (the share of that which neighbours may fill), files (store.files_limit_mb)."},
	{"outrider_store_free_bytes", Gauge, nil, "Free space on the store's disk, in bytes."},
	{"outrider_store_free_floor_bytes", Gauge, nil, "Space on the disk that is never used (store.free_floor_mb), in bytes."},
	{"outrider_store_fsyncs_total", Counter, nil, "Times the store made the disk sync."},

	{"outrider_clock_offset_seconds", Gauge, nil, "What the kernel still has to correct of its clock, in seconds."},
	{"outrider_clock_source", Gauge, []string{"source"}, "1 for the source the clock is believed by: kernel (NTP or GPS discipline it), network (an admin's signed time agrees), none."},
	{"outrider_clock_below_floor", Gauge, nil, "1 if the clock stands before a time that has certainly passed."},

	{"outrider_users", Gauge, []string{"state"}, "Users whose keys lie on this node: locked, unlocked."},
	{"outrider_waiting_for_users_bundles", Gauge, nil, "Bundles that wait for locked users to log in."},

	{"outrider_core_contacts", Gauge, nil, "1 while the core is in reach; 0 too when none is configured."},
	{"outrider_core_last_reached_timestamp_seconds", Gauge, nil, "When the core was in reach last, in seconds since 1970; 0 if it never was."},
	{"outrider_core_messages_total", Counter, []string{"outcome"}, "Messages to and from the core: stored there, found present, sent again, pulled from it."},
	{"outrider_calls_running", Gauge, nil, "Calls of this node's users: those that ring, and those that are answered."},
	{"outrider_calls_participants", Gauge, nil, "Participants whose media is connected to this node."},
	{"outrider_calls_packets_forwarded_total", Counter, nil, "Sealed packets of calls that were handed on."},
	{"outrider_calls_packets_dropped_total", Counter, nil, "Packets of calls that could not be handed on."},

	{"outrider_memory_heap_bytes", Gauge, nil, "Memory of live and unswept objects, in bytes."},
	{"outrider_memory_resident_bytes", Gauge, nil, "Resident memory of the process, in bytes."},
	{"outrider_memory_limit_bytes", Gauge, nil, "Memory the runtime tries to stay below, in bytes; +Inf without a limit."},
	{"outrider_goroutines", Gauge, nil, "Goroutines of the process."},
}
