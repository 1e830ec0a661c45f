package verify

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
)

// layoutHost stands for the host of images in a layout, which have none.
const layoutHost = "oci-layout.local"

// verifier answers for one configuration.
type verifier struct {
	compiled  *compile.Compiled
	namespace string
	layout    *oci.Layout
	layoutDir string
	warnings  []string           // of the configuration, where they are not printed
	multiArch boltseal.MultiArch // in place of the Policy's, unless it is zero
}

func newVerifier(ctx context.Context, env frame.Env, f verifyFlags) (*verifier, error) {
	sources, err := input.ReadSources(env, f.config)
	if err != nil {
		return nil, err
	}
	for i := range sources {
		sources[i].Namespace = f.namespace
	}
	v := &verifier{namespace: f.namespace, layoutDir: f.layout}
	deps := input.CompileDeps(env)
	if f.layout != "" {
		if v.layout, err = oci.OpenLayout(f.layout, oci.Limits{}); err != nil {
			return nil, err
		}
		deps.Layout = v.layout
	}
	if v.compiled, err = input.CompileSources(ctx, env, sources, deps); err != nil {
		return nil, err
	}
	for _, w := range v.compiled.Warnings {
		if f.output.IsData() { // they are a part of it; see report
			v.warnings = append(v.warnings, w.Error())
		} else {
			fmt.Fprintln(env.Stderr, "warning:", w)
		}
	}
	return v, nil
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
		return boltseal.Result{}, fmt.Errorf("%w: no Store or no Verifier exists for the namespace %q", boltseal.ErrConfiguration, v.namespace)
	}
	if v.multiArch.Demand != "" {
		var err error
		if e, err = askingFor(e, v.multiArch); err != nil {
			return boltseal.Result{}, err
		}
	}
	if v.layout == nil {
		return e.Verify(ctx, image)
	}
	ref, err := v.inLayout(image)
	if err != nil {
		return boltseal.Result{}, err
	}
	r, err := e.Verify(ctx, ref)
	if err == nil {
		r.Image = image
	}
	return r, err
}

// askingFor returns an engine that asks something else of images of several platforms.
func askingFor(e *boltseal.Engine, m boltseal.MultiArch) (*boltseal.Engine, error) {
	o, ok := policy.OptionsOf(e.Policy())
	if !ok { // it denies, whatever is asked
		return e, nil
	}
	o.MultiArch, o.Platforms, o.Unread = m.Demand, m.Platforms, ""
	p, err := policy.New(o)
	if err != nil {
		return nil, err
	}
	return e.WithPolicy(p), nil
}

// tagGrammar is the grammar of a tag (distribution-spec 1.1, "Pulling manifests").
var tagGrammar = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// inLayout makes a reference of TAG, DIGEST, DIR:TAG, DIR@DIGEST and
// DIR:TAG@DIGEST. The repository is what trust policies see:
// oci-layout.local/image. Errors wrap [boltseal.ErrInvalidReference].
func (v *verifier) inLayout(image string) (string, error) {
	const repository = layoutHost + "/image"
	if tagGrammar.MatchString(image) {
		return repository + ":" + image, nil
	}
	if d, err := digest.Parse(image); err == nil {
		return repository + "@" + d.String(), nil
	}
	name, suffix := image, ""
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		d, err := digest.Parse(name[at+1:])
		if err != nil {
			return "", fmt.Errorf("%q is %w: after the @ there must be a digest such as sha256:4f5…, with all of its digits", image, boltseal.ErrInvalidReference)
		}
		name, suffix = name[:at], "@"+d.String()
	}
	if suffix != "" && v.isLayout(name) {
		return repository + suffix, nil
	}
	if colon := strings.LastIndexByte(name, ':'); colon >= 0 && tagGrammar.MatchString(name[colon+1:]) && v.isLayout(name[:colon]) {
		return repository + name[colon:] + suffix, nil
	}
	return "", fmt.Errorf("%q is %w: with --oci-layout, write a TAG, a DIGEST, %[3]s:TAG or %[3]s@DIGEST", image, boltseal.ErrInvalidReference, v.layoutDir)
}

// isLayout tells whether a path leads to the layout that is open.
func (v *verifier) isLayout(path string) bool {
	if path == v.layoutDir {
		return true
	}
	a, err := os.Stat(path)
	if err != nil {
		return false
	}
	b, err := os.Stat(v.layoutDir)
	return err == nil && os.SameFile(a, b)
}
