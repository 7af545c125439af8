package identity

import "fmt"

// delegateBody is a delegate's certificate as a join link carries it: class,
// key and issuer are known to whoever reads the link.
type delegateBody struct {
	_          struct{} `cbor:",toarray"`
	Subject    []byte
	Roles      Role
	Generation uint32
	NotBefore  uint32
	NotAfter   uint32
}

// CompactDelegate returns a delegate's certificate without the class, the
// key and the issuer: at most 110 bytes.
func CompactDelegate(c Certificate) ([]byte, error) {
	if c.Class != ClassDelegate || len(c.raw) < SignatureSize {
		return nil, fmt.Errorf("identity: compact certificate: %v is no issued delegate: %w", c.Class, ErrRole)
	}
	nb, _ := minutes(c.NotBefore)
	na, _ := minutes(c.NotAfter)
	body, err := Marshal(delegateBody{Subject: c.Subject, Roles: c.Roles, Generation: c.Generation, NotBefore: nb, NotAfter: na})
	if err != nil {
		return nil, err
	}
	return append(body, c.raw[len(c.raw)-SignatureSize:]...), nil
}

// ExpandDelegate restores the certificate that CompactDelegate shortened,
// given the delegate's key and its issuer's. No signature is checked.
func ExpandDelegate(compact []byte, key PublicKey, issuer KeyID) (Certificate, error) {
	if len(compact) <= SignatureSize || len(compact) > MaxCertificate {
		return Certificate{}, fmt.Errorf("identity: expand certificate: %d bytes: %w", len(compact), ErrMalformed)
	}
	split := len(compact) - SignatureSize
	var d delegateBody
	if err := Unmarshal(compact[:split], &d); err != nil {
		return Certificate{}, fmt.Errorf("identity: expand certificate: %w", err)
	}
	body, err := Marshal(certBody{
		Class: ClassDelegate, Subject: d.Subject, Key: key[:], Issuer: issuer[:],
		Roles: d.Roles, Generation: d.Generation, NotBefore: d.NotBefore, NotAfter: d.NotAfter,
	})
	if err != nil {
		return Certificate{}, err
	}
	return ParseCertificate(append(body, compact[split:]...))
}
