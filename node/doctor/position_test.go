package doctor

import (
	"slices"
	"testing"
	"time"

	"outrider/node/position"
)

// L01, A20: a receiver that is not there, or there and silent for too long.
func TestL01Position(t *testing.T) {
	for name, c := range map[string]struct {
		source string
		uptime time.Duration
		told   Position
		want   []string
	}{
		"none":                  {"", time.Hour, Position{position.Off, -1}, nil},
		"a fix":                 {"gpsd://127.0.0.1", time.Hour, Position{position.Fixed, time.Second}, nil},
		"not asked":             {"gpsd://127.0.0.1", time.Hour, Position{}, nil},
		"not there":             {"/dev/ttyACM0", time.Second, Position{position.Unreachable, -1}, []string{"position-unreachable"}},
		"starting":              {"/dev/ttyACM0", receiverSilent - 1, Position{position.Searching, -1}, nil},
		"never a fix":           {"/dev/ttyACM0", receiverSilent, Position{position.Searching, -1}, []string{"position-silent"}},
		"under a roof":          {"gpsd://127.0.0.1", 9 * time.Hour, Position{position.Searching, receiverSilent - 1}, nil},
		"under a roof for long": {"gpsd://127.0.0.1", 9 * time.Hour, Position{position.Searching, receiverSilent}, []string{"position-silent"}},
	} {
		e := quiet(t)
		e.Config.Position.Source, e.Running.Answers, e.Running.Uptime, e.Running.Position = c.source, true, c.uptime, c.told
		if got := ids(checkPosition(t.Context(), e)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
