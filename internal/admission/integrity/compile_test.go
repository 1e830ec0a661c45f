package integrity_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spec  v1alpha1.ImageIntegrityPolicySpec
		field string
		says  string
	}{
		{"action", v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: "denny"}, "spec.enforcementAction", `did you mean "deny"`},
		{"kind", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Kinds: []string{"Deploymet"}}}, "spec.match.kinds", `did you mean "Deployment"`},
		{"unavailable", v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: v1alpha1.OnUnavailable{Action: "lastknowngood"}}, "spec.onUnavailable.action", `did you mean "lastKnownGood"`},
		{"maxAge without use", v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: v1alpha1.OnUnavailable{MaxAge: &metav1.Duration{Duration: time.Hour}}}, "spec.onUnavailable.maxAge", "lastKnownGood only"},
		{"negative maxAge", v1alpha1.ImageIntegrityPolicySpec{OnUnavailable: v1alpha1.OnUnavailable{Action: "lastKnownGood", MaxAge: &metav1.Duration{Duration: -1}}}, "spec.onUnavailable.maxAge", "positive"},
		{"star in host", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"myregistry*"}}, "spec.excludedImages", "myregistry.evil.example"},
		{"star in the middle", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"ghcr.io/*/app"}}, "spec.excludedImages", "at the end only"},
		{"star alone", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"*"}}, "spec.excludedImages", "write the host in full"},
		{"no host", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"library/nginx*"}}, "spec.excludedImages", "docker.io/library/nginx*"},
		{"no image", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"UPPER"}}, "spec.excludedImages", "not an image reference"},
		{"namespace", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Namespaces: []string{"a*b"}}}, "spec.match.namespaces", "at the end only"},
		{"upper-case namespace", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{ExcludedNamespaces: []string{"Prod"}}}, "spec.match.excludedNamespaces", "lower case"},
		{"a namespace that cannot be", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Namespaces: []string{"team_a"}}}, "spec.match.namespaces", "no namespace's name"},
		{"namespaces that cannot be", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Namespaces: []string{"-team*"}}}, "spec.match.namespaces", "no namespace's name"},
		{"an official image without its library", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"docker.io/nginx:*"}}, "spec.excludedImages", "write docker.io/library/nginx:*"},
		{"an upper-case repository", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"reg.example/Team/*"}}, "spec.excludedImages", "no image's canonical name"},
		{"two slashes", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"reg.example//*"}}, "spec.excludedImages", "no image's canonical name"},
		{"no digest", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{"reg.example/a@md5:*"}}, "spec.excludedImages", "no image's canonical name"},
		{"selector", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}}}, "spec.match.labelSelector", "Near"},
		{"too many", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: make([]string, integrity.MaxList+1)}, "spec.excludedImages", "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := integrity.Compile("p", tt.spec)
			if len(problems) != 1 || problems[0].Field != tt.field || !strings.Contains(problems[0].Message, tt.says) {
				t.Errorf("%v, want one problem at %s that says %q", problems, tt.field, tt.says)
			}
		})
	}
}

