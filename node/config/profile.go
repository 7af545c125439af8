package config

import "outrider/mesh/cla"

// The names of the link profiles. What each means in timings is decided where
// the timings act: p2p.ProfileOf and gossip.ProfileOf.
const (
	ProfileLAN   = "lan"   // cable and good Wi-Fi
	ProfileWiFi  = "wifi"  // mesh radios of 200 kb/s and more
	ProfileRadio = "radio" // shared channels below 200 kb/s
)

// LinkClass returns the class of medium that the profile stands for.
func (c Config) LinkClass() cla.Class {
	switch c.Profile {
	case ProfileRadio:
		return cla.Radio
	case ProfileWiFi:
		return cla.WiFi
	}
	return cla.LAN
}
