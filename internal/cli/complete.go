package cli

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
)

const (
	// completeWithin is how long a shell waits for names of a cluster.
	completeWithin = 2 * time.Second
	// maxCompleted is how many names are offered.
	maxCompleted = 500
)

// completeNames gives every flag and every argument what a shell can offer for it. What is
// no file is completed by no file.
func completeNames(env frame.Env, root *cobra.Command, known frame.Completions) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		path := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		above, verb := splitPath(path)
		if named, ok := known.Names[above]; ok && verb != "create" && verb != "register" && cmd.Flags().Lookup("name") != nil {
			completeFlag(env, cmd, "name", named)
			if strings.Contains(cmd.Use, "NAME]") || strings.HasSuffix(cmd.Use, " NAME") {
				cmd.ValidArgsFunction = offerWords(env, named)
			}
		}
		for _, of := range []string{above, path} {
			for flag, c := range known.Commands[of] {
				completeFlag(env, cmd, flag, c)
			}
		}
		completeFlag(env, cmd, "output", frame.Completed{Values: formatsOf(cmd)})
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if c, ok := known.Flags[f.Name]; ok {
				completeFlag(env, cmd, f.Name, c)
			} else if f.Name == "context" {
				completeFirst(cmd, f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
					return kubeconfigOf(cmd).Contexts(env), cobra.ShellCompDirectiveNoFileComp
				})
			} else if placeholder, _ := pflag.UnquoteUsage(f); f.Value.Type() != "bool" && !filePlaceholder.MatchString(placeholder) && !strings.Contains(f.Usage, "`FILE`") {
				completeFirst(cmd, f.Name, cobra.NoFileCompletions)
			}
		})
		if cmd.ValidArgsFunction == nil && !takesFiles(cmd) {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	walk(root)
}

// filePlaceholder is of flags that name a file or a folder.
var filePlaceholder = regexp.MustCompile(`^(FILE|DIR|CERT)$`)

// takesFiles tells by its usage whether a command's arguments are files.
func takesFiles(cmd *cobra.Command) bool {
	return strings.Contains(cmd.Use, " FILE...") && !strings.Contains(cmd.Use, "[")
}

// formatsOf are the formats of a command's --output.
func formatsOf(cmd *cobra.Command) []string {
	f := cmd.Flags().Lookup("output")
	var formats []string
	if f == nil {
		return nil
	}
	for _, format := range []string{"table", "json", "yaml", "tsv", "csv", "html"} {
		if strings.Contains(f.Usage, format) {
			formats = append(formats, format)
		}
	}
	return formats
}

// splitPath parts a command's path from its last word; above is "" where it has one word.
func splitPath(path string) (above, last string) {
	i := strings.LastIndexByte(path, ' ')
	return path[:max(i, 0)], path[i+1:]
}

// completeFlag offers words for a flag, where the command has it and nothing else completes it.
func completeFlag(env frame.Env, cmd *cobra.Command, flag string, c frame.Completed) {
	if cmd.Flags().Lookup(flag) != nil && (len(c.Kinds) > 0 || len(c.Values) > 0) {
		completeFirst(cmd, flag, offerWords(env, c))
	}
}

// completeFirst keeps the first that is registered: the command's own.
func completeFirst(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if _, has := cmd.GetFlagCompletionFunc(flag); !has {
		_ = cmd.RegisterFlagCompletionFunc(flag, f) // it fails for a flag that is not there, or has one
	}
}

// offerWords returns what a shell gets. It never fails: without a cluster there are no names.
func offerWords(env frame.Env, c frame.Completed) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		words := slices.Clone(c.Values)
		if len(args) == 0 && len(c.Kinds) > 0 {
			words = append(words, objectNames(cmd.Context(), env, cmd, c.Kinds)...)
		}
		slices.Sort(words)
		return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
	}
}

// objectNames are the names of the objects of kinds in the cluster that the command's flags
// name, at most maxCompleted of each; none where it does not answer within completeWithin.
func objectNames(ctx context.Context, env frame.Env, cmd *cobra.Command, kinds []string) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	found := make(chan []string, 1)
	go func() { found <- readNames(ctx, env, cmd, kinds) }()
	select {
	case names := <-found:
		return names
	case <-ctx.Done(): // what reads a configuration may run a program that takes its time
		return nil
	}
}

func readNames(ctx context.Context, env frame.Env, cmd *cobra.Command, kinds []string) (names []string) {
	config, err := kubeconfigOf(cmd).Config(env)
	if err != nil {
		return nil
	}
	config.Timeout = completeWithin
	c, err := client.New(config, client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		return nil
	}
	for _, kind := range kinds {
		gvk := v1alpha1.GroupVersion.WithKind(kind + "List")
		if kind == frame.KindNamespace {
			gvk = schema.GroupVersionKind{Version: "v1", Kind: kind + "List"}
		}
		var list metav1.PartialObjectMetadataList
		list.SetGroupVersionKind(gvk)
		if c.List(ctx, &list, client.Limit(maxCompleted)) != nil {
			continue
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
	}
	return names
}

// kubeconfigOf returns the kubeconfig that the command's flags name.
func kubeconfigOf(cmd *cobra.Command) input.Kubeconfig {
	return input.Kubeconfig{File: flagText(cmd, "kubeconfig"), Context: flagText(cmd, "context")}
}

// flagText is what a flag is set to, "" where the command has none.
func flagText(cmd *cobra.Command, name string) string {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}