func compile(t testing.TB, name string, spec v1alpha1.ImageIntegrityPolicySpec) *integrity.Policy {
	t.Helper()
	p, problems := integrity.Compile(name, spec)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

func TestSelect(t *testing.T) {
	labels := func(k, v string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{k: v}}
	}
	pod := integrity.Object{Kind: "Pod", Namespace: "team-a"}
	for _, tt := range []struct {
		name string
		m    v1alpha1.Match
		o    integrity.Object
		want bool
	}{
		{"everything", v1alpha1.Match{}, pod, true},
		{"kind", v1alpha1.Match{Kinds: []string{"Pod", "Job"}}, pod, true},
		{"other kind", v1alpha1.Match{Kinds: []string{"Job"}}, pod, false},
		{"namespace", v1alpha1.Match{Namespaces: []string{"team-a"}}, pod, true},
		{"a namespace's beginning is not it", v1alpha1.Match{Namespaces: []string{"team"}}, pod, false},
		{"beginning", v1alpha1.Match{Namespaces: []string{"team-*"}}, pod, true},
		{"excluded", v1alpha1.Match{ExcludedNamespaces: []string{"team-*"}}, pod, false},
		{"excluded wins", v1alpha1.Match{Namespaces: []string{"team-a"}, ExcludedNamespaces: []string{"team-a"}}, pod, false},
		{"label", v1alpha1.Match{LabelSelector: labels("app", "x")}, integrity.Object{Kind: "Pod", Namespace: "n", Labels: map[string]string{"app": "x"}}, true},
		{"no label", v1alpha1.Match{LabelSelector: labels("app", "x")}, pod, false},
		{"namespace label", v1alpha1.Match{NamespaceSelector: labels("env", "prod")}, integrity.Object{Kind: "Pod", Namespace: "n", NamespaceLabels: map[string]string{"env": "prod"}}, true},
		{"other namespace label", v1alpha1.Match{NamespaceSelector: labels("env", "prod")}, integrity.Object{Kind: "Pod", Namespace: "n", NamespaceLabels: map[string]string{"env": "dev"}}, false},
		{"labels that are not known let nothing through", v1alpha1.Match{NamespaceSelector: labels("env", "prod")}, pod, true},
		{"the name label needs no lookup", v1alpha1.Match{NamespaceSelector: labels("kubernetes.io/metadata.name", "other")}, pod, false},
		{"nobody can put on another name", v1alpha1.Match{NamespaceSelector: labels("kubernetes.io/metadata.name", "team-a")},
			integrity.Object{Kind: "Pod", Namespace: "team-a", NamespaceLabels: map[string]string{"kubernetes.io/metadata.name": "elsewhere"}}, true},
		{"kube-system", v1alpha1.Match{}, integrity.Object{Kind: "Pod", Namespace: "kube-system"}, false},
		{"our own", v1alpha1.Match{}, integrity.Object{Kind: "Pod", Namespace: "boltseal-system"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := integrity.NewSet([]*integrity.Policy{compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{Match: tt.m})}, "boltseal-system")
			if got := len(s.Select(tt.o)) == 1; got != tt.want {
				t.Errorf("selected: %v, want %v", got, tt.want)
			}
		})
	}
	var none *integrity.Set
	if none.Select(pod) != nil || none.Recalls() || !none.Exempts("kube-system") || none.Exempts("a") || none.Policies() != nil {
		t.Error("a Set that is not there")
	}
}

func TestExcludes(t *testing.T) {
	p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{
		"nginx:1.27", "ghcr.io/acme/*", "localhost:5000/base*", "Registry.Example:443/app*"}})
	for image, want := range map[string]bool{
		"nginx:1.27": true, "docker.io/library/nginx:1.27": true, "index.docker.io/library/nginx:1.27": true,
		"nginx:1.28": false, "nginx": false, "nginx:1.27@sha256:" + strings.Repeat("a", 64): false,
		"ghcr.io/acme/app:1": true, "ghcr.io/acme/deep/app@sha256:" + strings.Repeat("a", 64): true,
		"ghcr.io/acmeevil/app": false, "ghcr.io.evil.example/acme/app": false, "evil.example/ghcr.io/acme/app": false,
		"localhost:5000/base-image": true, "localhost:5001/base": false,
		"registry.example/app:2": true, "registry.example:8443/app": false,
		"GHCR.io/acme/app:1": true, "": false, "ghcr.io/acme/ app": false,
	} {
		if got := p.Excludes(image); got != want {
			t.Errorf("%q excluded: %v, want %v", image, got, want)
		}
	}
}

