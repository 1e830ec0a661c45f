package input

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// RegisterLentTo has a flag say what compile.Deps.LentTo is.
func RegisterLentTo(fl *pflag.FlagSet, to *[]string) {
	fl.StringSliceVar(to, "lend-identity-to", nil, "`NAMESPACES` whose own Stores may use Boltseal's identity in a cloud, and so read whatever it may")
}

// RegisterDrivers has a flag name CSI drivers that mount images; see ParseDrivers.
func RegisterDrivers(fl *pflag.FlagSet, to *[]string) {
	fl.StringSliceVar(to, "csi-image-drivers", nil, "`DRIVER=ATTRIBUTE` of CSI drivers that mount images as inline volumes, and the volumeAttribute that names the image, beside those that are known")
}

// ParseDrivers reads what [RegisterDrivers] has a flag say.
func ParseDrivers(list []string) (integrity.Drivers, error) {
	d, err := integrity.ParseDrivers(list)
	if err != nil {
		return nil, fmt.Errorf("--csi-image-drivers %w", err)
	}
	return d, nil
}

// CompileDeps returns what a configuration is compiled with outside of a cluster: the environment's credentials, and nothing else.
func CompileDeps(env frame.Env) compile.Deps {
	return compile.Deps{
		UserAgent: "boltseal/" + env.Build().Version,
		Cloud:     keys.Env{Getenv: env.Getenv},
		DockerConfig: func(path string) oci.CredentialSource {
			return credential.NewDocker(credential.DockerOptions{Path: path, Getenv: env.Getenv})
		},
	}
}

// CompileSources compiles a configuration, with the certificates that its providers
// have now.
func CompileSources(ctx context.Context, env frame.Env, sources []compile.Source, deps compile.Deps) (*compile.Compiled, error) {
	set, err := compile.Decode(sources)
	if err == nil { // otherwise Compile tells what Decode found, and nothing is asked
		if deps.Keys, err = FetchKeys(ctx, env, nil, set.Wants()); err != nil {
			return nil, err
		}
	}
	c, err := set.Compile(deps)
	if err != nil {
		return nil, ConfigurationError{Err: err}
	}
	return c, nil
}

// ConfigurationError lists what is wrong with a configuration.
type ConfigurationError struct{ Err error }

// Error implements error.
func (e ConfigurationError) Error() string {
	var ps strict.Problems
	if errors.As(e.Err, &ps) && len(ps) > 1 {
		return fmt.Sprintf("the configuration has %d problems:\n%s", len(ps), e.Err)
	}
	return "the configuration: " + e.Err.Error()
}

// Unwrap returns the problems.
func (e ConfigurationError) Unwrap() error { return e.Err }
