package linkemu

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// scenarioMax bounds a scenario file and a CSV schedule, in bytes.
const scenarioMax = 64 << 20

// A Scenario is a whole experiment: nodes, the nets that join them, the links'
// starting states, a schedule of changes, and programs to start.
type Scenario struct {
	Prefix   string   `json:"prefix"`   // of namespace names; default "le-"
	Seed     uint64   `json:"seed"`     // for loss and jitter
	Duration float64  `json:"duration"` // seconds; 0 = until the driver ends or a signal
	Nodes    []string `json:"nodes"`
	Forward  []string `json:"forward"` // nodes with IPv4 forwarding on
	Nets     []Net    `json:"nets"`
	Links    []Change `json:"links"`  // starting state, applied at t=0
	Events   []Change `json:"events"` // later changes
	Run      []RunCmd `json:"run"`    // programs to start inside nodes
}

// A Net is one medium. Every node on it has one interface named like it.
type Net struct {
	Name     string   `json:"name"` // also the interface's; at most 11 characters
	Subnet   string   `json:"subnet"`
	Nodes    []string `json:"nodes"`  // default: all
	Duplex   string   `json:"duplex"` // "half": one shared channel; "full": each direction of each pair has its own
	Up       *bool    `json:"up"`     // starting state of its links; default true
	Rate     float64  `json:"rate"`   // bit/s, 0 = unlimited
	DelayMS  float64  `json:"delay_ms"`
	JitterMS float64  `json:"jitter_ms"`
	Loss     float64  `json:"loss"`           // 0..1 per frame and receiver
	KeyMS    float64  `json:"key_ms"`         // airtime added to every frame (keying, preamble, turnaround)
	FrameOH  int      `json:"overhead_bytes"` // added to each frame for airtime; -14 = no Ethernet header
	QueueMS  float64  `json:"queue_ms"`       // a sender's queue in airtime; default 2000
	MTU      int      `json:"mtu"`            // default 1500
}

// A Change alters links. Absent a and b: every link of the net. Only a, or
// only b: every link of that node. Absent net: every net.
type Change struct {
	At       float64  `json:"at"`
	Net      string   `json:"net"`
	A        string   `json:"a"`
	B        string   `json:"b"`
	OneWay   bool     `json:"one_way"` // only a to b
	Up       *bool    `json:"up"`
	Rate     *float64 `json:"rate"` // of a half-duplex net: the whole channel
	DelayMS  *float64 `json:"delay_ms"`
	JitterMS *float64 `json:"jitter_ms"`
	Loss     *float64 `json:"loss"`
}

// A RunCmd starts a program inside a node.
type RunCmd struct {
	At   float64  `json:"at"`
	Node string   `json:"node"`
	Cmd  []string `json:"cmd"`
	Out  string   `json:"out"` // file for its output; default: the emulator's stderr
}

