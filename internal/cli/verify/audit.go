package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/running"
)

// everyPod is the policy in place of ImageIntegrityPolicies that are not there.
const everyPod = "every-pod"

type auditFlags struct {
	at                      input.Kubeconfig
	namespace               string
	config                  []string
	exempt, lentTo, drivers []string
	own                     string
	all                     bool
	output                  frame.OutputFlag
	timeout                 time.Duration
	concurrency             int
}

func newAudit(env frame.Env) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [--config FILE]...",
		Short: "Say which Pods already run images that are not trusted",
		Long: `Check the images of all running Pods in a cluster, by the digest that each node
reports. They are checked against the cluster's own resources, or against another
configuration that you want to try. Nothing is changed in the cluster.

ImageIntegrityPolicies select the Pods to check. If the cluster has none, all Pods
are checked, except those in kube-system and in Boltseal's own namespace.

You need the right to list pods and namespaces, and without --config to list
Boltseal's and Ratify's resources too.`,
		Example: `  What would be denied if it came today?
    boltseal audit

  The same before anything is installed, by a configuration of yours:
    boltseal audit --config verify-config.yaml

  One namespace of another cluster, for a program:
    boltseal audit --context production -n shop -o json`,
		GroupID: "verify",
		Annotations: frame.ExitCodes("every Pod that was checked is trusted or exempt",
			"at least one Pod is not trusted, and nothing is unknown",
			"a Pod or an image is unknown, or the command failed"),
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAudit(cmd, env, f)
		},
	}
	fl := cmd.Flags()
	f.at.Register(fl, "cluster")
	fl.StringVarP(&f.namespace, "namespace", "n", "", "check the Pods of one `NAMESPACE` only")
	fl.StringArrayVarP(&f.config, "config", "c", nil, "YAML `FILE` with a configuration to use in place of the cluster's, - for standard input; may be repeated")
	fl.StringSliceVar(&f.exempt, "exempt-namespaces", nil, "`NAMESPACES` that are not checked, beside kube-system and Boltseal's own")
	fl.StringVar(&f.own, "boltseal-namespace", input.DefaultNamespace, "Boltseal's own `NAMESPACE`")
	input.RegisterLentTo(fl, &f.lentTo)
	input.RegisterDrivers(fl, &f.drivers)
	fl.BoolVar(&f.all, "all", false, "list trusted images too")
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "`DURATION`: time for one image")
	fl.IntVar(&f.concurrency, "concurrency", 16, "`N`: images verified at a time")
	f.output.Register(cmd)
	return cmd
}

func runAudit(cmd *cobra.Command, env frame.Env, f auditFlags) error {
	switch {
	case f.concurrency < 1 || f.concurrency > maxConcurrency:
		return frame.UsageFailure(cmd, fmt.Errorf("--concurrency must be between 1 and %d", maxConcurrency))
	case f.timeout <= 0:
		return frame.UsageFailure(cmd, errors.New("--timeout must be positive"))
	}
	drivers, err := input.ParseDrivers(f.drivers)
	if err != nil {
		return frame.UsageFailure(cmd, err)
	}
	config, err := f.at.Config(env)
	if err != nil {
		return err
	}
	inventory, err := running.List(cmd.Context(), config, f.namespace, drivers)
	if err != nil {
		return fmt.Errorf("reading the cluster: %w", err)
	}
	snap, err := f.snapshot(cmd.Context(), env, config, inventory)
	if err != nil {
		return err
	}
	defer snap.Engines.Close()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("the way to the cluster: %w", err)
	}
	r := judgeRunning(cmd.Context(), env, f, snap, inventory, running.NewOwners(client))
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	if f.output.IsData() {
		err = f.output.Encode(env.Stdout, r)
	} else {
		err = writeAudit(env.Stdout, frame.Style(env.Colour(env.Stdout)), r, f.all)
	}
	switch {
	case err != nil:
		return err
	case r.Pods.Unknown > 0 || r.Images.Unknown > 0:
		return frame.ExitError(frame.ExitUnknown)
	case r.Pods.NotTrusted > 0:
		return frame.ExitError(frame.ExitNotTrusted)
	}
	return nil
}

