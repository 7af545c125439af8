package reconcile

import "errors"

// ErrCap is returned when the difference was not decoded within the agreed
// number of symbols: the sets differ too much, or the peer lies.
var ErrCap = errors.New("reconcile: difference exceeds the symbol cap")

// ErrInconsistent is returned for symbols that no set produces.
var ErrInconsistent = errors.New("reconcile: symbols are inconsistent")

// A Decoder recovers the symmetric difference from two streams of symbols.
// Its memory is bounded by the cap: 24 bytes for each symbol and 32 for each
// recovered item, of which there are never more than symbols.
type Decoder struct {
	max   int
	cells []Symbol
	found []item
	stack []int
	done  bool
}

type item struct {
	walk  walk
	short uint64
	sign  int64
}

// NewDecoder returns a decoder that gives up after max symbols.
func NewDecoder(max int) *Decoder { return &Decoder{max: min(max, MaxSymbols)} }

// Len returns how many symbols were taken: the index of the next.
func (d *Decoder) Len() int { return len(d.cells) }

// Done reports whether the whole difference is known.
func (d *Decoder) Done() bool { return d.done }

// Add takes the next symbols of both streams, which must be equally many,
// and peels what can be peeled.
func (d *Decoder) Add(remote, local []Symbol) error {
	if len(remote) != len(local) {
		return ErrInconsistent
	}
	if d.done {
		return nil
	}
	if len(d.cells)+len(remote) > d.max {
		return ErrCap
	}
	from := len(d.cells)
	for i, r := range remote {
		l := local[i]
		d.cells = append(d.cells, Symbol{Sum: r.Sum ^ l.Sum, Check: r.Check ^ l.Check, Count: r.Count - l.Count})
	}
	for i := range d.found {
		d.strike(&d.found[i])
	}
	for i := from; i < len(d.cells); i++ {
		if d.cells[i].pure() {
			d.stack = append(d.stack, i)
		}
	}
	if err := d.peel(); err != nil {
		return err
	}
	return d.check()
}

// strike takes an item out of all symbols it has not been taken out of yet.
func (d *Decoder) strike(it *item) {
	for ; it.walk.index < uint64(len(d.cells)); it.walk.next() {
		c := &d.cells[it.walk.index]
		c.add(it.short, -it.sign)
		if c.pure() {
			d.stack = append(d.stack, int(it.walk.index))
		}
	}
}

func (d *Decoder) peel() error {
	for len(d.stack) > 0 {
		i := d.stack[len(d.stack)-1]
		d.stack = d.stack[:len(d.stack)-1]
		c := d.cells[i]
		if !c.pure() {
			continue
		}
		if len(d.found) >= len(d.cells) {
			return ErrInconsistent
		}
		d.found = append(d.found, item{walk: startWalk(c.Sum), short: c.Sum, sign: c.Count})
		d.strike(&d.found[len(d.found)-1])
	}
	return nil
}

// check finds out whether the difference is complete: symbol 0 holds every
// item, so it empties last, and then every other must be empty too.
func (d *Decoder) check() error {
	if len(d.cells) == 0 || !d.cells[0].empty() {
		return nil
	}
	for i := range d.cells {
		if !d.cells[i].empty() {
			return ErrInconsistent
		}
	}
	d.done = true
	return nil
}

// Remote returns the short ids only the remote set holds.
func (d *Decoder) Remote() []uint64 { return d.side(1) }

// Local returns the short ids only the local set holds.
func (d *Decoder) Local() []uint64 { return d.side(-1) }

func (d *Decoder) side(sign int64) (out []uint64) {
	for i := range d.found {
		if d.found[i].sign == sign {
			out = append(out, d.found[i].short)
		}
	}
	return out
}
