package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/boltseal/boltseal/internal/demo"
)

// registry serves images, each signed once, and writes what a load needs to a
// folder: config.yaml, and images.txt with a digest reference a line.
func registry(ctx context.Context, fs *flag.FlagSet, args []string) error {
	n := fs.Int("images", 500, "number of images")
	dir := fs.String("dir", "", "folder for config.yaml and images.txt")
	chains := fs.String("chains", "distinct", "distinct: a chain of three for each image; leaf: one CA, a leaf for each image; shared: one signer")
	repos := fs.Int("repositories", 1, "number of repositories that the images are spread over")
	latency := fs.Duration("latency", 0, "delay of each answer")
	if err := fs.Parse(args); err != nil {
		return err
	}
	delay := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if *latency > 0 {
				time.Sleep(*latency)
			}
			next.ServeHTTP(w, r)
		})
	}
	reg, err := demo.StartRegistry(demo.RegistryOptions{Wrap: delay})
	if err != nil {
		return err
	}
	defer reg.Close()
	s, err := newSeed(*chains)
	if err != nil {
		return err
	}
	images := make([]string, *n)
	roots := make([]string, *n)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for w := range 2 {
		wg.Go(func() {
			for i := w; i < *n; i += 2 {
				repo := fmt.Sprintf("bench/app%d", i%*repos)
				image, err := reg.PushImage(repo, fmt.Sprintf("v%d", i), fmt.Sprintf("image %d", i))
				if err == nil {
					var signer *demo.Cert
					if signer, err = s.signer(i); err == nil {
						roots[i] = demo.PEM(signer.Root().Certificate)
						err = reg.Sign(repo, image, signer, demo.SignOptions{})
					}
				}
				if err != nil {
					errs <- err
					return
				}
				images[i] = fmt.Sprintf("%s/%s@%s", reg.Host(), repo, image.Digest)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	if err := os.WriteFile(filepath.Join(*dir, "config.yaml"), config(roots), 0o644); err != nil {
		return err
	}
	// The list comes last: whoever waits for it finds everything.
	if err := os.WriteFile(filepath.Join(*dir, "images.txt"), []byte(strings.Join(images, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Println("ready", reg.Host())
	<-ctx.Done()
	return nil
}

// seed makes signers by the way of sharing that was asked for.
type seed struct {
	kind   string
	shared *demo.Cert
}

func newSeed(kind string) (*seed, error) {
	switch kind {
	case "distinct", "leaf", "shared":
	default:
		return nil, fmt.Errorf("-chains %q is not distinct, leaf or shared", kind)
	}
	c, err := demo.Chain("bench", demo.P256)
	return &seed{kind: kind, shared: c}, err
}

func (s *seed) signer(i int) (*demo.Cert, error) {
	switch s.kind {
	case "distinct":
		return demo.Chain(fmt.Sprintf("signer %d", i), demo.P256)
	case "leaf":
		return demo.New(demo.Template{Name: fmt.Sprintf("signer %d", i)}, s.shared.Parent)
	}
	return s.shared, nil
}

// config trusts the roots, spread over providers that each hold a bounded number.
func config(roots []string) []byte {
	const perProvider = 500
	seen := map[string]bool{}
	var distinct []string
	for _, r := range roots {
		if !seen[r] {
			seen[r] = true
			distinct = append(distinct, r)
		}
	}
	var b, names strings.Builder
	for i := 0; i < len(distinct); i += perProvider {
		fmt.Fprintf(&b, "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: KeyManagementProvider\nmetadata:\n  name: roots-%d\nspec:\n  type: inline\n  parameters:\n    value: |\n", i)
		for _, r := range distinct[i:min(i+perProvider, len(distinct))] {
			b.WriteString("      " + strings.ReplaceAll(strings.TrimSpace(r), "\n", "\n      ") + "\n")
		}
		b.WriteString("---\n")
		fmt.Fprintf(&names, "          - roots-%d\n", i)
	}
	return []byte(b.String() + `apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata:
  name: store-oras
spec:
  name: oras
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata:
  name: verifier-notation
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores:
      ca:
        bench:
` + names.String() + `    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
        - name: bench
          registryScopes: ["*"]
          signatureVerification: {level: strict}
          trustStores: ["ca:bench"]
          trustedIdentities: ["*"]
`)
}
