package coresync

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
)

// A development core lies in one folder:
//
//	dev.json               ports and nodes
//	ca.crt ca.key          of this core alone
//	server.crt server.key  shared by the three servers; backup.pin is the pin of backup.key
//	core-n1.conf ...       as coresync.md 6 has them; accounts.conf is included
//	n1/ ...                what each server keeps
//	desk.*                 credentials of the desk
//	nodes/NAME.*           credentials of nodes
const (
	devServers = 3
	devYears   = 10
	devNodeMax = 64
)

// ErrNodeName: a node's name is 1 to 32 lower-case letters, digits and -.
var ErrNodeName = errors.New("coresync: a node's name is 1 to 32 lower-case letters, digits and -")

// ErrNoDev: there is no development core in the folder.
var ErrNoDev = errors.New("coresync: there is no development core in this folder")

// devState is dev.json.
type devState struct {
	Client []int             `json:"client_ports"`
	Route  []int             `json:"route_ports"`
	Desk   string            `json:"desk"`
	Nodes  map[string]string `json:"nodes"` // name to nkey
}

// A Dev is the folder of a development core.
type Dev struct {
	dir   string
	state devState
}

// OpenDev opens the folder of a development core that was made before.
func OpenDev(dir string) (*Dev, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("coresync: %w", err)
	}
	d := &Dev{dir: dir}
	raw, err := os.ReadFile(d.path("dev.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoDev
	}
	if err == nil {
		err = json.Unmarshal(raw, &d.state)
	}
	if err == nil && (len(d.state.Client) != devServers || len(d.state.Route) != devServers) {
		err = errors.New("it names no ports")
	}
	if err != nil {
		return nil, fmt.Errorf("coresync: %s: %v", d.path("dev.json"), err)
	}
	return d, nil
}

// MakeDev opens the folder, and makes it what it must be. The six ports from
// port on are used; 0 picks free ones. An existing core keeps its own.
func MakeDev(dir string, port int) (*Dev, error) {
	d, err := OpenDev(dir)
	if err == nil {
		return d, d.writeConf()
	}
	if !errors.Is(err, ErrNoDev) {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("coresync: %w", err)
	}
	d = &Dev{dir: dir, state: devState{Nodes: map[string]string{}}}
	if err := os.MkdirAll(d.path("nodes"), 0o700); err != nil {
		return nil, fmt.Errorf("coresync: %w", err)
	}
	if err := d.choosePorts(port); err != nil {
		return nil, err
	}
	if err := d.makeKeys(); err != nil {
		return nil, err
	}
	if err := d.writeConf(); err != nil {
		return nil, err
	}
	return d, d.save() // last: without it the folder counts as none
}

func (d *Dev) path(name string) string { return filepath.Join(d.dir, name) }

func (d *Dev) save() error {
	raw, err := json.MarshalIndent(d.state, "", "  ")
	if err != nil {
		return fmt.Errorf("coresync: %w", err)
	}
	return d.write("dev.json", append(raw, '\n'), 0o600)
}

// write puts a file into place whole.
func (d *Dev) write(name string, data []byte, mode fs.FileMode) error {
	tmp := d.path(name) + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("coresync: %w", err)
	}
	if err := os.Rename(tmp, d.path(name)); err != nil {
		return fmt.Errorf("coresync: %w", err)
	}
	return nil
}