// snapshot is the configuration to judge by: files, or the cluster's own resources.
func (f *auditFlags) snapshot(ctx context.Context, env frame.Env, config *rest.Config, inventory *running.Inventory) (*snapshot.Snapshot, error) {
	var policies []*integrity.Policy
	var compiled *compile.Compiled
	if len(f.config) > 0 {
		sources, err := input.ReadSources(env, f.config)
		if err != nil {
			return nil, err
		}
		set, _ := compile.Decode(sources) // Compile tells what Decode found too
		deps := input.CompileDeps(env)
		deps.LentTo = f.lentTo
		if deps.Cloud, err = input.KeysEnv(env, config); err != nil {
			return nil, err
		}
		if deps.Keys, err = input.FetchKeys(ctx, env, config, set.Wants()); err != nil {
			return nil, err
		}
		if set.WantsNodes() {
			deps.Nodes = controller.ReadNodes(ctx, config)
		}
		if compiled, err = set.Compile(deps); err != nil {
			return nil, input.ConfigurationError{Err: err}
		}
		policies = set.Integrity()
	} else {
		entries, err := controller.Read(ctx, config)
		if err != nil {
			return nil, err
		}
		c := compile.NewCluster(compile.ClusterOptions{CertificateStores: compile.CertificateStores(f.own)}, entries)
		var standing map[compile.Key]*compile.Standing
		deps := input.CompileDeps(env)
		deps.LentTo = f.lentTo
		if deps.Cloud, err = input.KeysEnv(env, config); err != nil {
			return nil, err
		}
		if deps.Keys, err = input.FetchKeys(ctx, env, config, c.Wants()); err != nil {
			return nil, err
		}
		if c.WantsNodes() {
			deps.Nodes = controller.ReadNodes(ctx, config)
		}
		compiled, standing = c.Compile(deps, nil)
		warnBroken(env.Stderr, standing)
		policies = c.Integrity()
		if len(compiled.Engines()) == 0 {
			compiled.Close()
			return nil, errors.New("the cluster has no Store and no Verifier: apply them, or name a configuration with --config")
		}
	}
	for _, w := range compiled.Warnings {
		fmt.Fprintln(env.Stderr, "warning:", w)
	}
	if len(policies) == 0 {
		policies = running.EveryPod(everyPod, compiled, inventory)
		fmt.Fprintln(env.Stderr, "note: there is no ImageIntegrityPolicy, so all Pods are checked")
	}
	set := integrity.NewSet(policies, append(slices.Clone(f.exempt), f.own)...)
	return &snapshot.Snapshot{Generation: 1, Engines: compiled, Policies: set, Memo: memo.New(memo.Options{WorkTimeout: f.timeout})}, nil
}

// warnBroken tells which resources are not in force as they are written.
func warnBroken(w io.Writer, standing map[compile.Key]*compile.Standing) {
	var keys []compile.Key
	for k, st := range standing {
		if !st.OK() {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compile.Key.Compare)
	for _, k := range keys {
		fmt.Fprintf(w, "warning: %s does not apply as it is written: %s\n", k, frame.SafeText(standing[k].Problems.Error()))
	}
}

func judgeRunning(ctx context.Context, env frame.Env, f auditFlags, snap *snapshot.Snapshot, inventory *running.Inventory, owners running.Owners) *running.Result {
	j := running.NewJudge(running.JudgeOptions{Concurrency: f.concurrency, Rate: -1, Owners: owners})
	var done atomic.Int64
	stop := func() {}
	defer func() { stop() }()
	begun := false
	return j.Judge(ctx, snap, inventory, func(n, total int) {
		done.Store(int64(n))
		if !begun {
			begun, stop = true, showProgress(env, f.output, total, &done)
		}
	})
}

// writeAudit prints the table of `audit`.
func writeAudit(w io.Writer, st frame.Style, r *running.Result, all bool) error {
	var rows []frame.Row
	for _, f := range r.Findings {
		if f.Outcome == running.Trusted && !all {
			continue
		}
		word, colour := outcomeWord(f.Outcome)
		out := frame.Row{Cells: []string{frame.SafeText(f.Namespace), frame.SafeText(frame.ShortImage(f.Image)), word, strconv.Itoa(f.Pods), frame.SafeText(f.Policy) + " (" + string(f.Action) + ")"},
			Colours: []string{"", "", colour, "", frame.Faint}}
		if f.Outcome != running.Trusted {
			out.Below = append(out.Below, st.Paint(frame.Faint, "in:  ")+podNames(f))
			if f.Outcome == running.Exempt {
				out.Below = append(out.Below, st.Paint(frame.Bold, "by:  ")+"exemption "+frame.SafeText(f.Exemption)+" "+integrity.Until(f.Until))
			}
			out.Below = append(out.Below, st.Paint(colour, "why: ")+frame.SafeText(f.Reason.Message))
			if f.Reason.Remedy != "" {
				out.Below = append(out.Below, st.Paint(frame.Bold, "do:  ")+frame.SafeText(f.Reason.Remedy))
			}
		}
		rows = append(rows, out)
	}
	if len(rows) > 0 {
		if err := frame.WriteTable(w, st, []string{"NAMESPACE", "IMAGE", "VERDICT", "PODS", "POLICY"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "%s: %d trusted, %d not trusted, %d unknown\n%s: %d trusted, %d not trusted, %d unknown\n",
		frame.CountNoun(r.Images.Total(), "image"), r.Images.Trusted, r.Images.NotTrusted, r.Images.Unknown,
		frame.CountNoun(r.Pods.Total(), "Pod"), r.Pods.Trusted, r.Pods.NotTrusted, r.Pods.Unknown)
	if err == nil && r.Pods.Exempt > 0 {
		_, err = fmt.Fprintf(w, "%s exempt\n", frame.CountNoun(r.Pods.Exempt, "Pod"))
	}
	if err == nil && r.Ignored > 0 {
		_, err = fmt.Fprintf(w, "%s not checked: no policy selects them\n", frame.CountNoun(r.Ignored, "Pod"))
	}
	return err
}

func outcomeWord(o running.Outcome) (word, colour string) {
	switch o {
	case running.Trusted:
		return "trusted", frame.Green
	case running.Exempt:
		return "exempt", frame.Yellow
	case running.NotTrusted:
		return "not trusted", frame.Red
	}
	return "unknown", frame.Yellow
}

func podNames(f *running.Finding) string {
	s := ""
	for i, p := range f.First {
		if i > 0 {
			s += ", "
		}
		s += frame.SafeText(p.Name)
	}
	if more := f.Pods - len(f.First); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
