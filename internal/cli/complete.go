package cli

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/externaldata"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/registrar"
)

const (
	// completeWithin is how long a shell waits for names of a cluster.
	completeWithin = 2 * time.Second
	// maxCompleted is how many names are offered.
	maxCompleted = 500
	// kindNamespace is the one kind that is not of policy.boltseal.dev.
	kindNamespace = "Namespace"
)

// completed says what a flag, or an argument, may be.
type completed struct {
	values []string // the words themselves
	kinds  []string // and the names of the cluster's objects of kinds; of policy.boltseal.dev but for Namespace
}

// completedFlags are those of flags that mean the same in all commands.
func completedFlags() map[string]completed {
	clusters, assignments := namesOfKind(v1alpha1.KindCluster), namesOfKind(v1alpha1.KindPolicyAssignment)
	return map[string]completed{
		"assignment": assignments, "policy-assignment": assignments, "cluster": clusters,
		"without-exemption":       namesOfKind(v1alpha1.KindPolicyExemption),
		"policy":                  {builtInDefinitions(), []string{v1alpha1.KindPolicyDefinition}},
		"policy-set-definition":   {[]string{definition.SetImageIntegrity}, []string{v1alpha1.KindPolicySetDefinition}},
		"engine":                  {values: []string{string(v1alpha1.EngineBoltseal), string(v1alpha1.EngineGatekeeper)}},
		"by":                      {values: complianceLevels},
		"effect":                  {values: []string{string(definition.EffectAudit), string(definition.EffectDeny), string(definition.EffectDisabled)}},
		"enforcement-mode":        {values: []string{string(v1alpha1.EnforceDefault), string(v1alpha1.DoNotEnforce)}},
		"exemption-category":      {values: []string{"Waiver", "Mitigated"}},
		"resource-discovery-mode": {values: []string{"ExistingNonCompliant", "ReEvaluateCompliance"}},
		"log-format":              {values: []string{"text", "json"}},
		"log-level":               {values: []string{"debug", "info", "warn", "error"}},
		"report-version":          {values: []string{string(externaldata.Report020), string(externaldata.Report010)}},
		"webhook":                 {values: []string{string(registrar.Enforce), string(registrar.Off)}},
		"webhook-failure-policy":  {values: []string{"Fail", "Ignore"}},
	}
}

// namesOfKind completes by the names of objects.
func namesOfKind(kind string) completed { return completed{kinds: []string{kind}} }

func builtInDefinitions() []string {
	return []string{definition.DeployImageIntegrity, definition.DeployPolicyAddOn, definition.VerifyImages}
}

// completedCommands are the families of commands whose --name, and argument, is that of an
// object.
func completedCommands() map[string]completed {
	return map[string]completed{
		"policy assignment": namesOfKind(v1alpha1.KindPolicyAssignment), "policy exemption": namesOfKind(v1alpha1.KindPolicyExemption),
		"policy remediation": namesOfKind(v1alpha1.KindRemediation), "cluster": namesOfKind(v1alpha1.KindCluster),
		"policy definition": {append(builtInDefinitions(), definition.SetImageIntegrity), []string{v1alpha1.KindPolicyDefinition, v1alpha1.KindPolicySetDefinition}},
	}
}

// completeNames gives every flag and every argument what a shell can offer for it. What is
// no file is completed by no file.
func completeNames(env Env, root *cobra.Command) {
	flags, commands := completedFlags(), completedCommands()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		above, verb, _ := cutLast(strings.TrimPrefix(cmd.CommandPath(), root.Name()+" "))
		if named, ok := commands[above]; ok && verb != "create" && verb != "register" && cmd.Flags().Lookup("name") != nil {
			complete(env, cmd, "name", named)
			if strings.Contains(cmd.Use, "NAME]") || strings.HasSuffix(cmd.Use, " NAME") {
				cmd.ValidArgsFunction = named.offer(env)
			}
		}
		switch above {
		case "feature":
			complete(env, cmd, "name", completed{values: resolve.FeatureNames()})
			complete(env, cmd, "namespace", completed{values: resolve.FeatureNamespaces()[:1]})
		case "":
			if verb == "audit" || verb == "doctor" {
				complete(env, cmd, "namespace", namesOfKind(kindNamespace))
			}
		}
		complete(env, cmd, "output", completed{values: formatsOf(cmd)})
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if c, ok := flags[f.Name]; ok {
				complete(env, cmd, f.Name, c)
			} else if f.Name == "context" {
				register(cmd, f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
					return contexts(env, cmd), cobra.ShellCompDirectiveNoFileComp
				})
			} else if placeholder, _ := pflag.UnquoteUsage(f); f.Value.Type() != "bool" && !filePlaceholder.MatchString(placeholder) && !strings.Contains(f.Usage, "`FILE`") {
				register(cmd, f.Name, cobra.NoFileCompletions)
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

// cutLast parts a command's path from its last word.
func cutLast(path string) (above, last string, found bool) {
	i := strings.LastIndexByte(path, ' ')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// complete registers what completes a flag, where the command has it and nothing else does.
func complete(env Env, cmd *cobra.Command, flag string, c completed) {
	if cmd.Flags().Lookup(flag) != nil && (len(c.kinds) > 0 || len(c.values) > 0) {
		register(cmd, flag, c.offer(env))
	}
}

// register keeps the first that is registered: the command's own.
func register(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if _, has := cmd.GetFlagCompletionFunc(flag); !has {
		_ = cmd.RegisterFlagCompletionFunc(flag, f) // it fails for a flag that is not there, or has one
	}
}

// offer is what a shell is told. It never fails: without a cluster there are no names.
func (c completed) offer(env Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		words := slices.Clone(c.values)
		if len(args) == 0 && len(c.kinds) > 0 {
			words = append(words, objectNames(cmd.Context(), env, cmd, c.kinds)...)
		}
		slices.Sort(words)
		return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
	}
}

// objectNames are the names of the objects of kinds in the cluster that the command's flags
// name, at most maxCompleted of each; none where it does not answer within completeWithin.
func objectNames(ctx context.Context, env Env, cmd *cobra.Command, kinds []string) []string {
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

func readNames(ctx context.Context, env Env, cmd *cobra.Command, kinds []string) (names []string) {
	config, err := (&auditFlags{kubeconfig: flagText(cmd, "kubeconfig"), context: flagText(cmd, "context")}).cluster(env)
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
		if kind == kindNamespace {
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

// contexts are those of the kubeconfig that the command's flags name.
func contexts(env Env, cmd *cobra.Command) []string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = flagText(cmd, "kubeconfig")
	if v := env.Getenv(clientcmd.RecommendedConfigPathEnvVar); v != "" {
		rules.Precedence = strings.Split(v, ":")
	}
	config, err := rules.Load()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(config.Contexts))
}

// flagText is what a flag is set to, "" where the command has none.
func flagText(cmd *cobra.Command, name string) string {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}
