package verify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/demo"
	"github.com/boltseal/boltseal/internal/serve/server"
)

func newDemo(env frame.Env) *cobra.Command {
	var keep bool
	var listen, dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: sign images in a registry of its own and verify them",
		Long: `Start an OCI registry on loopback, make a signing CA, push images that are
signed well, badly or not at all, and verify them by the same path as 'verify'.
Then start the server, and ask it what a Kubernetes API server and Gatekeeper
would ask. No network, cluster or configuration is needed.`,
		Example: `    boltseal demo

  The same, and the registry and the server run until you press Ctrl-C:
    boltseal demo --keep`,
		GroupID: "verify",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), env, keep, listen, dir)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave registry and server up, and the configuration to try by hand")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "loopback `ADDRESS` of the registry")
	cmd.Flags().StringVar(&dir, "dir", "", "`DIR` for the configuration file (default a new one in the system's folder for temporary files)")
	return cmd
}

func runDemo(ctx context.Context, env frame.Env, keep bool, listen, dir string) error {
	d, err := demo.Start(demo.Options{Listen: listen, Now: time.Now()})
	if err != nil {
		return err
	}
	defer d.Close()
	file, done, err := demoConfig(d, keep, dir)
	if err != nil {
		return err
	}
	defer done()
	compiled, err := input.CompileSources(ctx, env, []compile.Source{{Name: file, Data: d.Config}}, input.CompileDeps(env))
	if err != nil {
		return err
	}
	defer compiled.Close()
	fmt.Fprintf(env.Stdout, "A registry runs at %s, with %d images. Whoever the release team signed for may run.\n\n", d.Host, len(d.Images))
	wrong, err := demoVerdicts(ctx, env, d, compiled)
	if err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d verdicts are not what they should be", wrong, len(d.Images))
	}
	fmt.Fprintf(env.Stdout, "\nAll %d verdicts are what they should be.\n", len(d.Images))
	c, err := startDemoCluster(ctx, env, file)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.show(ctx, env, d); err != nil {
		return err
	}
	if !keep {
		fmt.Fprint(env.Stdout, "\nNext, with the registry and the server left up for you to try:\n  boltseal demo --keep\n")
		return nil
	}
	return demoKeep(ctx, env, d, file, c)
}

// demoConfig writes the configuration file, to be removed unless it is kept.
func demoConfig(d *demo.Demo, keep bool, dir string) (file string, done func(), err error) {
	done = func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "boltseal-demo-"); err != nil {
			return "", nil, err
		}
		if !keep {
			done = func() { _ = os.RemoveAll(dir) }
		}
	}
	file = filepath.Join(dir, "demo.yaml")
	return file, done, os.WriteFile(file, d.Config, 0o600)
}

// demoVerdicts prints each verdict beside what it should be, and counts those
// that differ.
func demoVerdicts(ctx context.Context, env frame.Env, d *demo.Demo, compiled *compile.Compiled) (wrong int, err error) {
	st := frame.Style(env.Colour(env.Stdout))
	v := &verifier{compiled: compiled}
	var rows []frame.Row
	for _, img := range d.Images {
		r := verifyOne(ctx, v, 30*time.Second, img.Reference)
		word, colour := frame.VerdictWord(r.Decision)
		should, _ := frame.VerdictWord(img.Want)
		mark := "as it should be"
		if r.Decision != img.Want || r.Decision != boltseal.Allow && r.Reason.Cause != img.Cause {
			wrong++
			mark = fmt.Sprintf("WRONG: should be %s (%s)", should, img.Cause)
		}
		out := frame.Row{Cells: []string{filepath.Base(img.Reference), word, img.About, mark}, Colours: []string{"", colour, "", frame.Faint},
			Below: []string{st.Paint(frame.Faint, frame.SafeText(r.Reason.Message))}}
		if r.Decision != boltseal.Allow && r.Reason.Remedy != "" {
			out.Below = append(out.Below, st.Paint(frame.Faint, "do: "+frame.SafeText(r.Reason.Remedy)))
		}
		rows = append(rows, out)
	}
	return wrong, frame.WriteTable(env.Stdout, st, []string{"IMAGE", "VERDICT", "WHAT IT IS", ""}, rows)
}

func demoKeep(ctx context.Context, env frame.Env, d *demo.Demo, file string, c *demoCluster) error {
	ca := filepath.Join(filepath.Dir(file), "server.crt")
	if err := os.WriteFile(ca, c.certificate, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "\nRegistry and server stay up until you press Ctrl-C. In another terminal:\n"+
		"  boltseal verify --config %[1]s %[2]s\n  boltseal verify --config %[1]s %[3]s\n  boltseal verify --config %[1]s -o json %[2]s\n"+
		"  curl --cacert %[4]s %[5]s -d '{\"apiVersion\":\"externaldata.gatekeeper.sh/v1beta1\",\"kind\":\"ProviderRequest\",\"request\":{\"keys\":[\"%[2]s\"]}}'\n"+
		"  boltseal explain --audit-log %[6]s\n",
		file, d.Image("signed"), d.Image("unsigned"), ca, c.url+server.PathVerify, c.auditFile)
	<-ctx.Done()
	return nil
}
