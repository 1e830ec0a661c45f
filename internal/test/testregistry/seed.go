package testregistry

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// Defaults of [SeedOptions].
const (
	DefaultSeedRepository    = "bench/app"
	DefaultPerRepository     = 100
	DefaultSeededSignatures  = 1
	seededTag                = "v%d"
	seededRepositoryTemplate = "%s-%d"
)

// SeedOptions say what to fill a registry with.
type SeedOptions struct {
	// Images is how many images to push. 0 pushes none.
	Images int `json:"images"`
	// Repository is the prefix of the repositories' names. "" means
	// DefaultSeedRepository.
	Repository string `json:"repository,omitempty"`
	// PerRepository is how many images a repository holds. 0 means DefaultPerRepository.
	PerRepository int `json:"perRepository,omitempty"`
	// ImageSize is the size of the layer in bytes. 0 means DefaultImageSize.
	ImageSize int `json:"imageSize,omitempty"`
	// Signatures is how many signatures each image gets. 0 means
	// DefaultSeededSignatures, a negative number none.
	Signatures int `json:"signatures,omitempty"`
	// Key is the algorithm of the signing key, CAKey that of the CAs' keys, and
	// Intermediates how many CAs stand between root and signer, where Chain is nil.
	Key           testca.Algorithm `json:"key,omitempty"`
	CAKey         testca.Algorithm `json:"caKey,omitempty"`
	Intermediates int              `json:"intermediates,omitempty"`
	// Chain signs. Nil means a new one.
	Chain *testca.Chain `json:"-"`
	// DistinctLeaves signs every image with a certificate of its own.
	DistinctLeaves bool `json:"distinctLeaves,omitempty"`
	// Sign is how to sign.
	Sign testca.SignOptions `json:"-"`
	// Workers is how many images are signed at a time. 0 means one per CPU.
	Workers int `json:"workers,omitempty"`
}

// Seeded is what a registry was filled with.
type Seeded struct {
	Chain  *testca.Chain
	Images []SeededImage
}

// SeededImage is one image.
type SeededImage struct {
	Repository, Tag string
	Descriptor      ocispec.Descriptor
	Signatures      []ocispec.Descriptor
}

// Seed fills the registry with signed images, in parallel.
func (r *Registry) Seed(ctx context.Context, o SeedOptions) (Seeded, error) {
	o, err := o.complete()
	if err != nil {
		return Seeded{}, err
	}
	out := Seeded{Chain: o.Chain, Images: make([]SeededImage, o.Images)}
	// Images are made in order, so that their digests are the same each time.
	for i := range out.Images {
		repo, tag := fmt.Sprintf(seededRepositoryTemplate, o.Repository, i/o.PerRepository), fmt.Sprintf(seededTag, i)
		out.Images[i] = SeededImage{Repository: repo, Tag: tag, Descriptor: r.PushImage(repo, tag, o.ImageSize)}
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range o.Workers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < o.Images; i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := r.seedSignatures(&out.Images[i], o); err != nil {
					return fmt.Errorf("testregistry: seeding image %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return out, group.Wait()
}

func (r *Registry) seedSignatures(image *SeededImage, o SeedOptions) error {
	chain := o.Chain
	if o.DistinctLeaves {
		var err error
		if chain, err = chain.IssueLeaf(testca.Spec{Key: o.Key}); err != nil {
			return err
		}
	}
	for range o.Signatures {
		a, err := chain.Attach(image.Descriptor, o.Sign)
		if err != nil {
			return err
		}
		image.Signatures = append(image.Signatures, r.PushArtifact(image.Repository, a))
	}
	return nil
}

func (o SeedOptions) complete() (SeedOptions, error) {
	if o.Repository == "" {
		o.Repository = DefaultSeedRepository
	}
	o.PerRepository = orInt(o.PerRepository, DefaultPerRepository)
	o.Signatures = orInt(o.Signatures, DefaultSeededSignatures)
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Chain != nil {
		return o, nil
	}
	opts := testca.Options{Leaf: testca.Spec{Key: o.Key}, Root: testca.Spec{Key: o.CAKey}}
	for range o.Intermediates {
		opts.Intermediates = append(opts.Intermediates, testca.Spec{Key: o.CAKey})
	}
	var err error
	o.Chain, err = testca.New(opts)
	return o, err
}
