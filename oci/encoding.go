package oci

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/boltseal/boltseal"
)

// inflaterBytes is what it takes to inflate: a window of 32 KiB, tables, and what is
// read ahead.
const inflaterBytes = 48 << 10

// readBody reads an answer whose size nobody promised, and takes off the encoding that
// some servers add though nobody asks for one (RFC 9110, section 8.4): digests are of
// what is below it. limit is in bytes, of what was sent and of what is returned. What
// was sent is not held, and what comes out of it is counted while it does.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(resp.Header.Values("Content-Encoding"), ", ")))
	switch coding {
	case "", "identity":
		return readAll(resp, limit)
	case "gzip", "x-gzip", "deflate":
	default:
		return nil, withRemedy(fmt.Errorf("%w: it is encoded as %.40q, which nobody asked for", boltseal.ErrUnusable, coding),
			"let the registry, or the proxy before it, send its content without a Content-Encoding, or as gzip")
	}
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", boltseal.ErrLimit, resp.ContentLength, limit)
	}
	var body io.Reader = &inflated{coding: coding, sent: &sentBody{body: resp.Body, limit: limit, left: limit}}
	if held, ok := resp.Body.(*heldBody); ok {
		body = &heldBody{ReadCloser: io.NopCloser(body), ctx: held.ctx, share: held.share, beside: inflaterBytes}
	}
	b, err := readArriving(body, -1, limit)
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", boltseal.ErrLimit, limit)
	}
	return b, nil
}

// sentBody is an encoded body as it arrives. It keeps the error that ends it, so that
// a connection that fails is told from an encoding that is none.
type sentBody struct {
	body        io.Reader
	limit, left int64
	err         error
}

func (s *sentBody) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	if s.left -= int64(n); s.left < 0 {
		n, err = 0, fmt.Errorf("%w: more than %d bytes", boltseal.ErrLimit, s.limit)
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// inflated is what is in an encoded body. Nothing is made before the first byte is
// asked for, for which there is room then.
type inflated struct {
	coding string
	sent   *sentBody
	from   io.Reader
}

func (d *inflated) Read(b []byte) (n int, err error) {
	if d.from == nil {
		d.from, err = d.open()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil {
		n, err = d.from.Read(b)
	}
	switch {
	case err == nil, err == io.EOF:
		return n, err
	case d.sent.err != nil:
		return n, d.sent.err
	}
	return n, fmt.Errorf("%w: it says that it is encoded as %.40q, and is not: %v", boltseal.ErrUnusable, d.coding, err)
}

func (d *inflated) open() (io.Reader, error) {
	in := bufio.NewReader(d.sent)
	if d.coding != "deflate" {
		return gzip.NewReader(in)
	}
	// The name means zlib's format (RFC 1950, section 2.2); some send what is in it only.
	head, err := in.Peek(2)
	if err == nil && head[0]&0x0f == 8 && head[0]>>4 <= 7 && (int(head[0])<<8|int(head[1]))%31 == 0 && head[1]&0x20 == 0 {
		return zlib.NewReader(in)
	}
	return flate.NewReader(in), nil
}
