package main

import (
	"context"
	"math"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *app) locationCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "location",
		GroupID: groupUser,
		Short:   "Share a position",
		Long:    "Location sends a position to another user.",
		Example: "  outrider location share bravo 48.13743 11.57549",
	}
	c.AddCommand(a.locationShareCmd())
	return c
}

func (a *app) locationShareCmd() *cobra.Command {
	var f sendFlags
	var accuracy float64
	var note string
	c := &cobra.Command{
		Use:   "share TO LAT LON",
		Short: "Send a position to a user",
		Long: `Share sends a position in decimal degrees (WGS 84), north and east positive.
Put -- before a negative latitude, so that it is not taken for a flag.`,
		Example:     "  outrider location share bravo 48.13743 11.57549 --accuracy 5 --note \"rally point\"\n  outrider location share bravo -- -33.85678 151.21530",
		Args:        cobra.ExactArgs(3),
		Annotations: exits(exitNotRunning, exitLogin, exitMissing, exitConflict, exitBusy),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.shareLocation(cmd.Context(), args, accuracy, note, f)
		},
	}
	f.add(c)
	c.Flags().Float64Var(&accuracy, "accuracy", 0, "radius of uncertainty in metres")
	c.Flags().StringVar(&note, "note", "", "a few words to go with it")
	return c
}

func (a *app) shareLocation(ctx context.Context, args []string, accuracy float64, note string, f sendFlags) error {
	precedence, ttl, err := f.parse()
	if err != nil {
		return err
	}
	lat, err := degrees("latitude", args[1], 90)
	if err != nil {
		return err
	}
	lon, err := degrees("longitude", args[2], 180)
	if err != nil {
		return err
	}
	if math.IsNaN(accuracy) || accuracy < 0 || accuracy > 1e6 {
		return usageError("--accuracy is in metres, 0 to 1000000")
	}
	in := map[string]any{"to": args[0], "lat": lat, "lon": lon}
	if accuracy > 0 {
		in["accuracy_m"] = math.Ceil(accuracy)
	}
	if note != "" {
		in["note"] = note
	}
	addOptional(in, precedence, ttl)
	return a.post(ctx, "/v1/locations", f.once, in)
}

func degrees(what, s string, most float64) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v < -most || v > most {
		return 0, usageError("%s %q: want decimal degrees from -%g to %g", what, shorten(s), most, most)
	}
	return v, nil
}
