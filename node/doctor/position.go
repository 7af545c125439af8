package doctor

import (
	"context"
	"time"

	"outrider/node/position"
)

// receiverSilent is how long a receiver may tell no position before that is a
// finding. A cold start under open sky is over by then.
const receiverSilent = 15 * time.Minute

// checkPosition looks at the receiver, if the settings name one, with the eyes
// of the node that reads it.
func checkPosition(_ context.Context, e Env) []Finding {
	gpsd, device := e.Config.PositionSource()
	p := e.Running.Position
	silent := e.Running.Uptime
	if p.Fixed >= 0 {
		silent = p.Fixed
	}
	switch {
	case gpsd == "" && device == "":
	case p.State == position.Unreachable:
		return []Finding{found("position-unreachable", "source", e.Config.Position.Source)}
	case p.State == position.Searching && silent >= receiverSilent:
		return []Finding{found("position-silent", "source", e.Config.Position.Source, "time", silent.Round(time.Minute).String())}
	}
	return nil
}
