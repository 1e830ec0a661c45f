package verify

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/doctor"
	"github.com/boltseal/boltseal/internal/kube/registrar"
)

type doctorFlags struct {
	config         []string
	at             input.Kubeconfig
	cluster        doctor.ClusterOptions
	images, lentTo []string
	output         frame.OutputFlag
	timeout        time.Duration
	problems       bool
}

func newDoctor(env frame.Env) *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE]... [--image REF]...",
		Short: "Find what is wrong, and say how to fix it",
		Long: `Check a configuration, and the registries that its trust policies name: is it correct,
are its certificates valid and for how long, do the registries answer and permit
reading, and is an image trusted.

Without --config, a cluster is checked. The important questions come first: does
Boltseal run, is anything required, can any image be trusted, and would a Pod be
admitted now (tried as a dry run with each --image, or with an image that runs). Then
resources and their statuses, webhooks and their CAs, Gatekeeper's Provider (asked as
Gatekeeper asks it), and the rights of Boltseal's ServiceAccount are checked. Nothing
is changed anywhere. What you may not read is reported as unknown.`,
		Example: `    boltseal doctor --config verify-config.yaml --image ghcr.io/acme/app:v1.2
    boltseal doctor
    boltseal doctor --context production -o json`,
		GroupID: "verify",
		Annotations: frame.ExitCodes("no problem; there may be warnings",
			"at least one problem",
			"no problem, but something could not be checked; or the command failed"),
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.timeout <= 0 {
				return frame.UsageFailure(cmd, errors.New("--timeout must be positive"))
			}
			return runDoctor(cmd, env, f)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.config, "config", "c", nil, "YAML `FILE` to check in place of a cluster, - for standard input; may be repeated")
	fl.StringArrayVar(&f.images, "image", nil, "verify `REF` too; may be repeated")
	input.RegisterLentTo(fl, &f.lentTo)
	f.at.Register(fl, "cluster")
	fl.StringVar(&f.cluster.Namespace, "boltseal-namespace", input.DefaultNamespace, "Boltseal's own `NAMESPACE`")
	fl.StringVar(&f.cluster.Service, "boltseal-service", "boltseal", "`NAME` of its Service")
	fl.StringVar(&f.cluster.Account, "boltseal-account", "boltseal", "`NAME` of its ServiceAccount")
	fl.StringVar(&f.cluster.Provider, "gatekeeper-provider", "ratify-provider", "`NAME` of Gatekeeper's Provider that asks it")
	fl.StringVarP(&f.cluster.TryNamespace, "namespace", "n", "default", "`NAMESPACE` in which a Pod is tried")
	fl.DurationVar(&f.timeout, "timeout", doctor.DefaultTimeout, "`DURATION`: time for one question to a registry")
	fl.BoolVar(&f.problems, "problems", false, "list only what is wrong or deserves a look")
	f.output.Register(cmd)
	return cmd
}

// findings is what -o json prints.
type findings struct {
	Findings []doctor.Finding `json:"findings"`
}

func runDoctor(cmd *cobra.Command, env frame.Env, f doctorFlags) error {
	o := doctor.Options{Images: f.images, Timeout: f.timeout}
	deps := input.CompileDeps(env)
	deps.LentTo = f.lentTo
	var found []doctor.Finding
	if len(f.config) > 0 {
		sources, err := input.ReadSources(env, f.config)
		if err != nil {
			return err
		}
		if o.Keys, err = input.KeysEnv(env, nil); err != nil {
			return err
		}
		found = doctor.Files(cmd.Context(), sources, deps, o)
	} else {
		config, err := f.at.Config(env)
		if err != nil {
			return err
		}
		o.Keys, err = input.KeysEnv(env, config)
		o.Keys.Namespace = f.cluster.Namespace
		if err != nil {
			return err
		}
		c := f.cluster
		c.Webhook, c.Lease, c.Kinds, c.Nodes = registrar.Name, controller.LeaseName, controller.Kinds(), controller.ReadNodes
		c.Compile = compile.ClusterOptions{CertificateStores: compile.CertificateStores(c.Namespace)}
		if found, err = doctor.Cluster(cmd.Context(), config, c, deps, o); err != nil {
			return fmt.Errorf("reading the cluster: %w", err)
		}
	}
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	var err error
	if f.output.IsData() {
		err = f.output.Encode(env.Stdout, findings{found})
	} else {
		err = writeFindings(env.Stdout, frame.Style(env.Colour(env.Stdout)), found, f.problems)
	}
	if err != nil {
		return err
	}
	switch doctor.Worst(found) {
	case doctor.Problem:
		return frame.ExitError(frame.ExitNotTrusted)
	case doctor.Unknown:
		return frame.ExitError(frame.ExitUnknown)
	}
	return nil
}

func writeFindings(w io.Writer, st frame.Style, found []doctor.Finding, problems bool) error {
	colours := map[doctor.Level]string{doctor.Problem: frame.Red, doctor.Warning: frame.Yellow, doctor.Unknown: frame.Yellow, doctor.OK: frame.Green}
	counts := map[doctor.Level]int{}
	var rows []frame.Row
	for _, f := range found {
		counts[f.Level]++
		if f.Level == doctor.OK && problems {
			continue
		}
		about := frame.SafeText(f.Subject)
		if about == "" {
			about = "-"
		}
		out := frame.Row{Cells: []string{f.Level.String(), f.Area, about}, Colours: []string{colours[f.Level]},
			Below: []string{frame.SafeText(f.Message)}}
		if f.Remedy != "" {
			out.Below = append(out.Below, st.Paint(frame.Bold, "do: ")+frame.SafeText(f.Remedy))
		}
		rows = append(rows, out)
	}
	if err := frame.WriteTable(w, st, []string{"", "AREA", "ABOUT"}, rows); err != nil {
		return err
	}
	unknown := ""
	if n := counts[doctor.Unknown]; n > 0 {
		unknown = fmt.Sprintf("%d not known, ", n)
	}
	_, err := fmt.Fprintf(w, "\n%d wrong, %d to check, %s%d right\n", counts[doctor.Problem], counts[doctor.Warning], unknown, counts[doctor.OK])
	return err
}
