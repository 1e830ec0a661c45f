package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
)

// serveBare is the floor: a net/http handler that decodes the request and answers the
// bytes that the server under test answered to the same request, or, without one,
// admits whatever it decodes.
func serveBare(ctx context.Context, fs *flag.FlagSet, args []string) error {
	listen := fs.String("listen", "127.0.0.1:0", "address")
	upstream := fs.String("upstream", "", "URL of the server under test, asked once for each request that is new; none = every review is answered by allowed")
	withTLS := fs.Bool("tls", false, "answer over TLS")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var mu sync.RWMutex
	answers := map[string][]byte{}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // our own server on loopback
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if strings.HasPrefix(r.URL.Path, "/admission") {
			var rv admissionv1.AdmissionReview
			err = json.Unmarshal(body, &rv)
		} else {
			var q struct {
				APIVersion, Kind string
				Request          struct{ Keys []string }
			}
			err = json.Unmarshal(body, &q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.RLock()
		a, ok := answers[string(body)]
		mu.RUnlock()
		switch {
		case ok:
		case *upstream == "":
			a = []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u","allowed":true}}`)
		default:
			resp, err := client.Post(*upstream+r.URL.Path, "application/json", bytes.NewReader(body))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			a, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			mu.Lock()
			answers[string(body)] = a
			mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(a)
	})
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintln(os.Stdout, "ready", l.Addr())
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if *withTLS {
		t, err := tlsfiles.SelfSigned([]string{"127.0.0.1"}, "", time.Now())
		if err != nil {
			return err
		}
		srv.TLSConfig = t.Config()
		_ = srv.ServeTLS(l, "", "")
		return nil
	}
	_ = srv.Serve(l)
	return nil
}
