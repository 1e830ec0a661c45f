package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// rootsFile has the root of the first image's signer.
const rootsFile = "root.pem"

// serveRegistry serves images, each signed once, and writes what a load needs to a
// folder: config.yaml, and images.txt with a digest reference a line.
func serveRegistry(ctx context.Context, fs *flag.FlagSet, args []string) error {
	n := fs.Int("images", 500, "number of images")
	dir := fs.String("dir", "", "folder for config.yaml and images.txt")
	chains := fs.String("chains", "distinct", "distinct: a chain of three for each image; leaf: one CA, a leaf for each image; shared: one signer")
	repos := fs.Int("repositories", 1, "number of repositories that the images are spread over")
	signatures := fs.Int("signatures", 1, "signatures of each image")
	tagSchema := fs.Bool("tag-schema", false, "without the referrers API")
	hang := fs.Int("hang", -1, "number of the image whose referrers are never listed")
	latency := fs.Duration("latency", 0, "delay of each answer")
	more := fs.String("roots", "", "file with a root that config.yaml trusts too, as another registry wrote it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	reg, err := testregistry.Start(testregistry.Options{Latency: *latency, MaxLog: -1, NoReferrersAPI: *tagSchema})
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
				image := reg.PushImage(repo, fmt.Sprintf("v%d", i), 0)
				signer, err := s.signer(i)
				for range *signatures {
					if err != nil {
						break
					}
					err = signImage(reg, repo, image, signer)
				}
				if err != nil {
					errs <- err
					return
				}
				roots[i] = string(signer.Root().PEM())
				images[i] = reg.Pinned(repo, image.Digest)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	if *hang >= 0 && *hang < len(images) {
		_, digest, _ := strings.Cut(images[*hang], "@")
		reg.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers, Target: digest})
	}
	if err := os.WriteFile(filepath.Join(*dir, rootsFile), []byte(roots[0]), 0o644); err != nil {
		return err
	}
	if *more != "" {
		b, err := os.ReadFile(*more)
		if err != nil {
			return err
		}
		roots = append(roots, string(b))
	}
	if err := os.WriteFile(filepath.Join(*dir, "config.yaml"), trustConfig(roots), 0o644); err != nil {
		return err
	}
	// The list comes last: whoever waits for it finds everything.
	if err := os.WriteFile(filepath.Join(*dir, "images.txt"), []byte(strings.Join(images, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Println("ready", reg.Host)
	<-ctx.Done()
	return nil
}

func signImage(reg *testregistry.Registry, repo string, image ocispec.Descriptor, by *testca.Chain) error {
	a, err := by.Attach(image, testca.SignOptions{})
	if err == nil {
		reg.PushArtifact(repo, a)
	}
	return err
}

// seed makes signers by the way of sharing that was asked for.
type seed struct {
	kind   string
	shared *testca.Chain
}

func newSeed(kind string) (*seed, error) {
	switch kind {
	case "distinct", "leaf", "shared":
	default:
		return nil, fmt.Errorf("-chains %q is not distinct, leaf or shared", kind)
	}
	c, err := newChain("bench")
	return &seed{kind: kind, shared: c}, err
}

// newChain is P-256, with one CA between root and leaf.
func newChain(name string) (*testca.Chain, error) {
	return testca.New(testca.Options{Leaf: testca.Spec{CommonName: name}, Intermediates: []testca.Spec{{CommonName: name + " CA"}}, Root: testca.Spec{CommonName: name + " root"}})
}

func (s *seed) signer(i int) (*testca.Chain, error) {
	switch s.kind {
	case "distinct":
		return newChain(fmt.Sprintf("signer %d", i))
	case "leaf":
		return s.shared.IssueLeaf(testca.Spec{CommonName: fmt.Sprintf("signer %d", i)})
	}
	return s.shared, nil
}

// trustConfig trusts the roots, spread over providers that each hold a bounded number.
func trustConfig(roots []string) []byte {
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
---
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata:
  name: bench
spec: {}
`)
}
