package verify

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/migrate"
)

type migrateFlags struct {
	files              []string
	at                 input.Kubeconfig
	namespace, service string
	inNamespace        string
	output             frame.OutputFlag
	problems           bool
}

func newMigrate(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "migrate",
		Short:   "Show what changes on the way from Ratify",
		Long:    "Show what changes on the way from Ratify to Boltseal.",
		GroupID: "serve",
		Args:    frame.KnownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMigrateCheck(env))
	return cmd
}

func newMigrateCheck(env frame.Env) *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "check [-f FILE]...",
		Short: "Say what Boltseal will do differently with Ratify's resources",
		Long: `Read Ratify's resources, and Gatekeeper's Providers and ConstraintTemplates that ask
it, and say of each what Boltseal will do with it: the same, something else, or
nothing at all, and what to do then. It compiles the resources as boltseal serve
does. Nothing is changed, and no registry or vault is asked.

Without -f it reads a cluster, for which you need the right to list these kinds.`,
		Annotations: frame.ExitCodes("everything will work, some of it perhaps differently",
			"something will not work",
			"failed; the message says why"),
		Example: `    boltseal migrate check
    boltseal migrate check -f ratify.yaml -f templates.yaml
    kubectl get stores,verifiers,policies -o yaml | boltseal migrate check -f - -o json`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runMigrateCheck(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.files, "filename", "f", nil, "YAML `FILE` to read in place of a cluster, - for standard input; may be repeated")
	fl.StringVarP(&f.inNamespace, "namespace", "n", "", "`NAMESPACE` of resources in files that name none, as with kubectl apply -n")
	f.at.Register(fl, "cluster")
	fl.StringVar(&f.namespace, "boltseal-namespace", input.DefaultNamespace, "`NAMESPACE` that Boltseal is to run in")
	fl.StringVar(&f.service, "boltseal-service", "boltseal", "`NAME` of its Service")
	fl.BoolVar(&f.problems, "problems", false, "list only what will not work or differs")
	f.output.Register(cmd)
	return cmd
}

func runMigrateCheck(cmd *cobra.Command, env frame.Env, f migrateFlags) error {
	if f.inNamespace != "" && len(f.files) == 0 {
		return frame.UsageFailure(cmd, errors.New("--namespace is for files: in a cluster every resource has its own"))
	}
	o := migrate.Options{Namespace: f.namespace, Service: f.service, Partial: len(f.files) > 0, Deps: input.CompileDeps(env),
		Compile: compile.ClusterOptions{CertificateStores: compile.CertificateStores(f.namespace)}}
	var docs []migrate.Document
	if o.Partial {
		sources, err := input.ReadNamed(env, "--filename", f.files)
		if err != nil {
			return err
		}
		for i := range sources {
			sources[i].Namespace = f.inNamespace
		}
		if docs, err = migrate.Files(sources); err != nil {
			return err
		}
	} else {
		config, err := f.at.Config(env)
		if err != nil {
			return err
		}
		if docs, err = migrate.Cluster(cmd.Context(), config); err != nil {
			return err
		}
	}
	report, err := migrate.Check(docs, o)
	if err != nil {
		return err
	}
	if f.output.IsData() {
		err = f.output.Encode(env.Stdout, report)
	} else {
		err = writeMigration(env.Stdout, frame.Style(env.Colour(env.Stdout)), report, f.problems)
	}
	if err == nil && report.Fails() {
		err = frame.ExitError(frame.ExitNotTrusted)
	}
	return err
}

func writeMigration(w io.Writer, st frame.Style, r migrate.Report, problems bool) error {
	colours := map[migrate.Severity]string{migrate.Error: frame.Red, migrate.Unsupported: frame.Red, migrate.Differs: frame.Yellow, migrate.OK: frame.Green}
	counts := map[migrate.Severity]int{}
	var rows []frame.Row
	for _, f := range r.Findings {
		counts[f.Severity]++
		if f.Severity == migrate.OK && problems {
			continue
		}
		out := frame.Row{Cells: []string{f.Severity.String(), frame.SafeText(f.Resource), frame.OrDash(frame.SafeText(f.Field)), frame.OrDash(frame.SafeText(f.Place))}, Colours: []string{colours[f.Severity], "", "", frame.Faint}}
		for _, line := range []struct{ who, does, colour string }{{"ratify:   ", f.Ratify, frame.Faint}, {"boltseal: ", f.Boltseal, colours[f.Severity]}, {"do:       ", f.Do, frame.Bold}} {
			if line.does != "" {
				out.Below = append(out.Below, st.Paint(line.colour, line.who)+frame.SafeText(line.does))
			}
		}
		rows = append(rows, out)
	}
	if len(rows) > 0 {
		if err := frame.WriteTable(w, st, []string{"", "RESOURCE", "FIELD", "AT"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "%d will not work, %d will differ, %d as they are", counts[migrate.Error]+counts[migrate.Unsupported], counts[migrate.Differs], counts[migrate.OK])
	if err == nil && r.PassedOver > 0 {
		_, err = fmt.Fprintf(w, "; %s passed over", frame.CountNoun(r.PassedOver, "other document"))
	}
	if err == nil {
		_, err = fmt.Fprintln(w)
	}
	return err
}
