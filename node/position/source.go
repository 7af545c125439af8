// Package position knows where the node is and how places relate: the newest
// fix of a receiver, MGRS references, distance and bearing.
//
// A Source reads a receiver, through gpsd or straight from its serial device
// (NMEA 0183), for as long as it runs, and connects again whenever it must.
// It promises that a fix is never older than it says: ages are counted from
// when the fix was read, by a clock that nobody sets. Lines are bounded, and
// what is not understood is passed over. Positions are in no log and no error.
package position

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// FreshFor is how long a fix is where the node is. Receivers report each
// second; after this the node may be elsewhere.
const FreshFor = 30 * time.Second

const (
	maxReport   = 16 << 10         // bytes of a line of gpsd; its own limit is 10,240
	silence     = 60 * time.Second // after which a receiver is connected anew
	dialTimeout = 10 * time.Second
	pauseMin    = time.Second // between two tries, doubled up to
	pauseMax    = 30 * time.Second
)

// A Fix is a place at a time. NaN is unknown.
type Fix struct {
	Lat, Lon  float64   // degrees, WGS 84
	At        time.Time // when it was read, with the monotonic clock
	AccuracyM float64   // radius of uncertainty, 95 %
	AltitudeM float64   // above the ellipsoid
	CourseDeg float64   // from true north
	SpeedMS   float64
}

func blank() Fix {
	nan := math.NaN()
	return Fix{AccuracyM: nan, AltitudeM: nan, CourseDeg: nan, SpeedMS: nan}
}

// A State says what a Source is doing.
type State string

// The states.
const (
	Off         State = "off"         // no receiver is set
	Unreachable State = "unreachable" // there is no connection to it
	Searching   State = "searching"   // it has no fix yet, or lost it
	Fixed       State = "fix"         // the latest fix is fresh
)

// Options is where a receiver is: one of the two, or neither.
type Options struct {
	GPSD   string // address:port
	Device string // path of a serial device
	Log    *slog.Logger
}

// A Source reads one receiver.
type Source struct {
	o Options

	mu        sync.Mutex
	connected bool
	fix       *Fix
}

// New makes a source. Nothing is opened before Run.
func New(o Options) *Source {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{o: o}
}

// Latest returns the newest fix and its age; ok is false when there was none.
func (s *Source) Latest() (f Fix, age time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fix == nil {
		return f, 0, false
	}
	return *s.fix, time.Since(s.fix.At), true
}

// State says how the receiver is.
func (s *Source) State() State {
	_, age, ok := s.Latest()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.o.GPSD == "" && s.o.Device == "":
		return Off
	case ok && age <= FreshFor:
		return Fixed
	case !s.connected:
		return Unreachable
	}
	return Searching
}

// Run reads the receiver until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	if s.o.GPSD == "" && s.o.Device == "" {
		return nil
	}
	told := false
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		began := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > silence {
			pause, told = pauseMin, false
		}
		if !told {
			s.o.Log.Warn("position: the receiver is not read; it is tried again", "err", err)
			told = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// A port is a receiver that was opened.
type port interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// once connects and reads until something fails.
func (s *Source) once(ctx context.Context) error {
	p, err := s.open(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { p.Close() })
	defer func() {
		if stop() {
			p.Close()
		}
		s.connect(false)
	}()
	s.connect(true)
	if s.o.GPSD == "" {
		return s.read(p, maxSentence*8, new(nmea).line)
	}
	if _, err := io.WriteString(p, watch); err != nil {
		return fmt.Errorf("position: ask gpsd: %w", err)
	}
	return s.read(p, maxReport, parseGPSD)
}

func (s *Source) connect(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected = up
}

func (s *Source) open(ctx context.Context) (port, error) {
	if s.o.GPSD != "" {
		d := net.Dialer{Timeout: dialTimeout}
		c, err := d.DialContext(ctx, "tcp", s.o.GPSD)
		if err != nil {
			return nil, fmt.Errorf("position: connect to gpsd: %w", err)
		}
		return c.(*net.TCPConn), nil
	}
	return openSerial(s.o.Device)
}

// openSerial opens a device for reading. Its speed stays as it is: receivers
// on USB have none, others are set with stty.
func openSerial(path string) (port, error) {
	// Without O_NONBLOCK opening would wait for a modem's carrier.
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("position: open the receiver: %w", err)
	}
	raw, err := f.SyscallConn()
	if err == nil {
		var made error
		err = raw.Control(func(fd uintptr) { _, made = term.MakeRaw(int(fd)) }) // no echo back into the receiver
		err = errors.Join(err, made)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("position: the receiver is no serial device: %w", err)
	}
	return f, nil
}

// read takes lines until the port fails or is silent for too long.
func (s *Source) read(p port, longest int, parse func([]byte, time.Time) (Fix, bool, error)) error {
	in := bufio.NewScanner(p)
	in.Buffer(make([]byte, 0, 1024), longest)
	for {
		if err := p.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return fmt.Errorf("position: read the receiver: %w", err)
		}
		if !in.Scan() {
			return fmt.Errorf("position: read the receiver: %w", ended(in.Err()))
		}
		if f, ok, err := parse(in.Bytes(), time.Now()); err == nil && ok {
			s.mu.Lock()
			s.fix = &f
			s.mu.Unlock()
		}
	}
}

// ended names the end of a stream, which a scanner does not.
func ended(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