func (d *Dev) choosePorts(port int) error {
	var ports []int
	var open []net.Listener
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	for i := range 2 * devServers {
		want := 0
		if port != 0 {
			want = port + i
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", want))
		if err != nil {
			return fmt.Errorf("coresync: port %d is taken: %v", want, err)
		}
		open = append(open, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	d.state.Client, d.state.Route = ports[:devServers], ports[devServers:]
	return nil
}

// makeKeys makes the CA, the servers' certificate, a backup key with its pin,
// and the desk's credentials.
func (d *Dev) makeKeys() error {
	caKey, err := newKey()
	if err != nil {
		return err
	}
	tmpl := certTemplate("outrider development core", nil)
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &caKey.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("coresync: make the CA: %v", err)
	}
	if err := d.writePair("ca", raw, caKey); err != nil {
		return err
	}
	if err := d.certify("server", "core", []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		return err
	}
	backup, err := newKey()
	if err != nil {
		return err
	}
	if err := d.writeKey("backup.key", backup); err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(&backup.PublicKey)
	if err != nil {
		return fmt.Errorf("coresync: make the backup key: %v", err)
	}
	if err := d.write("backup.pin", []byte(PinOf(&x509.Certificate{RawSubjectPublicKeyInfo: spki})+"\n"), 0o644); err != nil {
		return err
	}
	if err := d.certify("desk", "desk", nil); err != nil {
		return err
	}
	d.state.Desk, err = d.writeSeed("desk.seed")
	return err
}

func newKey() (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("coresync: make a key: %v", err)
	}
	return k, nil
}

func certTemplate(name string, ips []net.IP) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IPAddresses: ips,
		// From long ago, for boards whose clock was never set.
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Now().AddDate(devYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// certify makes a key and a certificate of the CA's.
func (d *Dev) certify(file, name string, ips []net.IP) error {
	ca, caKey, err := d.readCA()
	if err != nil {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	raw, err := x509.CreateCertificate(rand.Reader, certTemplate(name, ips), ca, &key.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("coresync: make a certificate: %v", err)
	}
	return d.writePair(file, raw, key)
}

func (d *Dev) readCA() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := d.readCert("ca.crt")
	if err != nil {
		return nil, nil, err
	}
	raw, err := os.ReadFile(d.path("ca.key"))
	if err != nil {
		return nil, nil, fmt.Errorf("coresync: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, nil, fmt.Errorf("coresync: %s holds no key", d.path("ca.key"))
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("coresync: %s: %v", d.path("ca.key"), err)
	}
	return cert, key, nil
}

func (d *Dev) readCert(name string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(d.path(name))
	if err != nil {
		return nil, fmt.Errorf("coresync: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("coresync: %s holds no certificate", d.path(name))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("coresync: %s: %v", d.path(name), err)
	}
	return cert, nil
}

func (d *Dev) writePair(file string, cert []byte, key *ecdsa.PrivateKey) error {
	if err := d.write(file+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644); err != nil {
		return err
	}
	return d.writeKey(file+".key", key)
}

func (d *Dev) writeKey(name string, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("coresync: encode a key: %v", err)
	}
	return d.write(name, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600)
}

func (d *Dev) writeSeed(name string) (public string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("coresync: make an nkey: %v", err)
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return "", fmt.Errorf("coresync: make an nkey: %v", err)
	}
	if public, err = pair.PublicKey(); err != nil {
		return "", fmt.Errorf("coresync: make an nkey: %v", err)
	}
	return public, d.write(name, append(seed, '\n'), 0o600)
}

// Add makes a node's credentials, or finds those it has, and lets the servers
// that run know. It returns the node's settings.
func (d *Dev) Add(name string) (Config, error) {
	if name == "" || len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' {
		return Config{}, ErrNodeName
	}
	if _, ok := d.state.Nodes[name]; !ok {
		if len(d.state.Nodes) >= devNodeMax {
			return Config{}, fmt.Errorf("coresync: a development core has at most %d nodes", devNodeMax)
		}
		file := filepath.Join("nodes", name)
		if err := d.certify(file, name, nil); err != nil {
			return Config{}, err
		}
		key, err := d.writeSeed(file + ".seed")
		if err != nil {
			return Config{}, err
		}
		d.state.Nodes[name] = key
		if err := errors.Join(d.writeConf(), d.save()); err != nil {
			return Config{}, err
		}
		if err := d.reload(); err != nil {
			return Config{}, err
		}
	}
	return d.nodeConfig(filepath.Join("nodes", name))
}

func (d *Dev) nodeConfig(file string) (Config, error) {
	server, err := d.readCert("server.crt")
	if err != nil {
		return Config{}, err
	}
	backup, err := os.ReadFile(d.path("backup.pin"))
	if err != nil {
		return Config{}, fmt.Errorf("coresync: %w", err)
	}
	return Config{
		Servers: d.Servers(), SeedFile: d.path(file + ".seed"), CertFile: d.path(file + ".crt"), KeyFile: d.path(file + ".key"),
		CAFile: d.path("ca.crt"), Pins: []string{PinOf(server), strings.TrimSpace(string(backup))},
	}, nil
}

// Servers are the addresses for nodes.
func (d *Dev) Servers() (list []string) {
	for _, p := range d.state.Client {
		list = append(list, fmt.Sprintf("127.0.0.1:%d", p))
	}
	return list
}

// Nodes are the names of the nodes it knows.
func (d *Dev) Nodes() []string {
	var names []string
	for n := range d.state.Nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
