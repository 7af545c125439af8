package rtc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"outrider/media"
	"outrider/mesh/identity"
)

// maxPacket is the largest RTP packet, in bytes: what fits an Ethernet frame.
const maxPacket = 1500

// A participant is one client's connection in one call.
type participant struct {
	s    *Server
	call media.CallID
	user identity.UserID
	down downstream

	closing sync.Once
	pc      *webrtc.PeerConnection
	done    chan struct{} // closed with the connection
	readers sync.WaitGroup
}

func newParticipant(s *Server, call media.CallID, user identity.UserID) *participant {
	return &participant{s: s, call: call, user: user, done: make(chan struct{})}
}

// errOffer means that the offer is not one of ours: it is the client's fault.
func errOffer(err error) error {
	return fmt.Errorf("rtc: the offer cannot be answered: %v: %w", err, media.ErrInvalid)
}

// negotiate answers an offer. The library's errors end here.
func (p *participant) negotiate(ctx context.Context, api *webrtc.API, sdp string) (media.Answer, error) {
	if !oneEachWay(sdp) {
		return media.Answer{}, errOffer(errors.New("it must have one audio section that sends and one that receives"))
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return media.Answer{}, fmt.Errorf("rtc: make a connection: %v", err)
	}
	p.pc = pc
	if err := p.prepare(); err != nil {
		return media.Answer{}, fmt.Errorf("rtc: make a connection: %v", err)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return media.Answer{}, errOffer(errors.New("it was not understood")) // pion's words repeat parts of it
	}
	if len(pc.GetTransceivers()) != 2 {
		return media.Answer{}, errOffer(errors.New("its sections do not fit"))
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return media.Answer{}, errOffer(errors.New("it has no codec or key that serves"))
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return media.Answer{}, errOffer(errors.New("it has no codec or key that serves"))
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return media.Answer{}, fmt.Errorf("rtc: gather candidates: %w", ctx.Err())
	}
	return media.Answer{SDP: pc.LocalDescription().SDP}, nil
}

// oneEachWay tells whether an offer has the two sections that ours have: one
// sends, one receives. Others would be answered, and never work: Chromium
// leaves out the transforms of a section that does both.
func oneEachWay(sdp string) bool {
	var sections, sends, receives int
	for line := range strings.Lines(sdp) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "m=audio "):
			sections++
		case strings.HasPrefix(line, "m="):
			return false
		case line == "a=sendonly":
			sends++
		case line == "a=recvonly":
			receives++
		}
	}
	return sections == 2 && sends == 1 && receives == 1
}

// prepare makes the two transceivers before the offer is read, so that each of
// its sections finds its own: one that sends here, one that receives.
func (p *participant) prepare() error {
	track, err := webrtc.NewTrackLocalStaticRTP(opus, "audio", p.call.String())
	if err != nil {
		return err
	}
	p.down.track = track
	up, down := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}
	if _, err := p.pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, up); err != nil {
		return err
	}
	sending, err := p.pc.AddTransceiverFromTrack(track, down)
	if err != nil {
		return err
	}
	p.readers.Add(1)
	go func() { // receivers' reports must be taken from the library
		defer p.readers.Done()
		buf := make([]byte, maxPacket)
		for {
			if _, _, err := sending.Sender().Read(buf); err != nil {
				return
			}
		}
	}()
	p.pc.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { p.forward(remote) })
	p.pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
		switch st {
		case webrtc.PeerConnectionStateConnected:
			p.s.job(func() { p.s.cfg.Connected(p.call, p.user) })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			p.s.job(func() { p.s.lost(p) })
		}
	})
	return nil
}

// close ends the connection and waits until nothing of it runs.
func (p *participant) close() {
	p.closing.Do(func() {
		close(p.done)
		if p.pc != nil {
			_ = p.pc.GracefulClose() // what fails on the way out changes nothing
		}
		p.readers.Wait()
	})
}

// forward hands what the participant sends to the others, until the connection
// ends. The library runs it in a goroutine that GracefulClose waits for.
func (p *participant) forward(remote *webrtc.TrackRemote) {
	buf := make([]byte, maxPacket)
	var to []*participant
	for {
		n, _, err := remote.Read(buf)
		if err != nil {
			return
		}
		var pkt rtp.Packet
		if pkt.Unmarshal(buf[:n]) != nil || len(pkt.Payload) == 0 {
			p.s.dropped.Add(1)
			continue
		}
		if p.s.cfg.Tap != nil {
			p.s.cfg.Tap(pkt.Payload)
		}
		to = p.s.others(p, to[:0])
		for _, o := range to {
			if o.down.write(p, pkt) != nil {
				p.s.dropped.Add(1)
				continue
			}
			p.s.forwarded.Add(1)
		}
	}
}

// A downstream is what one participant hears. Its packets are numbered without
// a gap that the sender's did not have.
type downstream struct {
	track *webrtc.TrackLocalStaticRTP

	mu      sync.Mutex
	from    *participant
	begun   bool
	seq     uint16 // offsets to the source's numbers
	stamp   uint32
	lastSeq uint16
	lastTS  uint32
}

// frameTS is 20 ms at Opus' clock rate: RFC 7587, section 4.1.
const frameTS = 960

// write sends a packet to the participant, renumbered.
func (d *downstream) write(from *participant, pkt rtp.Packet) error {
	d.mu.Lock()
	d.renumber(from, &pkt.Header)
	d.mu.Unlock()
	pkt.Extension, pkt.Extensions, pkt.CSRC = false, nil, nil // none were negotiated
	return d.track.WriteRTP(&pkt)
}

// renumber makes a new source go on where the last one ended. The caller holds
// mu.
func (d *downstream) renumber(from *participant, h *rtp.Header) {
	if d.from != from {
		d.from = from
		if d.begun {
			d.seq, d.stamp = d.lastSeq+1-h.SequenceNumber, d.lastTS+frameTS-h.Timestamp
		}
	}
	h.SequenceNumber += d.seq
	h.Timestamp += d.stamp
	if !d.begun || int16(h.SequenceNumber-d.lastSeq) > 0 {
		d.begun, d.lastSeq, d.lastTS = true, h.SequenceNumber, h.Timestamp
	}
}
