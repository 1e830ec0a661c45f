package testregistry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Ready is the line that [Serve] writes when the registry answers.
type Ready struct {
	Host  string `json:"host"`
	URL   string `json:"url"`
	CAPEM string `json:"ca,omitempty"` // to trust for TLS
	// TrustRootPEM is the root to trust for the seeded signatures.
	TrustRootPEM string `json:"trustRoot,omitempty"`
	// Images are the seeded images by tag, Digests the same by digest.
	Images  []string `json:"images,omitempty"`
	Digests []string `json:"digests,omitempty"`
}

// Serve runs a registry until the context ends, for a process of its own. It
// fills it first and then writes one line of JSON, a [Ready], to ready. An
// ended context is no error.
func Serve(ctx context.Context, o Options, seed SeedOptions, ready io.Writer) error {
	r, err := Start(o)
	if err != nil {
		return err
	}
	defer r.Close()
	line := Ready{Host: r.Host, URL: r.URL, CAPEM: string(r.CAPEM())}
	if seed.Images > 0 {
		seeded, err := r.Seed(ctx, seed)
		if err != nil {
			return err
		}
		line.TrustRootPEM = string(seeded.Chain.Root().PEM())
		for _, i := range seeded.Images {
			line.Images = append(line.Images, r.Ref(i.Repository, i.Tag))
			line.Digests = append(line.Digests, r.Pinned(i.Repository, i.Descriptor.Digest))
		}
	}
	if err := json.NewEncoder(ready).Encode(line); err != nil {
		return fmt.Errorf("testregistry: announcing the registry: %w", err)
	}
	<-ctx.Done()
	return nil
}
