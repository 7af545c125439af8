package rtc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"

	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"
)

// newCertificate makes the key of the DTLS connections: one for as long as the
// sockets are open. Its fingerprint travels in the answers.
func newCertificate() (webrtc.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return webrtc.Certificate{}, err
	}
	c, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return webrtc.Certificate{}, err
	}
	return *c, nil
}

// loggers gives pion our log. Its texts hold addresses and pieces of session
// descriptions, so of what it says only the part that speaks and the pattern
// of the sentence get through, never the values, and only at debug.
type loggers struct{ log *slog.Logger }

func (l loggers) NewLogger(scope string) logging.LeveledLogger { return library{l.log, scope} }

type library struct {
	log   *slog.Logger
	scope string
}

func (l library) say(pattern string) { l.log.Debug("rtc: library", "scope", l.scope, "err", pattern) }

func (l library) Trace(string)              {}
func (l library) Tracef(string, ...any)     {}
func (l library) Debug(string)              {}
func (l library) Debugf(string, ...any)     {}
func (l library) Info(string)               {}
func (l library) Infof(string, ...any)      {}
func (l library) Warn(string)               { l.say("warning") }
func (l library) Warnf(p string, _ ...any)  { l.say(p) }
func (l library) Error(string)              { l.say("error") }
func (l library) Errorf(p string, _ ...any) { l.say(p) }
