package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/compile"
)

// Limits on what validate is given: files, those of folders too, and their bytes.
const (
	maxValidated      = 10_000
	maxValidatedBytes = 64 << 20
)

// validation is what -o json and -o yaml print.
type validation struct {
	// Valid says that no problem was found.
	Valid bool `json:"valid"`
	// Documents is how many were checked, NotChecked how many are of others' kinds.
	Documents  int            `json:"documents"`
	NotChecked int            `json:"notChecked"`
	Problems   []foundProblem `json:"problems"`
	Warnings   []foundProblem `json:"warnings"`
}

// foundProblem is one thing that is wrong, or deserves a look.
type foundProblem struct {
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"` // 1-based; 0 = not known
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Field     string `json:"field,omitempty"`
	Message   string `json:"message"`
}

// governedCheck checks documents of governance, as their reader does: problems are wrong in any case, warnings may be right
// beside other documents.
type governedCheck func(docs []strict.Node) (problems, warnings []strict.Problem)

func newValidate(env frame.Env, governed governedCheck) *cobra.Command {
	var namespace string
	var output frame.OutputFlag
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check Boltseal's resources in files, without a cluster or a network",
		Long: `Check resources of Boltseal and of Ratify in files as strictly as Boltseal reads
them: each problem with its file and line, and with the nearest right name.

A FILE has YAML or JSON with any number of documents, - is standard input, and of
a folder all .yaml, .yml and .json files below it are checked. Documents of other
kinds are counted and not checked.

The files may be a part of a configuration. What they name and what is not among
them (a provider, a definition, a file of Boltseal's Pod) is a warning. Nothing is
fetched: 'boltseal doctor' checks whether a key vault answers.`,
		Example: `    boltseal validate verify-config.yaml
    boltseal validate -n team-a deploy/
    helm template ./chart | boltseal validate -o json -`,
		GroupID: "verify",
		Annotations: frame.ExitCodes("no problem; there may be warnings",
			"at least one problem in the files",
			"nothing was checked (no file, nothing of Boltseal's), or the command failed"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return frame.UsageFailure(cmd, errors.New("no file: name at least one FILE, or - for standard input"))
			}
			return runValidate(env, governed, args, namespace, output)
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "`NAME` of the namespace of namespaced resources that name none, as with kubectl apply -n")
	output.Register(cmd)
	return cmd
}

func runValidate(env frame.Env, governed governedCheck, args []string, namespace string, output frame.OutputFlag) error {
	files, err := validateFiles(args)
	if err != nil {
		return err
	}
	var sources []compile.Source
	total := 0
	for _, name := range files { // one by one: few are open at a time
		read, err := input.ReadNamed(env, "validate", []string{name})
		if err != nil {
			return err
		}
		if total += len(read[0].Data); total > maxValidatedBytes {
			return fmt.Errorf("the files have more than %d bytes together: name fewer at a time", maxValidatedBytes)
		}
		read[0].Namespace = namespace
		sources = append(sources, read...)
	}
	out := validateSources(env, governed, sources)
	if out.Documents == 0 && out.Valid {
		return fmt.Errorf("nothing was checked: none of %d documents is of a kind of Boltseal's or Ratify's", out.NotChecked)
	}
	if output.IsData() {
		err = output.Encode(env.Stdout, out)
	} else {
		err = writeValidation(env, out)
	}
	if err != nil {
		return err
	}
	if !out.Valid {
		return frame.ExitError(frame.ExitNotTrusted)
	}
	return nil
}

// validateFiles are the files that arguments name: of a folder, all that may hold
// resources.
func validateFiles(args []string) (files []string, err error) {
	for _, arg := range args {
		if arg == "-" {
			if slices.Contains(files, "-") {
				return nil, errors.New("standard input can be read once only")
			}
			files = append(files, arg)
			continue
		}
		err := filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			named := path == arg && !d.IsDir()
			if !named && (d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path)))) {
				return nil
			}
			if files = append(files, path); len(files) > maxValidated {
				return fmt.Errorf("more than %d files", maxValidated)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// validateSources sends each document to who reads it.
func validateSources(env frame.Env, governed governedCheck, sources []compile.Source) validation {
	var governance []strict.Node
	others := 0
	v := compile.Validate(sources, func(d strict.Node) bool {
		switch readerOf(d) {
		case readsGovernance:
			governance = append(governance, d)
			return false
		case readsNobody:
			others++
			return false
		}
		return true
	}, input.CompileDeps(env))
	problems, warnings := governed(governance)
	v.Add(len(governance), problems, warnings)
	return validation{Valid: len(v.Problems) == 0, Documents: v.Documents, NotChecked: others, Problems: problemsOf(v.Problems), Warnings: problemsOf(v.Warnings)}
}

// readers of documents.
const (
	readsNobody = iota
	readsConfiguration
	readsGovernance
)

// readerOf says who reads a document. A group that is nearly one of ours is meant to be.
func readerOf(d strict.Node) int {
	version := d.Text("apiVersion")
	group, _, found := strings.Cut(version, "/")
	ours := []string{v1beta1.GroupVersion.Group, integrityv1.GroupVersion.Group, v1alpha1.GroupVersion.Group}
	if found && !slices.Contains(ours, group) {
		group = nearest.Word(group, ours)
	}
	switch {
	case group == v1alpha1.GroupVersion.Group:
		return readsGovernance
	case slices.Contains(ours, group), version == "", d.Text("kind") == "":
		return readsConfiguration
	}
	return readsNobody
}

func problemsOf(ps []strict.Problem) []foundProblem {
	out := make([]foundProblem, 0, len(ps))
	for _, p := range ps {
		out = append(out, foundProblem{p.File, p.Line, p.Object.Kind, p.Object.Namespace, p.Object.Name, p.Field, p.Message})
	}
	return out
}

func (p foundProblem) String() string {
	return frame.SafeText(strict.Problem{File: p.File, Line: p.Line, Object: strict.Object{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}, Field: p.Field, Message: p.Message}.Error())
}

func writeValidation(env frame.Env, v validation) error {
	var b strings.Builder
	for _, p := range v.Problems {
		fmt.Fprintln(&b, p)
	}
	for _, p := range v.Warnings {
		fmt.Fprintln(&b, "warning:", p)
	}
	counted := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	fmt.Fprintf(&b, "%s checked: %s, %s\n", counted(v.Documents, "document"), counted(len(v.Problems), "problem"), counted(len(v.Warnings), "warning"))
	if v.NotChecked > 0 {
		fmt.Fprintf(&b, "%s of other kinds: not checked\n", counted(v.NotChecked, "document"))
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}
