package vault

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential/disclosure"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// Entries by which a Secret with a token says for whom it is. A provider of a
// namespace sends it to nobody else.
const (
	// EntryAddress is the vault's address, or several with blanks between them.
	EntryAddress = "vault-address"
	// EntryCA are the authorities of its TLS certificate, in PEM, where the provider
	// sets caCert.
	EntryCA = "vault-ca.crt"
)

// disclosed refuses to show the token of a Secret to somebody whom the Secret does not
// name. It is asked before anybody is dialled.
func (c *client) disclosed(name string, secret map[string][]byte) error {
	way := disclosure.Way{Namespace: c.namespace, Elsewhere: c.base}
	for _, a := range strings.Fields(string(secret[EntryAddress])) {
		if u, err := (Parameters{Address: a}).address(); err == nil && u.String() == c.base {
			way.Elsewhere = ""
		}
	}
	if c.p.CACert != "" && !sameCertificates(c.p.CACert, string(secret[EntryCA])) {
		way.Diverts = "caCert"
	}
	r := disclosure.Of(way, fmt.Sprintf("the token in Secret %s/%s", c.namespace, name))
	if r == nil {
		return nil
	}
	remedy := fmt.Sprintf("whoever may write that Secret puts the entry %s with %s into it", EntryAddress, c.base)
	if r.Field != "" {
		remedy += fmt.Sprintf(", and the entry %s with the same certificates as %s", EntryCA, r.Field)
	}
	return &keys.Error{Op: opSignIn, Host: c.host, Err: boltseal.ErrRefused, Detail: r.Why, Remedy: remedy}
}

// sameCertificates reports whether two texts in PEM hold the same certificates.
func sameCertificates(a, b string) bool {
	x, err := trust.ParseCertificates([]byte(a))
	if err != nil {
		return false
	}
	y, err := trust.ParseCertificates([]byte(b))
	return err == nil && slices.EqualFunc(x, y, (*x509.Certificate).Equal)
}
