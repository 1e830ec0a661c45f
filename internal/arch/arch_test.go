package arch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	module   = "github.com/boltseal/boltseal"
	root     = "../.."
	maxLines = 500
)

// pkg is what `go list -json` tells of a package.
type pkg struct {
	ImportPath   string
	Doc          string
	Dir          string
	Imports      []string
	Deps         []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Standard     bool
}

// rel is the package's path below the module, "." for the root package.
func (p pkg) rel() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

func load(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Dir,Imports,Deps,GoFiles,TestGoFiles,XTestGoFiles,Standard", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// under reports whether path is one of the trees, or below it.
func under(path string, trees ...string) bool {
	for _, tr := range trees {
		if path == tr || strings.HasPrefix(path, tr+"/") {
			return true
		}
	}
	return false
}

// rule forbids imports: a package that from selects must not import (deep: nor
// depend on) a package that never selects. Paths of ours are relative.
type rule struct {
	why   string
	from  func(rel string) bool
	never func(imp string) bool
	deep  bool
}

func ours(trees ...string) func(string) bool {
	return func(imp string) bool {
		if imp == module {
			return under(".", trees...)
		}
		rel, ok := strings.CutPrefix(imp, module+"/")
		return ok && under(rel, trees...)
	}
}

func theirs(trees ...string) func(string) bool {
	return func(imp string) bool { return under(imp, trees...) }
}

func in(trees ...string) func(string) bool {
	return func(rel string) bool { return under(rel, trees...) }
}

func either(fs ...func(string) bool) func(string) bool {
	return func(s string) bool {
		for _, f := range fs {
			if f(s) {
				return true
			}
		}
		return false
	}
}

func not(f func(string) bool) func(string) bool { return func(s string) bool { return !f(s) } }

// utilities are leaves that anybody may use.
var utilities = ours("internal/base/lru", "internal/base/nearest", "internal/base/fair")

func besides(f, but func(string) bool) func(string) bool {
	return func(s string) bool { return f(s) && !but(s) }
}

var clouds = theirs("github.com/Azure/azure-sdk-for-go", "github.com/aws/aws-sdk-go-v2", "cloud.google.com/go",
	"github.com/aliyun", "github.com/alibabacloud-go", "github.com/hashicorp/vault", "github.com/openbao/openbao")

var rules = []rule{
	{why: "the engine is a library: no Kubernetes, no HTTP, no command line in it",
		from: in(".", "policy"), never: theirs("k8s.io", "sigs.k8s.io", "net/http", "github.com/spf13/cobra"), deep: true},
	{why: "the root package declares the interfaces; its parts implement them",
		from: func(rel string) bool { return rel == "." }, never: func(imp string) bool { return strings.HasPrefix(imp, module+"/") }},
	{why: "policy is pure: it knows the evidence and nothing else of ours",
		from: in("policy"), never: func(imp string) bool { return strings.HasPrefix(imp, module+"/") }},
	{why: "a verifier judges what it is given; where content comes from is not its business",
		from: in("notation", "cosign"), never: ours("oci", "internal/credential", "internal/keys", "internal/cloud", "internal/compile")},
	{why: "verifiers do not know each other", from: in("notation"), never: ours("cosign")},
	{why: "verifiers do not know each other", from: in("cosign"), never: ours("notation")},
	{why: "api holds types and nothing else of ours",
		from:  in("api"),
		never: func(imp string) bool { return under(imp, module) && !under(imp, module+"/api") }},
	{why: "the public library does not depend on the cluster's side",
		from: in("notation", "cosign", "trust", "oci"), never: either(theirs("k8s.io", "sigs.k8s.io", "github.com/spf13/cobra"), ours("api"), besides(ours("internal"), utilities))},
	{why: "controller and admission meet at the snapshot only", from: in("internal/controller"), never: ours("internal/admission", "internal/answer/externaldata")},
	{why: "controller and admission meet at the snapshot only", from: in("internal/admission", "internal/answer/externaldata"), never: ours("internal/controller")},
	{why: "wire formats know no HTTP", from: in("internal/admission", "internal/answer/externaldata", "internal/admission/integrity"), never: theirs("net/http")},
	{why: "cloud SDKs live in the rooms of clouds",
		from: not(in("internal/cloud")), never: clouds},
	{why: "what all clouds need does not know any of them", from: in("internal/keys", "internal/credential"), never: ours("internal/cloud")},
	{why: "clouds do not know each other", from: in("internal/cloud/aws"), never: ours("internal/cloud/azure", "internal/cloud/gcp", "internal/cloud/alibaba", "internal/cloud/vault")},
	{why: "clouds do not know each other", from: in("internal/cloud/azure"), never: ours("internal/cloud/aws", "internal/cloud/gcp", "internal/cloud/alibaba", "internal/cloud/vault")},
	{why: "clouds do not know each other", from: in("internal/cloud/gcp"), never: ours("internal/cloud/aws", "internal/cloud/azure", "internal/cloud/alibaba", "internal/cloud/vault")},
	{why: "clouds do not know each other", from: in("internal/cloud/alibaba"), never: ours("internal/cloud/aws", "internal/cloud/azure", "internal/cloud/gcp", "internal/cloud/vault")},
	{why: "clouds do not know each other", from: in("internal/cloud/vault"), never: ours("internal/cloud/aws", "internal/cloud/azure", "internal/cloud/gcp", "internal/cloud/alibaba")},
	{why: "what signs for tests must not be linked into what verifies",
		from: not(in("internal/test/testca", "internal/test/testsigstore", "internal/test/testregistry", "internal/test/testhouse", "internal/demo", "bench")), never: ours("internal/test/testca", "internal/test/testsigstore", "internal/test/testregistry")},
	{why: "OpenTelemetry's SDK is wired in one place: nobody who uses the library gets it",
		from: not(in("internal/tracing", "internal/test/testotlp")), never: theirs("go.opentelemetry.io")},
	{why: "the collector of tests is for tests", from: not(in("internal/test/testotlp")), never: ours("internal/test/testotlp")},
	{why: "the fakes of clouds are for tests", from: not(in("internal/test/testcloud")), never: ours("internal/test/testcloud")},
	{why: "a template finds methods while the program runs, so that the linker keeps all of them",
		from: func(string) bool { return true }, never: theirs("html/template", "text/template")},
	{why: "pages are pure: data in, HTML out",
		from: in("internal/governance/page"), never: theirs("net/http", "os", "sigs.k8s.io/controller-runtime", "k8s.io/client-go")},
	{why: "the command line is the outermost layer", from: not(in("cmd", "internal/cli")), never: ours("internal/cli")},
	{why: "what families of commands share knows none of them", from: in("internal/cli/frame", "internal/cli/input"),
		never: ours("internal/cli/verify", "internal/cli/serve", "internal/cli/govern")},
	{why: "the frame has no cluster: what is read of one is input", from: in("internal/cli/frame"),
		never: either(theirs("k8s.io", "sigs.k8s.io/controller-runtime"), ours("internal/cli/input", "internal/serve/service", "internal/controller"))},
	{why: "families of commands do not know each other", from: in("internal/cli/verify"), never: ours("internal/cli/serve", "internal/cli/govern")},
	{why: "families of commands do not know each other", from: in("internal/cli/serve"), never: ours("internal/cli/verify", "internal/cli/govern")},
	{why: "families of commands do not know each other", from: in("internal/cli/govern"), never: ours("internal/cli/verify", "internal/cli/serve")},
	{why: "governance is a part that can be left out: only its own commands know it",
		from: not(in("internal/governance", "internal/cli/govern")), never: ours("internal/governance")},
}

func TestImports(t *testing.T) {
	for _, p := range load(t) {
		for _, r := range rules {
			if !r.from(p.rel()) {
				continue
			}
			imports := p.Imports
			if r.deep {
				imports = p.Deps
			}
			for _, imp := range imports {
				if r.never(imp) {
					t.Errorf("%s imports %s: %s", p.rel(), imp, r.why)
				}
			}
		}
	}
}

// TestRulesBite makes sure that a rule which never matches anything is noticed.
func TestRulesBite(t *testing.T) {
	for _, r := range rules {
		seen := false
		for _, imp := range []string{
			"net/http", "k8s.io/api", module + "/oci", module + "/internal/cli", module + "/internal/cli/serve", module + "/internal/cli/verify", module + "/internal/cli/govern", module + "/internal/governance", module + "/internal/test/testca", module + "/cosign", module + "/notation",
			module + "/internal/admission", module + "/internal/controller", "github.com/Azure/azure-sdk-for-go/sdk/azidentity", module + "/trust", module + "/internal/test/testcloud", "html/template",
			"go.opentelemetry.io/otel", module + "/internal/test/testotlp", module + "/internal/cloud/aws", module + "/internal/cloud/vault",
		} {
			seen = seen || r.never(imp)
		}
		if !seen {
			t.Errorf("rule %q forbids nothing", r.why)
		}
	}
}

func TestPackagesAreDescribedInALine(t *testing.T) {
	for _, p := range load(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.rel())
		}
	}
}

func goFiles(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go") && !strings.HasPrefix(d.Name(), "zz_generated"):
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreShort(t *testing.T) {
	goFiles(t, func(path string) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			n++
		}
		if n > maxLines {
			t.Errorf("%s has %d lines, at most %d", path, n, maxLines)
		}
	})
}

func TestNothingHidesInInit(t *testing.T) {
	goFiles(t, func(path string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range initFuncs(f) {
			t.Errorf("%s has an init function at %v: wire it by hand", path, d)
		}
	})
}

func TestMainIsShort(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "cmd/boltseal/main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte("\n")); n > 40 {
		t.Errorf("main.go has %d lines; what it does belongs into internal/cli", n)
	}
}
