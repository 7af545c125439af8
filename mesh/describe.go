package mesh

import "outrider/mesh/bundle"

// A Description is what tools that watch links need of a frame.
type Description struct {
	Type    string // as in PROTOCOL.md
	Counted bool
	Num     uint64    // of a transfer
	ID      bundle.ID // of BUNDLE, BEGIN and PURGE
	Kind    bundle.Kind
	Durable []uint64 // of an ACK: transfers whose custody it accepts
}

// Describe sums up a frame.
func Describe(f Frame) Description {
	d := Description{Type: FrameName(f.kind()), Counted: f.kind() >= countedFrames}
	switch f := f.(type) {
	case bundleFrame:
		d.Num, d.ID, d.Kind = f.Num, f.ID, f.Header.Kind
	case beginFrame:
		d.Num, d.ID, d.Kind = f.Num, f.ID, f.Header.Kind
	case purgeFrame:
		d.Num, d.ID, d.Kind = f.Num, f.ID, f.Record.Header.Kind
	case ackFrame:
		for _, r := range f.Runs {
			for n := r.First; r.Code == CodeDurable && n < r.First+r.Count && len(d.Durable) < maxUnacked; n++ {
				d.Durable = append(d.Durable, n)
			}
		}
	}
	return d
}
