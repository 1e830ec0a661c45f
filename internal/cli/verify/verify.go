package verify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// Limits on what verify is given.
const (
	maxImages      = 100_000
	maxConcurrency = 256
)

type verifyFlags struct {
	config      []string
	layout      string
	imagesFrom  string
	namespace   string
	output      frame.OutputFlag
	timeout     time.Duration
	concurrency int
	platforms   []string
	allOfIndex  bool
}

// imageResult is one image's answer, as -o json prints it.
type imageResult struct {
	boltseal.Result
}

// report is what -o json and -o yaml print.
type report struct {
	Results []imageResult `json:"results"`
	// Warnings are about the configuration.
	Warnings []string `json:"warnings,omitempty"`
}

func newVerify(env frame.Env) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [--config FILE]... REF...",
		Short: "Say whether images are trusted, and why",
		Long: `Verify images by the configuration you apply to a cluster: CertificateStore,
KeyManagementProvider, Store, Verifier and Policy documents, in one file or in
several. Each REF is what you write in a Pod.

The first trusted signature settles an image. Nothing is written anywhere.`,
		Example: `    boltseal verify --config verify-config.yaml nginx ghcr.io/acme/app:v1.2
    boltseal verify --config verify-config.yaml registry.example:5000/app@sha256:4f5…
    boltseal verify --config verify-config.yaml --oci-layout ./images v1.2 sha256:4f5…
    boltseal verify --config verify-config.yaml --platform linux/amd64,linux/arm64 nginx
    kubectl get pods -A -o jsonpath='{.items[*].spec.containers[*].image}' |
      tr ' ' '\n' | sort -u | boltseal verify --config verify-config.yaml --images-from -`,
		GroupID: "verify",
		Annotations: frame.ExitCodes("all images are trusted",
			"at least one image is not trusted, and none is unknown",
			"an image is unknown or no valid reference, or the command failed"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd, env, f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.config, "config", "c", nil, "YAML `FILE` with the configuration, - for standard input; may be repeated (default $BOLTSEAL_CONFIG)")
	fl.StringVar(&f.layout, "oci-layout", "", "read images from the OCI layout in `DIR`; each REF is then a TAG, a DIGEST, DIR:TAG or DIR@DIGEST")
	fl.StringVar(&f.imagesFrom, "images-from", "", "read further REFs from `FILE`, one a line, - for standard input")
	fl.StringVarP(&f.namespace, "namespace", "n", "", "verify as a Pod in namespace `NAME` would be. Namespaced resources that name no namespace are\nin it, as with kubectl apply -n")
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "`DURATION`: time for one image")
	fl.IntVar(&f.concurrency, "concurrency", 32, "`N`: images verified at a time")
	fl.StringSliceVar(&f.platforms, "platform", nil, "ask that of an image index the manifests for `OS/ARCH[/VARIANT]` are signed, whatever the\nPolicy's multiArch is; may be repeated")
	fl.BoolVar(&f.allOfIndex, "all-platforms", false, "ask that an image index and everything in it are signed, whatever the Policy's multiArch is")
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions([]string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x",
		"linux/ppc64le", "linux/riscv64", "windows/amd64"}, cobra.ShellCompDirectiveNoFileComp))
	f.output.Register(cmd)
	return cmd
}

