package oci

import (
	"io"
	"net/http"

	"github.com/boltseal/boltseal"
)

// headerTraceParent is how a registry learns of the trace that a request is a part of
// (W3C Trace Context, section 3.2). It has an id and nothing else.
const headerTraceParent = "Traceparent"

// observedRoundTrip asks once, and tells the observer of the request's context: the
// step ends with the answer's body. Only the registry itself learns of the trace, no
// host that it named: what storage and token servers make of headers is not known.
func observedRoundTrip(transport http.RoundTripper, req *http.Request, isRegistry bool) (*http.Response, error) {
	ctx, end := boltseal.BeginStep(req.Context(), boltseal.Step{Stage: boltseal.StageRequest, Host: req.URL.Host, Method: req.Method})
	if value := boltseal.TraceParentOf(ctx); isRegistry && value != "" {
		req.Header = req.Header.Clone() // a redirect is followed with the same
		req.Header[headerTraceParent] = []string{value}
	}
	if boltseal.ObserverOf(ctx) == nil {
		return transport.RoundTrip(req)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		end(boltseal.Ending{Err: err})
		return nil, err
	}
	resp.Body = &observedBody{ReadCloser: resp.Body, end: end, status: resp.StatusCode}
	return resp, nil
}

// observedBody ends a step when it is closed.
type observedBody struct {
	io.ReadCloser
	end    func(boltseal.Ending)
	status int
	err    error
}

func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *observedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.end != nil {
		b.end(boltseal.Ending{Status: b.status, Err: b.err})
		b.end = nil
	}
	return err
}
