package keys

import (
	"crypto/x509"

	"github.com/boltseal/boltseal/trust"
)

// Each makes an item of each certificate of a bundle, which are trusted by
// themselves: those that cannot be roots of trust are named. problem says what is
// wrong with the bundle, "" where nothing is.
func Each(name, version string, certs []*x509.Certificate) (items []Item, problem string) {
	good := false
	for _, c := range certs {
		it := Item{Name: name, Version: version, Use: InUse, Certificates: []*x509.Certificate{c}}
		if trust.Admit(trust.TypeCA, c) != nil {
			it.Use, it.Why = Unusable, "it is neither a CA's nor self-signed: provide the CA that issued it"
		} else {
			good = true
		}
		items = append(items, it)
	}
	if !good {
		problem = name + ": it contains no certificate of a CA and none that is self-signed"
	}
	return items, problem
}