func runVerify(cmd *cobra.Command, env frame.Env, f verifyFlags, args []string) error {
	if len(f.config) == 0 && env.Getenv("BOLTSEAL_CONFIG") != "" {
		f.config = []string{env.Getenv("BOLTSEAL_CONFIG")}
	}
	fromStdin := 0
	for _, name := range append(slices.Clone(f.config), f.imagesFrom) {
		if name == "-" {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		return frame.BadUsage(cmd, "standard input can be read once only: give --config and --images-from one - between them")
	}
	images, err := readImages(env, f.imagesFrom, args)
	switch {
	case err != nil:
		return err
	case len(images) == 0:
		return frame.BadUsage(cmd, "no image: name at least one REF")
	case f.concurrency < 1 || f.concurrency > maxConcurrency:
		return frame.BadUsage(cmd, "--concurrency must be between 1 and %d", maxConcurrency)
	case f.timeout <= 0:
		return frame.BadUsage(cmd, "--timeout must be positive")
	case len(f.config) == 0:
		return frame.BadUsage(cmd, "no configuration: name a file with --config")
	}
	demand, err := f.multiArch()
	if err != nil {
		return frame.BadUsage(cmd, "%s", strings.TrimPrefix(err.Error(), "configuration: "))
	}
	v, err := newVerifier(cmd.Context(), env, f)
	if err != nil {
		return err
	}
	defer v.close()
	v.multiArch = demand
	results := verifyAll(cmd.Context(), env, v, f, images)
	if f.output.IsData() {
		err = f.output.Encode(env.Stdout, report{results, v.warnings})
	} else {
		err = writeResults(env.Stdout, frame.Style(env.Colour(env.Stdout)), results)
	}
	if err != nil {
		return err
	}
	return exitFor(results)
}

// multiArch is what the flags ask of images of several platforms; the zero value
// leaves it to the Policy.
func (f verifyFlags) multiArch() (m boltseal.MultiArch, err error) {
	switch {
	case f.allOfIndex && len(f.platforms) > 0:
		return m, errors.New("--platform and --all-platforms exclude one another")
	case f.allOfIndex:
		m.Demand = boltseal.Whole
	case len(f.platforms) > 0:
		m.Demand = boltseal.EachPlatform
	}
	for _, text := range f.platforms {
		p, err := boltseal.ParsePlatform(text)
		if err != nil {
			return m, err
		}
		m.Platforms = append(m.Platforms, p)
	}
	return m, m.Validate()
}

// exitFor is 0 where all are trusted, 2 where one is unknown, else 1.
func exitFor(results []imageResult) error {
	code := frame.ExitTrusted
	for _, r := range results {
		switch {
		case r.Decision == boltseal.Unknown || r.Reason.Cause == boltseal.CauseInvalidReference:
			return frame.ExitError(frame.ExitUnknown)
		case r.Decision != boltseal.Allow:
			code = frame.ExitNotTrusted
		}
	}
	if code == frame.ExitTrusted {
		return nil
	}
	return frame.ExitError(code)
}

// verifyAll answers in the order of the question.
func verifyAll(ctx context.Context, env frame.Env, v *verifier, f verifyFlags, images []string) []imageResult {
	results := make([]imageResult, len(images))
	var next, done atomic.Int64
	stop := showProgress(env, f.output, len(images), &done)
	var wg sync.WaitGroup
	for range min(f.concurrency, len(images)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(images)); i = next.Add(1) - 1 {
				results[i] = verifyOne(ctx, v, f.timeout, images[i])
				done.Add(1)
			}
		})
	}
	wg.Wait()
	stop()
	return results
}

func verifyOne(ctx context.Context, v *verifier, timeout time.Duration, image string) imageResult {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := v.verify(ctx, image)
	if err != nil {
		r = boltseal.Result{Reason: boltseal.ReasonOf(err), Findings: boltseal.Findings{Image: image}}
	}
	return imageResult{r}
}

// showProgress writes a counter to a terminal while many images are verified.
func showProgress(env frame.Env, output frame.OutputFlag, total int, done *atomic.Int64) (stop func()) {
	const showFrom = 2 * time.Second
	if output.IsData() || !env.Colour(env.Stderr) {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		shown := false
		for waited := time.Duration(0); ; waited += 200 * time.Millisecond {
			select {
			case <-quit:
				if shown {
					fmt.Fprint(env.Stderr, "\r\x1b[K")
				}
				return
			case <-tick.C:
				if waited >= showFrom {
					shown = true
					fmt.Fprintf(env.Stderr, "\rverified %d of %d", done.Load(), total)
				}
			}
		}
	}()
	return func() { close(quit); <-ended }
}

func readImages(env frame.Env, from string, args []string) ([]string, error) {
	images := args
	if from == "" {
		return images, nil
	}
	in := env.Stdin
	if from != "-" {
		file, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 4096), 2*boltseal.MaxReferenceLength)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if images = append(images, line); len(images) > maxImages {
			return nil, fmt.Errorf("more than %d images", maxImages)
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%s: line %d is too long for an image reference", from, len(images)+1)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return images, nil
}
