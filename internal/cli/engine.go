package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/strict"
	"github.com/boltseal/boltseal/oci"
)

// layoutHost stands for the host of images in a layout, which have none.
const layoutHost = "oci-layout.local"

// verifier answers for one configuration.
type verifier struct {
	compiled  *compile.Compiled
	namespace string
	layout    *oci.Layout
	layoutDir string
}

func newVerifier(_ context.Context, env Env, f verifyFlags) (*verifier, error) {
	sources, err := readSources(env, f.config)
	if err != nil {
		return nil, err
	}
	v := &verifier{namespace: f.namespace, layoutDir: f.layout}
	deps := env.deps()
	if f.layout != "" {
		if v.layout, err = oci.OpenLayout(f.layout, oci.Limits{}); err != nil {
			return nil, err
		}
		deps.Layout = v.layout
	}
	if v.compiled, err = compileSources(sources, deps); err != nil {
		return nil, err
	}
	for _, w := range v.compiled.Warnings {
		fmt.Fprintln(env.Stderr, "warning:", w)
	}
	return v, nil
}

func (env Env) deps() compile.Deps {
	return compile.Deps{
		UserAgent: "boltseal/" + env.version().Version,
		DockerConfig: func(path string) oci.CredentialSource {
			return credential.NewDocker(credential.DockerOptions{Path: path, Getenv: env.Getenv})
		},
	}
}

func compileSources(sources []compile.Source, deps compile.Deps) (*compile.Compiled, error) {
	set, err := compile.Decode(sources)
	if err != nil {
		return nil, configError{err}
	}
	c, err := set.Compile(deps)
	if err != nil {
		return nil, configError{err}
	}
	return c, nil
}

// configError lists what is wrong with a configuration.
type configError struct{ err error }

func (e configError) Error() string {
	var ps strict.Problems
	if errors.As(e.err, &ps) && len(ps) > 1 {
		return fmt.Sprintf("the configuration has %d problems:\n%s", len(ps), e.err)
	}
	return "the configuration: " + e.err.Error()
}

func (e configError) Unwrap() error { return e.err }

func readSources(env Env, files []string) ([]compile.Source, error) {
	var sources []compile.Source
	for _, name := range files {
		in := env.Stdin
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		} else {
			name = "(standard input)"
		}
		b, err := io.ReadAll(io.LimitReader(in, strict.MaxBytes+1))
		if err != nil {
			return nil, err
		}
		sources = append(sources, compile.Source{Name: name, Data: b})
	}
	return sources, nil
}

func (v *verifier) close() {
	v.compiled.Close()
	if v.layout != nil {
		_ = v.layout.Close()
	}
}

func (v *verifier) verify(ctx context.Context, image string) (boltseal.Result, error) {
	e := v.compiled.EngineFor(v.namespace)
	if e == nil {
		return boltseal.Result{}, fmt.Errorf("%w: no Store or no Verifier is there for the namespace %q", boltseal.ErrConfiguration, v.namespace)
	}
	if v.layout == nil {
		return e.Verify(ctx, image)
	}
	r, err := e.Verify(ctx, v.inLayout(image))
	if err == nil {
		r.Image = image
	}
	return r, err
}

// inLayout makes a reference of TAG, DIGEST, DIR:TAG and DIR@DIGEST. The
// repository is what trust policies see: oci-layout.local/image.
func (v *verifier) inLayout(image string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(image, v.layoutDir), strings.TrimSuffix(v.layoutDir, "/"))
	sep := ":"
	switch {
	case strings.HasPrefix(rest, "@"), strings.HasPrefix(rest, ":") && rest != image:
		sep, rest = rest[:1], rest[1:]
	case strings.Contains(rest, ":"): // a digest
		sep = "@"
	}
	return layoutHost + "/image" + sep + rest
}
