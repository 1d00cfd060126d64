package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// A pki is the cluster's own certificate authority, for one run.
type pki struct {
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	caPEM []byte
}

// newPKI writes ca.crt, the API server's certificate and key, and the key that
// signs service account tokens to the cluster's pki folder.
func (c *Cluster) newPKI() error {
	if err := os.MkdirAll(c.path("pki"), 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "irctl-e2e"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(0, 0, 7),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	c.pki = &pki{ca: ca, caKey: key, caPEM: pemOf("CERTIFICATE", der)}
	if err := os.WriteFile(c.path("pki", "ca.crt"), c.pki.caPEM, 0o644); err != nil {
		return err
	}
	if err := c.writeServerCertificate(); err != nil {
		return fmt.Errorf("API server certificate: %w", err)
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return c.writeKey("service-accounts.key", signer)
}

func (c *Cluster) writeServerCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:    c.pki.ca.NotBefore,
		NotAfter:     c.pki.ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.ParseIP(c.node.ip), net.ParseIP("127.0.0.1"), net.ParseIP(serviceIP)},
		DNSNames:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.pki.ca, &key.PublicKey, c.pki.caKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path("pki", "apiserver.crt"), pemOf("CERTIFICATE", der), 0o644); err != nil {
		return err
	}
	return c.writeKey("apiserver.key", key)
}

func (c *Cluster) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("pki", name), pemOf("EC PRIVATE KEY", der), 0o600)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// anonymousTransport trusts the cluster's authority and sends no credentials.
func (c *Cluster) anonymousTransport() *http.Transport {
	roots := x509.NewCertPool()
	if ca, err := os.ReadFile(c.path("pki", "ca.crt")); err == nil {
		roots.AppendCertsFromPEM(ca)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
}
