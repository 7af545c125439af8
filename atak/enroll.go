package atak

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"outrider/atak/datapkg"
)

// An Enrolment asks for a connection package.
type Enrolment struct {
	Credential Credential
	Callsign   string // the user's name: the client is told to use it
	Node       string // what the connection is called in the client
	Host       string // where clients reach this node
	StreamPort uint16
}

// CheckHost tells whether clients can be told to connect to a host. Their settings
// say host:port:ssl, so it is an IPv4 address or a host name (RFC 1123, section
// 2.1): the colons of an IPv6 address would be read as the port.
func CheckHost(host string) error {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && !ip.Is4():
		return fmt.Errorf("atak: %q is an IPv6 address, which a TAK client's settings (host:port:ssl) have no room for; name an IPv4 address or a host name", host)
	case err == nil && (ip.IsUnspecified() || ip.IsMulticast()):
		return fmt.Errorf("atak: %q is no address that clients could reach; name an IPv4 address of this node or a host name", host)
	case err == nil || isHostName(host):
		return nil
	}
	return fmt.Errorf("atak: %q is no IPv4 address and no host name; name one without the port, which is that of the node's atak.listen", host)
}

// isHostName takes letters, digits and inner hyphens between dots. The last part
// is no number, which would make it a mistyped address.
func isHostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if len(l) < 1 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, notInName) {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
}

// A connection package brings file names that are unique per node: WinTAK
// takes one server's file for another's otherwise (tak.md 11).

// ConnectionPackage makes what a client imports to connect: a data package
// with the CA, a client certificate with its key, and the settings. Whoever
// has it is that user's client.
func (ca *CA) ConnectionPackage(e Enrolment) ([]byte, error) {
	if err := CheckHost(e.Host); err != nil {
		return nil, err
	}
	trust, client, err := ca.keyStores(e.Credential)
	if err != nil {
		return nil, err
	}
	id := e.Credential.Serial[:8]
	trustName, clientName := "outrider-"+id+"-ca.p12", "outrider-"+id+".p12"
	pref, err := preferences(e, trustName, clientName)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = datapkg.Make(&b, datapkg.Manifest{UID: "outrider-" + e.Credential.Serial, Name: "Outrider " + e.Node}, []datapkg.File{
		{Path: "certs/outrider-" + id + ".pref", Data: pref}, {Path: "certs/" + trustName, Data: trust}, {Path: "certs/" + clientName, Data: client},
	}, "onReceiveDelete", "true")
	return b.Bytes(), err
}

// The settings file of ATAK.
type prefsXML struct {
	XMLName xml.Name   `xml:"preferences"`
	Groups  []prefsSet `xml:"preference"`
}

type prefsSet struct {
	Version string      `xml:"version,attr"`
	Name    string      `xml:"name,attr"`
	Entries []prefEntry `xml:"entry"`
}

type prefEntry struct {
	Key   string `xml:"key,attr"`
	Class string `xml:"class,attr"`
	Value string `xml:",chardata"`
}

func preferences(e Enrolment, trustName, clientName string) ([]byte, error) {
	text := func(k, v string) prefEntry { return prefEntry{k, "class java.lang.String", v} }
	x := prefsXML{Groups: []prefsSet{
		{"1", "cot_streams", []prefEntry{
			{"count", "class java.lang.Integer", "1"}, text("description0", "Outrider "+e.Node), {"enabled0", "class java.lang.Boolean", "true"},
			text("connectString0", e.Host+":"+strconv.Itoa(int(e.StreamPort))+":ssl"),
			text("caLocation0", "cert/"+trustName), text("caPassword0", Password),
			text("certificateLocation0", "cert/"+clientName), text("clientPassword0", Password),
		}},
		{"1", "com.atakmap.app_preferences", []prefEntry{
			text("caLocation", "cert/"+trustName), text("caPassword", Password),
			text("certificateLocation", "cert/"+clientName), text("clientPassword", Password),
			text("locationCallsign", e.Callsign),
		}},
	}}
	b, err := xml.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("atak: write settings: %v", err)
	}
	return append([]byte("<?xml version='1.0' standalone='yes'?>\n"), b...), nil
}
