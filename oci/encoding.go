package oci

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/boltseal/boltseal"
)

// readBody reads an answer whose size nobody promised, and takes off the encoding that
// some servers add though nobody asks for one (RFC 9110, section 8.4): digests are of
// what is below it. limit is in bytes, of what was sent and of what is returned.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	b, err := readAll(resp, limit)
	if err != nil {
		return nil, err
	}
	coding := strings.ToLower(strings.TrimSpace(strings.Join(resp.Header.Values("Content-Encoding"), ", ")))
	var open func() (io.Reader, error)
	switch coding {
	case "", "identity":
		return b, nil
	case "gzip", "x-gzip":
		open = func() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(b)) }
	case "deflate":
		open = func() (io.Reader, error) {
			// The name means zlib's format; some send what is in it only.
			if z, err := zlib.NewReader(bytes.NewReader(b)); err == nil {
				return z, nil
			}
			return flate.NewReader(bytes.NewReader(b)), nil
		}
	default:
		return nil, advise(fmt.Errorf("%w: it is encoded as %.40q, which nobody asked for", boltseal.ErrUnusable, coding),
			"let the registry, or the proxy before it, send its content without a Content-Encoding, or as gzip")
	}
	in, err := open()
	var out []byte
	if err == nil {
		out, err = io.ReadAll(io.LimitReader(in, limit+1))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: it says that it is encoded as %.40q, and is not: %v", boltseal.ErrUnusable, coding, err)
	case int64(len(out)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", boltseal.ErrLimit, limit)
	}
	return out, nil
}
