// Package payload reads what signatures say: simple signing payloads, DSSE's encoding, in-toto statements.
package payload

import (
	"strconv"
)

// InToto is the only payload type of envelopes that is read here.
const InToto = "application/vnd.in-toto+json"

// PAE is the text that an envelope's signature is over (secure-systems-lab/dsse,
// protocol.md).
func PAE(payloadType string, payload []byte) []byte {
	out := make([]byte, 0, len(payload)+len(payloadType)+40)
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(payloadType)), 10)
	out = append(out, ' ')
	out = append(out, payloadType...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, int64(len(payload)), 10)
	out = append(out, ' ')
	return append(out, payload...)
}