// excludes says in full what Excludes takes shortcuts to.
func excludes(t *testing.T, pattern, image string) bool {
	t.Helper()
	ref, err := boltseal.ParseReference(image)
	if err != nil {
		return false
	}
	begin, prefix := strings.CutSuffix(pattern, "*")
	if !prefix {
		exact, err := boltseal.ParseReference(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return ref == exact
	}
	host, path, _ := strings.Cut(begin, "/")
	registry, err := boltseal.ParseReference(host + "/x/x")
	if err != nil {
		t.Fatal(err)
	}
	_, tag, _ := strings.Cut(path, ":")
	if ref.Digest != "" && tag != "" && !strings.Contains(path, "@") {
		return false
	}
	return strings.HasPrefix(ref.String(), registry.Registry+"/"+path)
}

// TestATagSaysNothingOfADigest: whoever writes an image can write any tag before a digest,
// so that what is excluded or exempt by its tag is not so with a digest of choice.
func TestATagSaysNothingOfADigest(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		pattern, image string
		want           bool
	}{
		{"reg.example/app:v1*", "reg.example/app:v1.2", true}, {"reg.example/app:v1*", "reg.example/app:v1.2" + digest, false}, {"reg.example/app:v1", "reg.example/app:v1" + digest, false},
		{"reg.example/app:*", "reg.example/app:v1" + digest, true}, {"reg.example/app*", "reg.example/app:v1" + digest, true}, {"reg.example/app:v1@*", "reg.example/app:v1" + digest, true},
		{"reg.example:5000/a*", "reg.example:5000/app:v1" + digest, true}, {"reg.example/app:v1" + digest, "reg.example/app:v1" + digest, true},
	} {
		p, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{c.pattern}, Exemptions: []v1alpha1.Exemption{{Name: "e", Category: v1alpha1.Waiver, Images: []string{c.pattern}}}})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := p.Excludes(c.image); got != c.want {
			t.Errorf("%s excludes %s: %t", c.pattern, c.image, got)
		}
		if got := p.ExemptionOf(integrity.Subject{Namespace: "n"}, c.image, time.Now()) != nil; got != c.want {
			t.Errorf("%s exempts %s: %t", c.pattern, c.image, got)
		}
	}
}

func FuzzExcludes(f *testing.F) {
	f.Add("ghcr.io/acme/*", "ghcr.io/acme/app:1")
	f.Add("nginx", "docker.io/library/nginx:latest")
	f.Add("a.b/*", "a.b.evil/x")
	f.Add("index.docker.io/acme/*", "registry-1.docker.io/acme/x")
	f.Add("a.b:443/*", "A.B/x")
	f.Add("a.b/*", "a.b:443/x")
	f.Add("a.b:5000/x*", "a.b:5000/xx@sha256:"+strings.Repeat("0", 64))
	f.Add("localhost/*", "localhost:443/x")
	f.Fuzz(func(t *testing.T, pattern, image string) {
		p, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{pattern}})
		if len(problems) > 0 {
			return
		}
		if got, want := p.Excludes(image), excludes(t, pattern, image); got != want {
			t.Fatalf("%q excludes %q: %v, want %v", pattern, image, got, want)
		} else if !got {
			return
		}
		// What is excluded is in the registry that the pattern names.
		host := strings.ToLower(strings.SplitN(pattern, "/", 2)[0])
		if !strings.HasSuffix(pattern, "*") || host == "docker.io" || host == "index.docker.io" {
			return
		}
		got := strings.ToLower(strings.SplitN(image, "/", 2)[0])
		if strings.TrimSuffix(host, ":443") != strings.TrimSuffix(got, ":443") {
			t.Errorf("%q excludes %q, of another registry", pattern, image)
		}
	})
}

// TestBeginnings: a pattern may end in any part of an image.
func TestBeginnings(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, begin := range []string{"reg.example/", "reg.example/t", "reg.example/team/", "reg.example/team/a", "reg.example/team/app-", "reg.example/team/app:", "reg.example/team/app:V1.",
		"reg.example/team/app:V1.2", "reg.example/team/app@", "reg.example/team/app@sha", "reg.example/team/app@" + digest[:20], "reg.example/team/app@" + digest, "reg.example/team/app:V1@", "reg.example:5000/",
		"docker.io/", "docker.io/acme", "docker.io/library/nginx:", "index.docker.io/library/nginx:", "localhost/a"} {
		if _, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{begin + "*"}}); len(problems) > 0 {
			t.Errorf("%s*: %v", begin, problems)
		}
	}
	for _, names := range [][]string{{"*"}, {"team-*"}, {"a"}, {strings.Repeat("a", 63)}, {strings.Repeat("a", 63) + "*"}, {"0-*"}} {
		if _, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{ExcludedNamespaces: names}}); len(problems) > 0 {
			t.Errorf("%s: %v", names, problems)
		}
	}
}
