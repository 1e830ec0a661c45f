package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxAnswer bounds what is read of an answer to Gatekeeper's question, in bytes.
const maxAnswer = 1 << 20

// gatekeeper looks at the Provider, and asks what it names as Gatekeeper does.
func (x *clusterCheck) gatekeeper(ctx context.Context, o Options) {
	subject := "Provider " + x.o.Provider
	u, err := x.get(ctx, schema.GroupVersionKind{Group: "externaldata.gatekeeper.sh", Version: "v1beta1", Kind: "Provider"}, "", x.o.Provider)
	switch {
	case err != nil:
		x.failed(AreaGatekeeper, subject, err)
		return
	case u == nil:
		return
	}
	bundle, _, _ := unstructured.NestedString(u.Object, "spec", "caBundle")
	if !x.bundle(AreaGatekeeper, subject, bundle) {
		return
	}
	url, _, _ := unstructured.NestedString(u.Object, "spec", "url")
	x.out = append(x.out, askProvider(ctx, subject, url, bundle, o))
}

// providerAnswer is what matters here of a ProviderResponse.
type providerAnswer struct {
	Kind     string `json:"kind"`
	Response *struct {
		SystemError string            `json:"systemError"`
		Items       []json.RawMessage `json:"items"`
	} `json:"response"`
}

// askProvider asks a provider of external data as Gatekeeper does: by TLS, trusting
// the CAs of the Provider's caBundle and nobody else, with a ProviderRequest.
func askProvider(ctx context.Context, subject, url, bundle string, o Options) Finding {
	f := Finding{Area: AreaGatekeeper, Subject: subject}
	body, err := json.Marshal(map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest",
		"request": map[string]any{"keys": append([]string{}, o.Images...)}})
	if err != nil {
		f.Message = err.Error()
		return f
	}
	pem, _ := base64.StdEncoding.DecodeString(bundle)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, Time: o.Clock}, TLSHandshakeTimeout: o.Timeout}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: o.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		f.Message, f.Remedy = "its url cannot be asked: "+err.Error(), "write https://SERVICE.NAMESPACE:PORT/PATH"
		return f
	}
	req.Header.Set("Content-Type", "application/json")
	begin := o.Clock()
	resp, err := c.Do(req)
	if err != nil {
		return unreachedProvider(f, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var answer providerAnswer
	switch {
	case err != nil:
		f.Message, f.Remedy = "its answer broke off: "+err.Error(), "see what Boltseal logs"
	case resp.StatusCode == http.StatusUnauthorized:
		f.Level, f.Message = OK, "it answers, and only to whoever shows Gatekeeper's certificate, which was not shown here"
	case json.Unmarshal(data, &answer) != nil || answer.Kind != "ProviderResponse" || answer.Response == nil:
		f.Message, f.Remedy = fmt.Sprintf("what answers at %s is no provider of external data (HTTP %d)", url, resp.StatusCode), "correct the path in the Provider's url: Boltseal's is /ratify/gatekeeper/v2/verify"
	case answer.Response.SystemError != "":
		f.Message, f.Remedy = "it answers Gatekeeper with an error: "+answer.Response.SystemError, "see what Boltseal logs"
	case len(answer.Response.Items) != len(o.Images):
		f.Message, f.Remedy = fmt.Sprintf("it was asked about %d images, and answered about %d", len(o.Images), len(answer.Response.Items)), "see what Boltseal logs"
	default:
		f.Level, f.Message = OK, fmt.Sprintf("asked as Gatekeeper asks, it answers in %s", o.Clock().Sub(begin).Round(time.Millisecond))
	}
	return f
}

// unreachedProvider says why a provider could not be asked. What is not to be reached from
// here may well be reached by Gatekeeper.
func unreachedProvider(f Finding, err error) Finding {
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		f.Message, f.Remedy = "no CA in its caBundle issued the certificate that Boltseal shows: Gatekeeper cannot ask it", "let Boltseal write the caBundle (serve --gatekeeper-provider), or copy the CA of its serving certificate"
	case errors.As(err, &host), errors.As(err, &invalid):
		f.Message, f.Remedy = "Gatekeeper cannot trust the certificate that Boltseal shows: "+err.Error(), "make the url's host a name of the serving certificate, or let Boltseal make the certificate"
	case errors.As(err, &dns):
		f.Level, f.Message, f.Remedy = Unknown, "it was not asked: the host of its url has no address from here", "ask from inside the cluster: kubectl exec into a Pod of Boltseal's, and run boltseal doctor there"
	default:
		f.Level, f.Message, f.Remedy = Unknown, "it could not be asked from here: "+err.Error(), "ask from inside the cluster: kubectl exec into a Pod of Boltseal's, and run boltseal doctor there"
	}
	return f
}
