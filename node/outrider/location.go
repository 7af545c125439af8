package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"outrider/node/position"
)

func (a *app) locationCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "location",
		GroupID: groupUser,
		Short:   "Share a position",
		Long: `Location sends a position to another user, once or for a set time, and shows
where this node is. Where it is the node knows from a receiver: see
position.source in outrider config show.`,
		Example: "  outrider location share bravo 48.13743 11.57549\n  outrider location share bravo --live 30m\n  outrider location here",
	}
	c.AddCommand(a.locationHereCmd(), a.locationShareCmd(), a.locationLiveCmd(), a.locationStopCmd())
	return c
}

// shareFlags are those of location share.
type shareFlags struct {
	send        sendFlags
	accuracy    float64
	note        string
	here        bool
	live, every string
}

func (a *app) locationShareCmd() *cobra.Command {
	var f shareFlags
	c := &cobra.Command{
		Use:   "share TO [LAT LON | MGRS]",
		Short: "Send a position to a user",
		Long: `Share sends a position in decimal degrees (WGS 84), north and east positive, or
as an MGRS reference. Put -- before a negative latitude, so that it is not taken
for a flag.

With --here the position is this node's own. With --live it is sent again and
again for that time, each one in place of the one before; it goes on after a
restart of the node as soon as you have logged in, and ends by itself or with
outrider location stop. A position given by hand with --live goes once and
holds until the end.`,
		Example: "  outrider location share bravo 48.13743 11.57549 --accuracy 5 --note \"rally point\"\n  outrider location share bravo 32U PU 91611 34783\n  outrider location share bravo -- -33.85678 151.21530\n" +
			"  outrider location share bravo --here\n  outrider location share bravo --live 30m --every 1m\n  outrider location share bravo 48.13743 11.57549 --live 8h",
		Args:        cobra.RangeArgs(1, 5),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.shareLocation(cmd.Context(), args, f)
		},
	}
	f.send.add(c)
	c.Flags().Float64Var(&f.accuracy, "accuracy", 0, "radius of uncertainty in metres")
	c.Flags().StringVar(&f.note, "note", "", "a few words to go with it")
	c.Flags().BoolVar(&f.here, "here", false, "send where this node is")
	c.Flags().StringVar(&f.live, "live", "", "share for this time, 10s to 24h: where this node is, or the position given")
	c.Flags().StringVar(&f.every, "every", "", "with --live: how often, 10s to 1h (default 1m)")
	return c
}

func (a *app) shareLocation(ctx context.Context, args []string, f shareFlags) error {
	own := f.here || f.live != "" && len(args) == 1
	switch {
	case own && len(args) != 1:
		return usageError("--here sends where this node is: name only whom to send it to")
	case f.here && f.live != "":
		return usageError("--live without a position sends where this node is: leave out --here")
	case !own && len(args) == 1:
		return usageError("name whom to send it to, and latitude and longitude or an MGRS reference; or use --here")
	case own && f.accuracy != 0:
		return usageError("--accuracy goes with a position given by hand")
	case f.every != "" && f.live == "":
		return usageError("--every goes with --live")
	case f.live != "":
		return a.shareLive(ctx, args, f)
	}
	precedence, ttl, err := f.send.parse()
	if err != nil {
		return err
	}
	in := map[string]any{"to": args[0], "here": true}
	if !own {
		if in, err = typed(args, f.accuracy); err != nil {
			return err
		}
	}
	if f.note != "" {
		in["note"] = f.note
	}
	addOptional(in, precedence, ttl)
	return a.post(ctx, "/v1/locations", f.send, in)
}

// typed reads a position given by hand: degrees, or an MGRS reference, which
// names a square and so has an accuracy of its own.
func typed(args []string, accuracy float64) (map[string]any, error) {
	lat, lon, within, err := place(args[1:])
	if err != nil {
		return nil, err
	}
	if math.IsNaN(accuracy) || accuracy < 0 || accuracy > 1e6 {
		return nil, usageError("--accuracy is in metres, 0 to 1000000")
	}
	in := map[string]any{"to": args[0], "lat": lat, "lon": lon}
	if accuracy = max(accuracy, within); accuracy > 0 {
		in["accuracy_m"] = math.Ceil(accuracy)
	}
	return in, nil
}

