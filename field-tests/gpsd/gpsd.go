// Package gpsd is a gpsd for scenarios: a receiver that stands where the
// scenario puts it, behind the protocol that gpsd speaks (gpsd_json(5)). It
// greets with VERSION, says nothing of places before a client has asked with
// ?WATCH, answers that with DEVICES and WATCH, and reports TPV and SKY as a
// receiver does, several times a second.
package gpsd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// interval between two reports. Receivers report once a second; more often
// spares scenarios the wait.
const interval = 100 * time.Millisecond

// A Server is a gpsd with one receiver.
type Server struct {
	l net.Listener

	mu     sync.Mutex
	fix    bool
	lat    float64
	lon    float64
	conns  map[net.Conn]bool
	closed bool
	wg     sync.WaitGroup
}

// Listen starts a server on a free port of the loopback. Its receiver has no
// fix before Move.
func Listen() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("gpsd: %w", err)
	}
	s := &Server{l: l, conns: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Source is the server as position.source names it.
func (s *Server) Source() string { return "gpsd://" + s.l.Addr().String() }

// Move puts the receiver at a place, in degrees.
func (s *Server) Move(lat, lon float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fix, s.lat, s.lon = true, lat, lon
}

// Close ends the server and its connections.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	err := s.l.Close()
	for c := range s.conns {
		err = errors.Join(err, c.Close())
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			_ = c.Close()
		} else {
			s.conns[c] = true
			s.wg.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

// serve talks to one client until it goes.
func (s *Server) serve(c net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		s.mu.Lock()
		if s.conns[c] {
			delete(s.conns, c)
			_ = c.Close()
		}
		s.mu.Unlock()
	}()
	defer cancel()
	if _, err := io.WriteString(c, `{"class":"VERSION","release":"3.25","rev":"3.25","proto_major":3,"proto_minor":15}`+"\n"); err != nil {
		return
	}
	in := bufio.NewScanner(c)
	var reports sync.WaitGroup
	defer reports.Wait()
	defer cancel()
	watched := false
	for in.Scan() {
		if watched || !strings.HasPrefix(in.Text(), "?WATCH=") || !strings.Contains(in.Text(), `"enable":true`) || !strings.Contains(in.Text(), `"json":true`) {
			continue
		}
		watched = true
		reports.Go(func() { s.report(ctx, c) })
	}
}

// report writes what the receiver says until the client goes.
func (s *Server) report(ctx context.Context, w io.Writer) {
	hello := `{"class":"DEVICES","devices":[{"class":"DEVICE","path":"/dev/ttyACM0","driver":"u-blox","activated":"2026-03-04T05:06:07.000Z"}]}` + "\n" +
		`{"class":"WATCH","enable":true,"json":true,"nmea":false,"raw":0,"scaled":false,"timing":false,"split24":false,"pps":false}` + "\n"
	if _, err := io.WriteString(w, hello); err != nil {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(w, s.reports(time.Now())); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// reports is one round: SKY, and TPV with or without a fix.
func (s *Server) reports(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sky := `{"class":"SKY","device":"/dev/ttyACM0","hdop":0.9,"nSat":11,"uSat":9}` + "\n"
	if !s.fix {
		return sky + `{"class":"TPV","device":"/dev/ttyACM0","mode":1}` + "\n"
	}
	return sky + fmt.Sprintf(`{"class":"TPV","device":"/dev/ttyACM0","mode":3,"time":%q,"ept":0.005,"lat":%.9f,"lon":%.9f,"altHAE":215.4,"altMSL":171.2,`+
		`"epx":3.1,"epy":3.4,"epv":8.2,"track":41.2,"speed":1.40,"climb":0.0,"eps":6.9,"eph":4.6}`+"\n", now.UTC().Format("2006-01-02T15:04:05.000Z"), s.lat, s.lon)
}
