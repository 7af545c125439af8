// Package rtctest is a call's client without a browser: for tests of media/rtc
// and for the demonstration. It seals and opens as the page does, in Go.
package rtctest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"outrider/media/sframe"
)

// frameTime is one Opus frame as browsers send it.
const frameTime = 20 * time.Millisecond

// Options describe a client.
type Options struct {
	Sealer  *sframe.Sealer // nil sends frames as they are: for tests of what must not be
	Opener  *sframe.Opener // nil takes frames as they come
	TCPOnly bool
	// Heard is told of every frame that opened; may be nil.
	Heard func(frame []byte)
}

// Counts are what a client did.
type Counts struct{ Sealed, Received, Opened, Failed uint64 }

// A Client is one end of a call. It reaches servers on loopback only.
type Client struct {
	o     Options
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	ready chan struct{} // closed once connected

	sealed, received, opened, failed atomic.Uint64

	opening sync.Mutex // of the opener
	seq     uint16
	stamp   uint32
}

// New makes a client that is not connected.
func New(o Options) (*Client, error) {
	var m webrtc.MediaEngine
	opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: 111}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("rtctest: %w", err)
	}
	var e webrtc.SettingEngine
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetIncludeLoopbackCandidate(true)
	e.SetIPFilter(net.IP.IsLoopback)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4})
	if o.TCPOnly {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, fmt.Errorf("rtctest: %w", err)
	}
	c := &Client{o: o, pc: pc, ready: make(chan struct{})}
	if err := c.prepare(opus); err != nil {
		return nil, errors.Join(fmt.Errorf("rtctest: %w", err), pc.GracefulClose())
	}
	return c, nil
}

func (c *Client) prepare(opus webrtc.RTPCodecCapability) (err error) {
	if c.track, err = webrtc.NewTrackLocalStaticRTP(opus, "audio", "client"); err != nil {
		return err
	}
	if _, err := c.pc.AddTransceiverFromTrack(c.track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
		return err
	}
	if _, err := c.pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		return err
	}
	c.pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { c.hear(t) })
	var once sync.Once
	c.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(c.ready) })
		}
	})
	return nil
}

// Offer is the session description to be sent to the node.
func (c *Client) Offer() (string, error) {
	offer, err := c.pc.CreateOffer(nil)
	if err == nil {
		err = c.pc.SetLocalDescription(offer)
	}
	if err != nil {
		return "", fmt.Errorf("rtctest: offer: %w", err)
	}
	return offer.SDP, nil
}

// Accept takes the node's answer and waits until media can flow.
func (c *Client) Accept(ctx context.Context, answer string) error {
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("rtctest: answer: %w", err)
	}
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("rtctest: connect: %w", ctx.Err())
	}
}

// Transport names what the packets go by: udp or tcp.
func (c *Client) Transport() string {
	for _, s := range c.pc.GetTransceivers() {
		if t := s.Sender().Transport(); t != nil {
			if pair, err := t.ICETransport().GetSelectedCandidatePair(); err == nil && pair != nil {
				return pair.Remote.Protocol.String()
			}
		}
	}
	return ""
}

// Send seals and sends one frame of 20 ms.
func (c *Client) Send(frame []byte) error {
	if c.o.Sealer != nil {
		var err error
		if frame, err = c.o.Sealer.Seal(nil, frame, nil); err != nil {
			return err
		}
	}
	c.sealed.Add(1)
	c.seq++
	c.stamp += 960
	return c.track.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: c.seq, Timestamp: c.stamp}, Payload: frame})
}

// Talk sends frames at the pace of speech until ctx ends.
func (c *Client) Talk(ctx context.Context, next func() []byte) {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.Send(next()) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *Client) hear(t *webrtc.TrackRemote) {
	buf := make([]byte, 1500)
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		var pkt rtp.Packet
		if pkt.Unmarshal(buf[:n]) != nil {
			continue
		}
		c.received.Add(1)
		c.open(pkt.Payload)
	}
}

func (c *Client) open(frame []byte) {
	c.opening.Lock()
	defer c.opening.Unlock()
	if c.o.Opener != nil {
		var err error
		if frame, err = c.o.Opener.Open(nil, frame, nil); err != nil {
			c.failed.Add(1)
			return
		}
	}
	c.opened.Add(1)
	if c.o.Heard != nil {
		c.o.Heard(frame)
	}
}

// Counts counts.
func (c *Client) Counts() Counts {
	return Counts{c.sealed.Load(), c.received.Load(), c.opened.Load(), c.failed.Load()}
}

// Close ends the connection.
func (c *Client) Close() error { return c.pc.GracefulClose() }