// place reads latitude and longitude or an MGRS reference; within is the radius,
// metres, inside which the place is, or 0.
func place(args []string) (lat, lon, within float64, err error) {
	if _, err := strconv.ParseFloat(args[0], 64); err != nil || len(args) != 2 {
		reference := strings.Join(args, " ")
		lat, lon, size, err := position.ParseMGRS(reference)
		if errors.Is(err, position.ErrPolar) {
			return 0, 0, 0, usageError("%q lies near a pole, where this command reads degrees only", shorten(reference))
		}
		if err != nil {
			return 0, 0, 0, usageError("%q: want latitude and longitude, or an MGRS reference like 32U PU 91611 34783", shorten(reference))
		}
		return lat, lon, size * math.Sqrt2 / 2, nil
	}
	if lat, err = degrees("latitude", args[0], 90); err != nil {
		return 0, 0, 0, err
	}
	lon, err = degrees("longitude", args[1], 180)
	return lat, lon, 0, err
}

func degrees(what, s string, most float64) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v < -most || v > most {
		return 0, usageError("%s %q: want decimal degrees from -%g to %g", what, shorten(s), most, most)
	}
	return v, nil
}

// A liveShare is one of the API's.
type liveShare struct {
	To     person    `json:"to"`
	Until  time.Time `json:"until"`
	EveryS int64     `json:"every_s"`
	Source string    `json:"source"`
}

// what a share sends, in words.
func (l liveShare) what() string {
	every := time.Duration(l.EveryS) * time.Second
	switch l.Source {
	case "entered":
		return "the typed position"
	case "device":
		return fmt.Sprintf("your device's position every %v", every)
	}
	return fmt.Sprintf("this node's position every %v", every)
}

const livePath = "/v1/locations/live"

func (a *app) shareLive(ctx context.Context, args []string, f shareFlags) error {
	if f.send.precedence != "" || f.send.ttl != "" || f.send.once != "" || f.note != "" {
		return usageError("--live takes no --precedence, --ttl, --once or --note")
	}
	span, err := parseDuration(f.live)
	if err != nil || span < 10*time.Second || span > 24*time.Hour {
		return usageError("--live %q: want a time from 10s to 24h", shorten(f.live))
	}
	in := map[string]any{"to": args[0]}
	if len(args) > 1 {
		if in, err = typed(args, f.accuracy); err != nil {
			return err
		}
		in["source"] = "entered"
	}
	in["for_s"] = int64(span / time.Second)
	if f.every != "" {
		every, err := parseDuration(f.every)
		if err != nil || every < 10*time.Second || every > time.Hour {
			return usageError("--every %q: want a time from 10s to 1h", shorten(f.every))
		}
		in["every_s"] = int64(every / time.Second)
	}
	var l liveShare
	return a.do(ctx, http.MethodPost, livePath, in, &l, func() {
		a.printf("%s gets %s until %s\n", clean(l.To.label()), l.what(), when(l.Until))
	})
}

func (a *app) locationLiveCmd() *cobra.Command {
	return &cobra.Command{
		Use:         "live",
		Short:       "List who gets your position now",
		Long:        "Live lists the live shares that have not ended.",
		Example:     "  outrider location live",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitLogin),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Shares []liveShare }
			return a.do(cmd.Context(), http.MethodGet, livePath, nil, &out, func() {
				rows := [][]string{}
				for _, l := range out.Shares {
					rows = append(rows, []string{l.To.label(), l.what(), when(l.Until)})
				}
				a.tableOr("nobody gets your position", []string{"TO", "WHAT", "UNTIL"}, rows)
			})
		},
	}
}

