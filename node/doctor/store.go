package doctor

import "context"

// checkStore names the shares of the running node's store that are full.
func checkStore(_ context.Context, e Env) (out []Finding) {
	for _, s := range e.Running.Shares {
		what, key := "Messages", "store.limit_mb"
		switch s.Kind {
		case "relayed":
			what = "Messages that came from other nodes"
		case "files":
			what, key = "Files", "store.files_limit_mb"
		}
		out = append(out, found("store-full", "what", what, "used", size(s.Used), "limit", size(s.Limit), "key", key))
	}
	return out
}
