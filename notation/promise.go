package notation

import (
	"crypto/sha256"
	"iter"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/trust"
)

var _ boltseal.Ranker = (*Verifier)(nil)

// Promise implements [boltseal.Ranker] by the thumbprints that signers list
// (signature-specification.md, "Storage"). Anybody can
// write those of somebody else, so that no more than an order may depend on them.
func (v *Verifier) Promise(subject boltseal.Subject, annotations map[string]string) boltseal.Promise {
	s := v.policy.match(subject.Known())
	if s == nil || s.level == levelSkip {
		return boltseal.Unstated // the same for all
	}
	named := false
	for print := range eachThumbprint(annotations[boltseal.HintThumbprints]) {
		named = true
		for _, name := range s.stores {
			if st := v.stores[name]; st.Type() != trust.TypeTSA && st.ContainsSum(print) {
				return boltseal.Promising
			}
		}
	}
	if !named {
		return boltseal.Unstated
	}
	return boltseal.Unpromising
}

// eachThumbprint visits the SHA-256 fingerprints in a list of hexadecimal strings,
// whatever stands between them, in one pass and without allocation.
func eachThumbprint(list string) iter.Seq[[sha256.Size]byte] {
	return func(yield func([sha256.Size]byte) bool) {
		var print [sha256.Size]byte
		digits := 0
		for i := range len(list) {
			value, ok := hexDigit(list[i])
			if !ok {
				digits = 0
				continue
			}
			print[digits/2] = print[digits/2]<<4 | value
			if digits++; digits == 2*len(print) {
				if digits = 0; !yield(print) {
					return
				}
			}
		}
	}
}

// hexDigit is the value of a hexadecimal digit.
func hexDigit(c byte) (value byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