func (a *app) locationStopCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stop [TO]",
		Short: "End live shares",
		Long: `Stop ends the live share with a user, or all of them. The last position that was
sent goes once more, marked as the last, and stays with its reader.`,
		Example:     "  outrider location stop bravo\n  outrider location stop",
		Args:        cobra.MaximumNArgs(1),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := livePath
			if len(args) == 1 {
				path += "?to=" + url.QueryEscape(args[0])
			}
			var out struct{ Stopped int }
			return a.do(cmd.Context(), http.MethodDelete, path, nil, &out, func() {
				a.printf("%s ended\n", plural(out.Stopped, "live share", "live shares"))
			})
		},
	}
}

// An ownPosition is the node's.
type ownPosition struct {
	State string `json:"state"`
	Fix   *struct {
		Lat       float64   `json:"lat"`
		Lon       float64   `json:"lon"`
		MGRS      string    `json:"mgrs"`
		Time      time.Time `json:"time"`
		AgeS      int64     `json:"age_s"`
		AccuracyM *float64  `json:"accuracy_m"`
	} `json:"fix"`
}

// receiverStates in words.
var receiverStates = map[string]string{
	string(position.Off):         "no receiver is set: see position.source in outrider config show",
	string(position.Unreachable): "the receiver does not answer",
	string(position.Searching):   "the receiver has no position now",
	string(position.Fixed):       "the receiver has a position",
}

func (a *app) locationHereCmd() *cobra.Command {
	return &cobra.Command{
		Use:         "here",
		Short:       "Show where this node is",
		Long:        "Here shows the newest position of the node's receiver, its age and its accuracy.",
		Example:     "  outrider location here\n  outrider location here --json",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var own ownPosition
			return a.do(cmd.Context(), http.MethodGet, "/v1/position", nil, &own, func() { a.showHere(own) })
		},
	}
}

func (a *app) showHere(own ownPosition) {
	a.printf("%-11s %s\n", "receiver", receiverStates[own.State])
	f := own.Fix
	if f == nil {
		return
	}
	a.printf("%-11s %.6f %.6f\n", "position", f.Lat, f.Lon)
	if f.MGRS != "" {
		a.printf("%-11s %s\n", "mgrs", clean(f.MGRS))
	}
	a.printf("%-11s %s ago\n", "age", span(time.Duration(f.AgeS)*time.Second))
	if f.AccuracyM != nil {
		a.printf("%-11s within %.0f m\n", "accuracy", *f.AccuracyM)
	}
}

// whereHere asks where the node is. A node that does not say has no place, and
// that is no error to whoever asked for something else.
func (a *app) whereHere(ctx context.Context) (own ownPosition) {
	c, err := a.client()
	if err != nil {
		return own
	}
	if _, err := c.call(ctx, http.MethodGet, "/v1/position", nil, &own); err != nil {
		return ownPosition{}
	}
	return own
}

// span writes a time that has passed in one unit.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(0, d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// showPlace prints what there is to say of a received position: the grid
// reference, its age, and the way there from the node's own place.
func (a *app) showPlace(l location, own ownPosition, now time.Time) {
	if l.MGRS != "" {
		a.printf("%-11s %s\n", "mgrs", clean(l.MGRS))
	}
	if !l.Time.IsZero() {
		old := ""
		if !l.StaleAt.IsZero() && now.After(l.StaleAt) {
			old = ", out of date"
		}
		a.printf("%-11s %s ago%s\n", "age", span(now.Sub(l.Time)), old)
	}
	switch {
	case l.LiveUntil.IsZero():
	case now.Before(l.LiveUntil):
		a.printf("%-11s until %s\n", "live", when(l.LiveUntil))
	default:
		a.printf("%-11s the share has ended\n", "live")
	}
	if f := own.Fix; f != nil {
		metres, bearing := position.Between(f.Lat, f.Lon, l.Lat, l.Lon)
		a.printf("%-11s %s, bearing %03.0f° (own position %s old)\n", "from here", distance(metres), math.Mod(math.Round(bearing), 360), span(time.Duration(f.AgeS)*time.Second))
	}
}

// distance writes metres as people say them.
func distance(m float64) string {
	if m < 1000 {
		return fmt.Sprintf("%.0f m", m)
	}
	return fmt.Sprintf("%.1f km", m/1000)
}
