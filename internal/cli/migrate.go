package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/migrate"
)

type migrateFlags struct {
	files              []string
	at                 Kubeconfig
	namespace, service string
	inNamespace        string
	output             outputFlag
	problems           bool
}

func newMigrate(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "migrate",
		Short:   "Show what changes on the way from Ratify",
		Long:    "Show what changes on the way from Ratify to Boltseal.",
		GroupID: "serve",
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMigrateCheck(env))
	return cmd
}

func newMigrateCheck(env Env) *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "check [-f FILE]...",
		Short: "Say what Boltseal will do differently with Ratify's resources",
		Long: `Read Ratify's resources, and Gatekeeper's Providers and ConstraintTemplates that ask
it, and say of each what Boltseal will do with it: the same, something else, or
nothing at all, and what to do then. It compiles the resources as boltseal serve
does. Nothing is changed, and no registry or vault is asked.

Without -f it reads a cluster, for which you need the right to list these kinds.`,
		Annotations: exitCodes("everything will work, some of it perhaps differently",
			"something will not work",
			"failed; the message says why"),
		Example: `    boltseal migrate check
    boltseal migrate check -f ratify.yaml -f templates.yaml
    kubectl get stores,verifiers,policies -o yaml | boltseal migrate check -f - -o json`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runMigrateCheck(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.files, "filename", "f", nil, "YAML `FILE` to read in place of a cluster, - for standard input; may be repeated")
	fl.StringVarP(&f.inNamespace, "namespace", "n", "", "`NAMESPACE` of resources in files that name none, as with kubectl apply -n")
	f.at.Register(fl, "cluster")
	fl.StringVar(&f.namespace, "boltseal-namespace", defaultNamespace, "`NAMESPACE` that Boltseal is to run in")
	fl.StringVar(&f.service, "boltseal-service", "boltseal", "`NAME` of its Service")
	fl.BoolVar(&f.problems, "problems", false, "list only what will not work or differs")
	f.output.register(cmd)
	return cmd
}

func runMigrateCheck(cmd *cobra.Command, env Env, f migrateFlags) error {
	if f.inNamespace != "" && len(f.files) == 0 {
		return usageFailure(cmd, errors.New("--namespace is for files: in a cluster every resource has its own"))
	}
	o := migrate.Options{Namespace: f.namespace, Service: f.service, Partial: len(f.files) > 0, Deps: compileDeps(env),
		Compile: compile.ClusterOptions{CertificateStores: compile.CertificateStores(f.namespace)}}
	var docs []migrate.Document
	if o.Partial {
		sources, err := readNamed(env, "--filename", f.files)
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
	if f.output.data() {
		err = f.output.encode(env.Stdout, report)
	} else {
		err = writeMigration(env.Stdout, style(env.colour(env.Stdout)), report, f.problems)
	}
	if err == nil && report.Fails() {
		err = exitError(ExitNotTrusted)
	}
	return err
}

func writeMigration(w io.Writer, st style, r migrate.Report, problems bool) error {
	colours := map[migrate.Severity]string{migrate.Error: red, migrate.Unsupported: red, migrate.Differs: yellow, migrate.OK: green}
	counts := map[migrate.Severity]int{}
	var rows []row
	for _, f := range r.Findings {
		counts[f.Severity]++
		if f.Severity == migrate.OK && problems {
			continue
		}
		out := row{cells: []string{f.Severity.String(), printable(f.Resource), dash(printable(f.Field)), dash(printable(f.Place))}, colours: []string{colours[f.Severity], "", "", faint}}
		for _, line := range []struct{ who, does, colour string }{{"ratify:   ", f.Ratify, faint}, {"boltseal: ", f.Boltseal, colours[f.Severity]}, {"do:       ", f.Do, bold}} {
			if line.does != "" {
				out.below = append(out.below, st.paint(line.colour, line.who)+printable(line.does))
			}
		}
		rows = append(rows, out)
	}
	if len(rows) > 0 {
		if err := writeTable(w, st, []string{"", "RESOURCE", "FIELD", "AT"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "%d will not work, %d will differ, %d as they are", counts[migrate.Error]+counts[migrate.Unsupported], counts[migrate.Differs], counts[migrate.OK])
	if err == nil && r.PassedOver > 0 {
		_, err = fmt.Fprintf(w, "; %s passed over", count(r.PassedOver, "other document"))
	}
	if err == nil {
		_, err = fmt.Fprintln(w)
	}
	return err
}
