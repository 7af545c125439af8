// Package metrics writes a node's figures for Prometheus.
//
// Table is the one list of them: METRICS.md, the dashboard and the alert rules
// in node/dist are held to it by tests. What is not in the table cannot be
// written, and what is in it is written always, so that a rule that finds
// nothing means a node that is gone.
//
// Names begin with outrider_, units are base units. Labels tell classes of
// link, precedences and reasons; no label ever tells a node, a user, a room or
// an address. Figures of single neighbours belong to `outrider links` and
// `outrider top`, which only the operator can ask.
//
// The text is Prometheus' exposition format 0.0.4. DESIGN.md says why a
// library was not taken for it.
package metrics

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// A Kind is a metric's type, in Prometheus' words.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// A Metric is one row of the table.
type Metric struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string // one sentence, with the unit
}

// A Set is what a node has to tell at one moment. The zero value is ready.
// Methods panic on a name or a number of labels that Table does not have:
// that is a mistake in our own code.
type Set struct {
	samples map[string][]sample
}

type sample struct {
	labels []string
	value  float64
	hist   *Buckets
}

// Buckets is a histogram: how many were at most each bound, not summed up,
// and one more count for those above all bounds.
type Buckets struct {
	Bounds []float64
	Counts []uint64 // one more than Bounds
	Sum    float64
}

// Add tells a counter's or gauge's value, with the values of its labels in
// the order of the table.
func (s *Set) Add(name string, value float64, labels ...string) {
	m := find(name)
	if m.Kind == Histogram {
		panic("metrics: " + name + " is a histogram")
	}
	s.put(m, sample{labels: labels, value: value})
}

// AddHistogram tells a histogram.
func (s *Set) AddHistogram(name string, b Buckets, labels ...string) {
	m := find(name)
	if m.Kind != Histogram || len(b.Counts) != len(b.Bounds)+1 {
		panic("metrics: " + name + " is no histogram, or has the wrong number of buckets")
	}
	s.put(m, sample{labels: labels, hist: &b})
}

// Bool is 1 for true.
func Bool(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

func (s *Set) put(m Metric, v sample) {
	if len(v.labels) != len(m.Labels) {
		panic(fmt.Sprintf("metrics: %s has %d labels, not %d", m.Name, len(m.Labels), len(v.labels)))
	}
	if s.samples == nil {
		s.samples = map[string][]sample{}
	}
	s.samples[m.Name] = append(s.samples[m.Name], v)
}

func find(name string) Metric {
	for _, m := range Table {
		if m.Name == name {
			return m
		}
	}
	panic("metrics: " + name + " is not in the table")
}

// Missing lists what the table has and the set has not.
func (s *Set) Missing() (names []string) {
	for _, m := range Table {
		if len(s.samples[m.Name]) == 0 {
			names = append(names, m.Name)
		}
	}
	return names
}

// WriteTo writes the set in the order of the table.
func (s *Set) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, m := range Table {
		list := s.samples[m.Name]
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", m.Name, escapeHelp(m.Help), m.Name, m.Kind)
		for _, v := range list {
			v.write(&b, m)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (v sample) write(b *strings.Builder, m Metric) {
	if v.hist == nil {
		line(b, m.Name, m.Labels, v.labels, "", v.value)
		return
	}
	var sum uint64
	for i, n := range v.hist.Counts {
		sum += n
		bound := "+Inf"
		if i < len(v.hist.Bounds) {
			bound = number(v.hist.Bounds[i])
		}
		line(b, m.Name+"_bucket", m.Labels, v.labels, bound, float64(sum))
	}
	line(b, m.Name+"_sum", m.Labels, v.labels, "", v.hist.Sum)
	line(b, m.Name+"_count", m.Labels, v.labels, "", float64(sum))
}

// line writes one sample; le is the bound of a bucket, or empty.
func line(b *strings.Builder, name string, labels, values []string, le string, v float64) {
	b.WriteString(name)
	var parts []string
	for i, l := range labels {
		parts = append(parts, l+`="`+escapeLabel(values[i])+`"`)
	}
	if le != "" {
		parts = append(parts, `le="`+le+`"`)
	}
	if len(parts) > 0 {
		b.WriteString("{" + strings.Join(parts, ",") + "}")
	}
	b.WriteString(" " + number(v) + "\n")
}

func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func escapeHelp(s string) string { return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(s) }

func escapeLabel(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(s)
}

// Markdown writes the table as METRICS.md has it.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| name | kind | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range Table {
		labels := "-"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, labels, m.Help)
	}
	return b.String()
}