// Load reads and checks a scenario file.
func Load(path string) (*Scenario, error) {
	b, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	s, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("linkemu: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, scenarioMax+1))
	if err == nil && len(b) > scenarioMax {
		err = fmt.Errorf("%s: larger than %d MiB", path, scenarioMax>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("linkemu: %w", err)
	}
	return b, nil
}

// Parse reads and checks a scenario.
func Parse(b []byte) (*Scenario, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	s := &Scenario{}
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("linkemu: scenario: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("linkemu: scenario: something follows it")
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

func nameOK(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == '-' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("linkemu: scenario: "+format, args...)
}

// Check fills in defaults, sorts the events by time, and refuses what makes no
// sense.
func (s *Scenario) Check() error {
	if s.Prefix == "" {
		s.Prefix = "le-"
	}
	if !nameOK(s.Prefix, 20) {
		return wrong("prefix %q: letters, digits, - and _ only", s.Prefix)
	}
	if len(s.Nodes) == 0 {
		return wrong("no nodes")
	}
	for i, n := range s.Nodes {
		if !nameOK(n, 30) || slices.Contains(s.Nodes[:i], n) {
			return wrong("node %q: bad or doubled name", n)
		}
	}
	for i := range s.Nets {
		if err := s.checkNet(i); err != nil {
			return err
		}
	}
	for _, c := range slices.Concat(s.Links, s.Events) {
		if err := s.CheckChange(c); err != nil {
			return err
		}
	}
	for _, f := range s.Forward {
		if !slices.Contains(s.Nodes, f) {
			return wrong("forward: node %q unknown", f)
		}
	}
	for _, r := range s.Run {
		if !slices.Contains(s.Nodes, r.Node) || len(r.Cmd) == 0 {
			return wrong("run: node %q unknown or no command", r.Node)
		}
	}
	slices.SortStableFunc(s.Events, func(x, y Change) int {
		switch {
		case x.At < y.At:
			return -1
		case x.At > y.At:
			return 1
		}
		return 0
	})
	return nil
}

func (s *Scenario) checkNet(i int) error {
	n := &s.Nets[i]
	doubled := slices.ContainsFunc(s.Nets[:i], func(o Net) bool { return o.Name == n.Name })
	if !nameOK(n.Name, 11) || n.Name == "lo" || doubled {
		return wrong("net %q: bad or doubled name (at most 11 characters)", n.Name)
	}
	p, err := netip.ParsePrefix(n.Subnet)
	if err != nil || !p.Addr().Is4() {
		return wrong("net %s: subnet %q is no IPv4 prefix", n.Name, n.Subnet)
	}
	if len(n.Nodes) == 0 {
		n.Nodes = s.Nodes
	}
	for j, x := range n.Nodes {
		if !slices.Contains(s.Nodes, x) || slices.Contains(n.Nodes[:j], x) {
			return wrong("net %s: node %q unknown or doubled", n.Name, x)
		}
	}
	if room := 1<<(32-p.Bits()) - 2; len(n.Nodes) > room {
		return wrong("net %s: %d nodes do not fit %s", n.Name, len(n.Nodes), n.Subnet)
	}
	if n.Duplex == "" {
		n.Duplex = "full"
	}
	if n.Duplex != "full" && n.Duplex != "half" {
		return wrong("net %s: duplex %q", n.Name, n.Duplex)
	}
	for _, v := range []float64{n.Loss, n.Rate, n.DelayMS, n.JitterMS, n.KeyMS, n.QueueMS} {
		if math.IsNaN(v) || v < 0 || v > 1e12 {
			return wrong("net %s: a number is out of range", n.Name)
		}
	}
	if n.Loss > 1 {
		return wrong("net %s: loss %v is not within 0..1", n.Name, n.Loss)
	}
	if n.QueueMS == 0 {
		n.QueueMS = 2000
	}
	if n.MTU == 0 {
		n.MTU = 1500
	}
	if n.MTU < 68 || n.MTU > 9000 {
		return wrong("net %s: mtu %d", n.Name, n.MTU)
	}
	return nil
}

// CheckChange refuses a change that names nothing or changes nothing.
func (s *Scenario) CheckChange(c Change) error {
	if c.Net != "" && !slices.ContainsFunc(s.Nets, func(n Net) bool { return n.Name == c.Net }) {
		return wrong("change names unknown net %q", c.Net)
	}
	for _, x := range []string{c.A, c.B} {
		if x != "" && !slices.Contains(s.Nodes, x) {
			return wrong("change names unknown node %q", x)
		}
	}
	switch {
	case c.OneWay && (c.A == "" || c.B == ""):
		return wrong("one_way needs both a and b")
	case c.Up == nil && c.Rate == nil && c.DelayMS == nil && c.JitterMS == nil && c.Loss == nil:
		return wrong("a change that changes nothing")
	case c.Loss != nil && !(*c.Loss >= 0 && *c.Loss <= 1):
		return wrong("loss %v is not within 0..1", *c.Loss)
	case !(c.At >= 0 && c.At <= 1e9):
		return wrong("a change at %v s", c.At)
	}
	for _, f := range []*float64{c.Rate, c.DelayMS, c.JitterMS} {
		if f != nil && !(*f >= 0 && *f <= 1e12) {
			return wrong("a number in a change is out of range")
		}
	}
	return nil
}

// LoadCSV reads a schedule: a header of any of at, net, a, b, one_way, up,
// rate, delay_ms, jitter_ms, loss in any order; an empty cell leaves that
// property alone; # starts a comment.
func LoadCSV(path string) ([]Change, error) {
	b, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	out, err := parseCSV(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func parseCSV(b []byte) ([]Change, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.Comment = '#'
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("linkemu: schedule: %w", err)
	}
	var out []Change
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("linkemu: schedule: %w", err)
		}
		line, _ := r.FieldPos(0)
		var c Change
		for i, column := range head {
			if v := strings.TrimSpace(row[i]); v != "" {
				if err := c.set(column, v); err != nil {
					return nil, fmt.Errorf("linkemu: schedule: line %d, column %s: %w", line, column, err)
				}
			}
		}
		out = append(out, c)
	}
}

// set reads one cell of a schedule.
func (c *Change) set(column, v string) (err error) {
	number := func(dst **float64) {
		var x float64
		x, err = strconv.ParseFloat(v, 64)
		*dst = &x
	}
	switch column {
	case "at":
		c.At, err = strconv.ParseFloat(v, 64)
	case "net":
		c.Net = v
	case "a":
		c.A = v
	case "b":
		c.B = v
	case "one_way":
		c.OneWay, err = strconv.ParseBool(v)
	case "up":
		var x bool
		x, err = strconv.ParseBool(v)
		c.Up = &x
	case "rate":
		number(&c.Rate)
	case "delay_ms":
		number(&c.DelayMS)
	case "jitter_ms":
		number(&c.JitterMS)
	case "loss":
		number(&c.Loss)
	default:
		err = errors.New("unknown")
	}
	return err
}
