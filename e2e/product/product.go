// Package product builds Boltseal from this checkout and runs it in a cluster of the kit, with its own rights.
package product

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/process"
	"github.com/boltseal/boltseal/e2e/render"
)

const (
	// Namespace and Account are Boltseal's in the cluster.
	Namespace = "boltseal-system"
	Account   = "boltseal"
	// module is Boltseal's.
	module = "github.com/boltseal/boltseal"
	// readyTimeout bounds Ready.
	readyTimeout = 2 * time.Minute
	pollEvery    = 20 * time.Millisecond
	// ShutdownTimeout is how long a replica waits for clients that hold connections, where nothing is lost that a test
	// would miss.
	ShutdownTimeout = "3s"
)

// Root is the folder of Boltseal's module. The working folder must be in the module of this package.
func Root(ctx context.Context) (string, error) {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", module)
	return strings.TrimSpace(root), err
}

// Tags are those of a release, as the Makefile has them.
const Tags = "grpcnotrace"

// Build builds the program into a folder and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	root, err := Root(ctx)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "boltseal")
	if _, err := output(ctx, root, "go", "build", "-tags", Tags, "-o", binary, "./cmd/boltseal"); err != nil {
		return "", err
	}
	return binary, nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// Rights are the ServiceAccount and its rights as the chart gives them with these values, and the namespaces they
// are in.
func Rights(ctx context.Context, values ...string) (string, error) {
	root, err := Root(ctx)
	if err != nil {
		return "", err
	}
	return render.Rights(render.Options{Chart: filepath.Join(root, "charts", "boltseal"), Release: Account, Namespace: Namespace, Values: values})
}

// Install applies the CustomResourceDefinitions, the namespace, the ServiceAccount and its rights.
func Install(ctx context.Context, c *kit.Cluster, binary string) error {
	crds, err := output(ctx, "", binary, "crds")
	if err != nil {
		return err
	}
	rights, err := Rights(ctx)
	if err != nil {
		return err
	}
	return c.Apply(ctx, rights, crds)
}

// Options say how to run a replica.
type Options struct {
	// Name is that of the process and of its log. Empty: boltseal.
	Name string
	// ClientCA, in PEM, is who may ask. Empty: whoever can reach the port.
	ClientCA []byte
	// Args are added to the flags.
	Args []string
}

// Server is a running replica.
type Server struct {
	URL             string // https
	CA              []byte // of its certificate, in PEM
	Health, Metrics string // http
	Process         *process.Process
}

// Start runs a replica that serves TLS on the loopback interface and reads the cluster's resources, with the
// rights of Install. It returns when the replica listens, and does not wait for it to be ready.
func Start(ctx context.Context, c *kit.Cluster, binary string, o Options) (*Server, error) {
	if o.Name == "" {
		o.Name = "boltseal"
	}
	config, err := c.ServiceAccountConfig(ctx, Namespace, Account)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir(), o.Name+".d")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := kit.WriteKubeconfig(kubeconfig, config); err != nil {
		return nil, err
	}
	ca, err := kit.NewCA("boltseal", nil)
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(kit.ForServer, pkix.Name{CommonName: "boltseal"}, "127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--kubeconfig", kubeconfig, "--tls-cert", filepath.Join(dir, "tls.crt"), "--tls-key", filepath.Join(dir, "tls.key")}
	files := map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key}
	if len(o.ClientCA) > 0 {
		files["client-ca.crt"] = o.ClientCA
		args = append(args, "--client-ca", filepath.Join(dir, "client-ca.crt"))
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	s := &Server{CA: ca.PEM()}
	args = append(args, "--listen", AnyPort, "--health-listen", AnyPort, "--metrics-listen", AnyPort, "--shutdown-timeout", ShutdownTimeout, "--audit-log", filepath.Join(dir, "audit.jsonl"))
	return s, s.run(ctx, c, process.Spec{Name: o.Name, Path: binary, Args: append(args, o.Args...)}, Main, Health, Metrics)
}

// run starts the process, and waits until it has said where it listens for each of what.
func (s *Server) run(ctx context.Context, c *kit.Cluster, spec process.Spec, what ...string) (err error) {
	offset := LogSize(c.LogFile(spec.Name))
	if s.Process, err = c.Run(spec); err != nil || len(what) == 0 {
		return err
	}
	at, err := Listening(ctx, s.Process, offset, what...)
	if err != nil {
		return err
	}
	for _, w := range what {
		switch w {
		case Main:
			s.URL = "https://" + at[w]
		case Health:
			s.Health = "http://" + at[w]
		case Metrics:
			s.Metrics = "http://" + at[w]
		}
	}
	return nil
}

// Ready waits until the replica says that it is.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := s.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.Process.Exited():
			return s.Process.Err()
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("boltseal was not ready after %s: %w", readyTimeout, err), ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

func (s *Server) probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Health+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return fmt.Errorf("%s: %s", resp.Status, text)
}
