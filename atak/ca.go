package atak

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// keyBits is the size of RSA keys: TAK clients of all ages take them.
const keyBits = 2048

// Lifetimes. A node may have no right time for years, so certificates begin
// long ago; a client certificate ends by being withdrawn.
var (
	validFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
)

// oidCredential marks the extension with the user and the secret. It lies in
// the arc of UUIDs, which needs no registration (ITU-T X.667).
var oidCredential = asn1.ObjectIdentifier{2, 25, 1_947_213_885}

// A Credential is what a client certificate says: for whom it was issued, and
// the secret that opens that user's keys.
type Credential struct {
	Serial string // of the certificate, 32 hexadecimal digits
	User   PersonID
	Secret [32]byte
}

// A CA issues the certificates of one node's bridge. It is used for nothing
// else.
type CA struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// id tells one node's CA from another's; eight digits.
func (ca *CA) id() string { return hex.EncodeToString(ca.cert.SerialNumber.Bytes()[:4]) }

const (
	caCert = "ca.crt"
	caKey  = "ca.key"
)

// OpenCA reads the CA in dir, and makes one at first.
func OpenCA(dir string) (*CA, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, caCert))
	if errors.Is(err, fs.ErrNotExist) {
		return makeCA(dir)
	}
	keyPEM, kerr := os.ReadFile(filepath.Join(dir, caKey))
	if err = errors.Join(err, kerr); err != nil {
		return nil, fmt.Errorf("atak: read CA: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("atak: read CA: damaged (%v); restore %s from a backup, or remove it and enrol every client again", err, dir)
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || !ok {
		return nil, fmt.Errorf("atak: read CA: %s holds no CA of ours", dir)
	}
	return &CA{cert, key}, nil
}

// makeCA writes the key first: a certificate without a key is never found.
func makeCA(dir string) (*CA, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	ca := &CA{cert: &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Outrider TAK CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore: validFrom, NotAfter: validUntil, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
	if ca.key, err = rsa.GenerateKey(rand.Reader, keyBits); err != nil {
		return nil, fmt.Errorf("atak: make CA: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, ca.cert, ca.cert, &ca.key.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("atak: make CA: %w", err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("atak: make CA: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("atak: make CA: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("atak: make CA: %w", err)
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{caKey, "PRIVATE KEY", keyDER}, {caCert, "CERTIFICATE", der}} {
		if err := writeFile(filepath.Join(dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})); err != nil {
			return nil, err
		}
	}
	return ca, nil
}

// newSerial returns 128 random bits that always have 32 digits.
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("atak: make certificate: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// issue makes a key and its certificate.
func (ca *CA) issue(t *x509.Certificate) (*x509.Certificate, *rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, nil, fmt.Errorf("atak: make certificate: %w", err)
	}
	if t.SerialNumber == nil {
		if t.SerialNumber, err = newSerial(); err != nil {
			return nil, nil, err
		}
	}
	t.NotBefore, t.NotAfter, t.BasicConstraintsValid = validFrom, validUntil, true
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("atak: make certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("atak: make certificate: %w", err)
	}
	return cert, key, nil
}

// server makes the certificate of one start of the bridge.
func (ca *CA) server(hosts []string) (tls.Certificate, error) {
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Outrider TAK bridge"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	cert, key, err := ca.issue(t)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw, ca.cert.Raw}, PrivateKey: key}, nil
}

// NewCredential draws serial and secret of a new client certificate.
func NewCredential(user PersonID) (Credential, error) {
	serial, err := newSerial()
	if err != nil {
		return Credential{}, err
	}
	c := Credential{Serial: hex.EncodeToString(serial.Bytes()), User: user}
	if _, err := rand.Read(c.Secret[:]); err != nil {
		return Credential{}, fmt.Errorf("atak: make certificate: %w", err)
	}
	return c, nil
}

// credentialDER is the extension's value.
type credentialDER struct {
	User   string `asn1:"utf8"`
	Secret []byte
}

// client makes a client's certificate. It names nobody: over TLS 1.2 anyone
// on the way can read it.
func (ca *CA) client(c Credential) (*x509.Certificate, *rsa.PrivateKey, error) {
	value, err := asn1.Marshal(credentialDER{string(c.User), c.Secret[:]})
	serial, ok := new(big.Int).SetString(c.Serial, 16)
	if err != nil || !ok {
		return nil, nil, errors.New("atak: make certificate: no such credential")
	}
	return ca.issue(&x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "outrider-" + c.Serial[:8]}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ExtraExtensions: []pkix.Extension{{Id: oidCredential, Value: value}},
	})
}

// credentialOf reads what a verified client certificate says.
func credentialOf(cert *x509.Certificate) (Credential, error) {
	for _, x := range cert.Extensions {
		if !x.Id.Equal(oidCredential) {
			continue
		}
		var v credentialDER
		rest, err := asn1.Unmarshal(x.Value, &v)
		if err != nil || len(rest) > 0 || len(v.Secret) != 32 {
			break
		}
		return Credential{Serial: hex.EncodeToString(cert.SerialNumber.Bytes()), User: PersonID(v.User), Secret: [32]byte(v.Secret)}, nil
	}
	return Credential{}, ErrRefused
}

// tlsConfig lets in who has a certificate of this CA.
func (ca *CA) tlsConfig(hosts []string, tls12 bool) (*tls.Config, error) {
	cert, err := ca.server(hosts)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	c := &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS13,
		SessionTicketsDisabled: true, // each connection shows its certificate, so that a withdrawn one is out at once
		NextProtos:             nil,
	}
	if tls12 {
		c.MinVersion = tls.VersionTLS12
	}
	return c, nil
}

// Password is what TAK tools expect of a key store. It protects nothing.
const Password = "atakatak"

// keyStores makes the two PKCS#12 files of a connection package, in the old
// form that every client reads.
func (ca *CA) keyStores(c Credential) (trust, client []byte, err error) {
	cert, key, err := ca.client(c)
	if err != nil {
		return nil, nil, err
	}
	if trust, err = pkcs12.LegacyDES.EncodeTrustStore([]*x509.Certificate{ca.cert}, Password); err == nil {
		client, err = pkcs12.LegacyDES.Encode(key, cert, []*x509.Certificate{ca.cert}, Password)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("atak: make key store: %v", err)
	}
	return trust, client, nil
}
