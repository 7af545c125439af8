package linkemu

import "time"

// Counters of one directed link. Bytes are Ethernet frames as the node sees
// them (14 bytes of header, ARP included).
type Counters struct {
	TxFrames   int64   `json:"tx_frames"` // left the air towards the receiver
	TxBytes    int64   `json:"tx_bytes"`
	RxFrames   int64   `json:"rx_frames"` // taken by the receiver's interface
	RxBytes    int64   `json:"rx_bytes"`
	Lost       int64   `json:"lost"`         // by chance
	QueueDrop  int64   `json:"queue_drop"`   // the sender's queue was full
	DownDrop   int64   `json:"down_drop"`    // the link was down
	Refused    int64   `json:"refused"`      // by the receiver's interface
	MaxQueueMS float64 `json:"max_queue_ms"` // longest wait for and on the air
}

func (c *Counters) add(o Counters) {
	c.TxFrames += o.TxFrames
	c.TxBytes += o.TxBytes
	c.RxFrames += o.RxFrames
	c.RxBytes += o.RxBytes
	c.Lost += o.Lost
	c.QueueDrop += o.QueueDrop
	c.DownDrop += o.DownDrop
	c.Refused += o.Refused
	c.MaxQueueMS = max(c.MaxQueueMS, o.MaxQueueMS)
}

// A Report is what an ether has counted so far.
type Report struct {
	ElapsedS float64      `json:"elapsed_s"`
	Nets     []NetReport  `json:"nets"`
	Links    []LinkReport `json:"links"` // those that saw a frame
}

// A NetReport sums one net. A broadcast counts once per receiver in Total;
// for the traffic on the air read the airtime, which counts it once.
type NetReport struct {
	Net          string   `json:"net"`
	AirtimeS     float64  `json:"airtime_s"`
	AirtimeShare float64  `json:"airtime_share"`
	Total        Counters `json:"total"`
}

// A LinkReport is one directed link.
type LinkReport struct {
	Net  string   `json:"net"`
	From string   `json:"from"`
	To   string   `json:"to"`
	C    Counters `json:"c"`
}

// Report reads the counters.
func (e *Ether) Report() Report {
	e.mu.Lock()
	start := e.start
	e.mu.Unlock()
	r := Report{Nets: []NetReport{}, Links: []LinkReport{}}
	if !start.IsZero() {
		r.ElapsedS = time.Since(start).Seconds()
	}
	for _, m := range e.nets {
		n := NetReport{Net: m.cfg.Name}
		for _, c := range m.chans {
			n.AirtimeS += c.busyTime().Seconds()
		}
		if r.ElapsedS > 0 {
			n.AirtimeShare = n.AirtimeS / r.ElapsedS / float64(max(1, len(m.chans)))
		}
		for _, p := range m.ports {
			for _, l := range p.links {
				l.mu.Lock()
				c := l.c
				l.mu.Unlock()
				n.Total.add(c)
				if c != (Counters{}) {
					r.Links = append(r.Links, LinkReport{Net: m.cfg.Name, From: p.node, To: l.to.node, C: c})
				}
			}
		}
		r.Nets = append(r.Nets, n)
	}
	return r
}
