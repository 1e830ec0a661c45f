package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/demo"
)

func newDemo(env Env) *cobra.Command {
	var keep bool
	var listen, dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: sign images in a registry of its own and verify them",
		Long: `Start an OCI registry on loopback, make a signing CA, push images that are
signed well, badly or not at all, and verify them by the same path as 'verify'.
No network, cluster or configuration is needed.`,
		GroupID: "verify",
		Args:    usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), env, keep, listen, dir)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the registry up, and write the configuration to try by hand")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "loopback `ADDRESS` of the registry")
	cmd.Flags().StringVar(&dir, "dir", "", "with --keep: the `DIR` for the configuration file (default a new one in the system's folder for temporary files)")
	return cmd
}

func runDemo(ctx context.Context, env Env, keep bool, listen, dir string) error {
	d, err := demo.Start(demo.RegistryOptions{Listen: listen}, time.Now())
	if err != nil {
		return err
	}
	defer d.Close()
	compiled, err := compileSources([]compile.Source{{Name: "demo.yaml", Data: d.Config}}, env.deps())
	if err != nil {
		return err
	}
	defer compiled.Close()
	fmt.Fprintf(env.Stdout, "A registry runs at %s, with %d images. Whoever the release team signed for may run.\n\n", d.Registry.Host(), len(d.Images))
	wrong, err := demoVerdicts(ctx, env, d, compiled)
	if err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d verdicts are not what they should be", wrong, len(d.Images))
	}
	fmt.Fprintf(env.Stdout, "\nAll %d verdicts are what they should be.\n", len(d.Images))
	if !keep {
		fmt.Fprint(env.Stdout, "\nNext, with the registry left up for you to try:\n  boltseal demo --keep\n")
		return nil
	}
	return demoKeep(ctx, env, d, dir)
}

// demoVerdicts prints each verdict beside what it should be, and counts those
// that differ.
func demoVerdicts(ctx context.Context, env Env, d *demo.Demo, compiled *compile.Compiled) (wrong int, err error) {
	st := style(env.colour(env.Stdout))
	v := &verifier{compiled: compiled}
	var rows []row
	for _, img := range d.Images {
		r := verifyOne(ctx, v, 30*time.Second, img.Reference)
		word, colour := verdict(r.Decision)
		should, _ := verdict(img.Want)
		mark := "as it should be"
		if r.Decision != img.Want || r.Decision != boltseal.Allow && r.Reason.Cause != img.Cause {
			wrong++
			mark = fmt.Sprintf("WRONG: should be %s (%s)", should, img.Cause)
		}
		out := row{cells: []string{filepath.Base(img.Reference), word, img.About, mark}, colours: []string{"", colour, "", faint},
			below: []string{st.paint(faint, printable(r.Reason.Message))}}
		if r.Decision != boltseal.Allow && r.Reason.Remedy != "" {
			out.below = append(out.below, st.paint(faint, "do: "+printable(r.Reason.Remedy)))
		}
		rows = append(rows, out)
	}
	return wrong, writeTable(env.Stdout, st, []string{"IMAGE", "VERDICT", "WHAT IT IS", ""}, rows)
}

func demoKeep(ctx context.Context, env Env, d *demo.Demo, dir string) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "boltseal-demo-"); err != nil {
			return err
		}
	}
	file := filepath.Join(dir, "demo.yaml")
	if err := os.WriteFile(file, d.Config, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "\nThe registry stays up until you press Ctrl-C. In another terminal:\n"+
		"  boltseal verify --config %[1]s %[2]s\n  boltseal verify --config %[1]s %[3]s\n  boltseal verify --config %[1]s -o json %[2]s\n",
		file, d.Images[0].Reference, d.Images[4].Reference)
	<-ctx.Done()
	return nil
}
