package installed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// everything is each object in the cluster, as Kind namespace/name. What goes by itself, or with the Node, is left out.
func everything(t *testing.T) map[string]bool {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	objects, err := metadata.NewForConfig(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	lists, err := d.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || gv.Group == "metrics.k8s.io" {
				continue
			}
			found, err := objects.Resource(gv.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				continue // a kind that has gone since
			}
			for _, o := range found.Items {
				id := strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")
				if r.Kind == "Event" {
					id = o.Namespace // its name is by chance
				}
				out[r.Kind+" "+id] = true
			}
		}
	}
	return out
}

// added are the objects that are there now and were not before.
func added(before, now map[string]bool) []string {
	var out []string
	for o := range now {
		if !before[o] {
			out = append(out, o)
		}
	}
	slices.Sort(out)
	return out
}

var (
	code        = regexp.MustCompile("`([^`]+)`")
	placeholder = regexp.MustCompile(`\b[A-Z]{4,}\b`) // NAME, NAMESPACE
)

// section is a part of a page, by its heading.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %s", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// remains is what docs/install.md says that stays: patterns of objects, and the commands that remove them.
func remains(t *testing.T) (patterns map[string]*regexp.Regexp, commands []string) {
	t.Helper()
	patterns = map[string]*regexp.Regexp{}
	for line := range strings.Lines(section(t, "install.md", "Remove")) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) != 5 {
			continue // not a row of three columns
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			patterns[m[1]] = regexp.MustCompile("^" + placeholder.ReplaceAllString(regexp.QuoteMeta(m[1]), "[^ ]+") + "$")
		}
		for _, m := range code.FindAllStringSubmatch(cells[3], -1) {
			commands = append(commands, strings.ReplaceAll(m[1], "\x00", "|"))
		}
	}
	if len(patterns) == 0 || len(commands) == 0 {
		t.Fatal("the page lists nothing that stays")
	}
	return patterns, commands
}

// shell runs a command line as it stands on a page.
func shell(ctx context.Context, line string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "HOME="+cluster.Dir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", line, err, errs.String())
	}
	return out.String(), nil
}
