package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/boltseal/boltseal/e2e/kit"
)

// logServer is the part of a kubelet that kubectl logs needs. It asks nobody who they are.
type logServer struct {
	listener net.Listener
	server   *http.Server
}

func newLogServer(m *Machine) (*logServer, error) {
	host := m.o.Network.address(hostAddress)
	ca, err := kit.NewCA("machine", nil)
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(kit.ForServer, pkix.Name{CommonName: "system:node:" + NodeName}, host)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		file, err := m.logFile(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), r.URL.Query().Get("previous") == "true")
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		b, err := os.ReadFile(file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(b)
	})
	s := &logServer{listener: l, server: &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}}
	go func() { _ = s.server.ServeTLS(l, "", "") }()
	return s, nil
}

func (s *logServer) port() int32 { return int32(s.listener.Addr().(*net.TCPAddr).Port) }

func (s *logServer) close() error {
	if err := s.server.Shutdown(context.Background()); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// logFile is the log of a container that runs or ran; previous is that of the run before.
func (m *Machine) logFile(namespace, name, container string, previous bool) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pods {
		if p.namespace != namespace || p.name != name {
			continue
		}
		for _, c := range p.containers {
			if c.spec.Name != container {
				continue
			}
			run := c.restarted()
			if previous {
				run--
			}
			if run < 0 || c.program == "" {
				break
			}
			return c.logFile(run), nil
		}
	}
	return "", fmt.Errorf("container %s of Pod %s/%s has no such log", container, namespace, name)
}
