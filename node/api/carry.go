package api

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"outrider/mesh/identity"
)

// carryProtocol is what a connection becomes: frames of the mesh, each behind
// its length (package pipe).
const carryProtocol = "outrider-carry/1"

// A Carrier meets sticks: media whose agent runs in the operator's command
// and speaks the mesh's protocol over the socket.
type Carrier interface {
	CarryTerms() CarryTerms
	// TakeRoot takes the root record of the network from a stick, while the
	// node has none (CarryTerms.Root is nil): it has joined and met nobody.
	TakeRoot(ctx context.Context, raw []byte) error
	// Carry is a contact; conn is the stick's. It returns when it has ended.
	Carry(ctx context.Context, conn net.Conn, medium identity.NodeID) error
	// Carried is told of a contact that ended well by whoever has the stick.
	Carried(CarryResult)
}

// CarryResult is what was wrong with the stick of a contact.
type CarryResult struct {
	Full    bool `json:"full"`    // something found no room on it
	Damaged bool `json:"damaged"` // part of what it held could not be read
}

// CarryTerms is what a stick's agent must know to take part.
type CarryTerms struct {
	Node         identity.NodeID
	Network      identity.NetworkID
	Root         []byte   // the network's root record; nil: the node looks for it, and nothing else can be done
	Salt         [16]byte // of reconciliation
	Generation   uint64   // of the network's keys
	Opsec        bool
	Ceiling      time.Duration // longest lifetime
	ClockTrusted bool          // time on the shelf can be counted
}

type carryTerms struct {
	Node         identity.NodeID    `json:"node"`
	Network      identity.NetworkID `json:"network"`
	Root         []byte             `json:"root,omitempty"`
	Salt         string             `json:"salt"`
	Generation   uint64             `json:"generation"`
	Opsec        bool               `json:"opsec"`
	CeilingS     int64              `json:"ceiling_s"`
	ClockTrusted bool               `json:"clock_trusted"`
}

func (s *Server) carryTerms(w http.ResponseWriter, r *http.Request) error {
	t := s.cfg.Carrier.CarryTerms()
	writeJSON(w, http.StatusOK, carryTerms{
		Node: s.cfg.Node.Status(r.Context()).Node, Network: t.Network, Root: t.Root, Salt: hex.EncodeToString(t.Salt[:]), Generation: t.Generation,
		Opsec: t.Opsec, CeilingS: int64(t.Ceiling / time.Second), ClockTrusted: t.ClockTrusted,
	})
	return nil
}

// maxRootRecord is the most a root record has, in bytes (/outrider/root/1).
const maxRootRecord = 8 << 10

func (s *Server) takeRoot(w http.ResponseWriter, r *http.Request) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRootRecord+1))
	if err != nil {
		return err
	}
	if len(raw) > maxRootRecord {
		return fail(http.StatusRequestEntityTooLarge, "too_large", "a root record has at most 8 KiB", "")
	}
	if err := s.cfg.Carrier.TakeRoot(r.Context(), raw); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) carried(w http.ResponseWriter, r *http.Request) error {
	var in CarryResult
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	s.cfg.Carrier.Carried(in)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// carry turns the connection into a link of the mesh.
func (s *Server) carry(w http.ResponseWriter, r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), carryProtocol) {
		w.Header().Set("Upgrade", carryProtocol)
		return fail(http.StatusUpgradeRequired, "upgrade", "this call turns the connection into a link", "use outrider carry, or ask for Upgrade: "+carryProtocol)
	}
	medium, err := identity.ParseNodeID(r.Header.Get("Outrider-Medium"))
	if err != nil {
		return fail(http.StatusBadRequest, "bad_medium", "Outrider-Medium is not the name of a medium", "")
	}
	rc := http.NewResponseController(w)
	conn, buf, err := rc.Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	if buf.Reader.Buffered() > 0 {
		return nil // whoever speaks before the answer is not of this protocol
	}
	if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + carryProtocol + "\r\n\r\n")); err != nil {
		return nil // gone
	}
	if err := s.cfg.Carrier.Carry(r.Context(), conn, medium); err != nil {
		s.log.Warn("contact with a stick failed", "err", err)
	}
	return nil
}
