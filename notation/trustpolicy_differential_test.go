package notation

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"

	"github.com/boltseal/boltseal"
)

// differential is how many combinations a differential test tries: few by
// default, as many as BOLTSEAL_DIFFERENTIAL says.
func differential(tb testing.TB, few int) int {
	tb.Helper()
	s := os.Getenv("BOLTSEAL_DIFFERENTIAL")
	if s == "" {
		return few
	}
	return must(strconv.Atoi(s))(tb)
}

// strictDocuments are the documents that notation-go accepts and we do not, by a
// part of our message, with the reason.
var strictDocuments = map[string]string{
	`level skip with scope "*"`:            "would trust every signed image",
	`must be "*" or start with`:            "notation-go ignores an identity of an unknown kind",
	"names timestamp authorities only":     "notation-go finds out when it verifies",
	"belongs to trust policy":              "one repository in two spellings",
	"not an image reference":               "a repository that a container runtime could not pull from, or would pull from elsewhere",
	"twice":                                "an attribute twice where one is empty",
	"\"*\" must be the only entry":         "the identity * twice, which says the same",
	"it is longer than":                    "limit",
	"it has more than":                     "limit",
	"more than " + strconv.Itoa(MaxScopes): "limit",
}

// theirs is the same document for notation-go.
func theirs(tb testing.TB, doc TrustPolicyDocument) *trustpolicy.Document {
	tb.Helper()
	var d trustpolicy.Document
	if err := json.Unmarshal(must(json.Marshal(doc))(tb), &d); err != nil {
		tb.Fatal(err)
	}
	return &d
}

// compareDocument fails where we accept what they refuse, or refuse what they
// accept for a reason without a name. It returns the reason's name.
func compareDocument(tb testing.TB, doc TrustPolicyDocument) (*TrustPolicy, string) {
	tb.Helper()
	ours, err := NewTrustPolicy(doc)
	other := theirs(tb, doc).Validate()
	if err == nil {
		// A host in brackets is an address of IPv6, which their grammar of scopes
		// does not have: such a repository can be named, not trusted more.
		if other != nil && !strings.Contains(other.Error(), "[") {
			tb.Fatalf("we accept what notation-go refuses: %v\n%+v", other, doc)
		}
		return ours, ""
	}
	if other != nil {
		return nil, ""
	}
	for part := range strictDocuments {
		if strings.Contains(err.Error(), part) {
			return nil, part
		}
	}
	tb.Fatalf("we refuse what notation-go accepts, for no reason with a name: %v\n%+v", err, doc)
	return nil, ""
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// some picks up to n of a list, mostly one.
func some(r *rand.Rand, n int, list []string) []string {
	var out []string
	for range max(1, r.IntN(2*n)-n+1) {
		out = append(out, pick(r, list...))
	}
	if r.IntN(40) == 0 {
		return nil
	}
	return out
}

var (
	scopeWords = []string{"a.example/app", "a.example/app", "b.example/team/app", "c.example:5000/x", "localhost:5000/x", "*", "A.Example/app", "a.example:443/app",
		"docker.io/library/nginx", "docker.io/nginx", "team/app", "index.docker.io/library/nginx", "a.example", "", "a.example/*", "a.example/app:v1", "a.example/APP", "HOST/app",
		"https://a.example/app", "a.example/app@sha256:00", "a..example/app", "a.example//app", "a.example/a__b", "a.example/a--b", "a.example/-a", "a.example/app/", "x/y/z", "*a/b", "127.0.0.1/app", "a_b.example/app"}
	identityWords = []string{"*", whom, whom + ",CN=a", whom + ",CN=b", "x509.subject:O=Example,S=WA,C=US", "x509.subject:C=DE,ST=BY,O=Beispiel", "x509.subject:C=DE,ST=BY",
		"x509.subject:C=US,ST=WA,O=Example+OU=a", "x509.subject:C=US,ST=WA,O=#1", "x509.subject:C=US,ST=WA,O=x,O=y", "x509.subject:", "x509.subject", "", "x509.san:a", "X509.subject:C=US,ST=WA,O=Example",
		"x509.subject:C=US,ST=WA,O=Example,CN=,CN=a", "x509.subject:C=US,ST=WA,O=a\\,b", "x509.subject:c=US,ST=WA,O=Example", "x509.subject:C=US,ST=WA,S=WA,O=Example", " " + whom, "x509.subject: C=FR, ST=X, O=Y"}
	storeWords = []string{"ca:release", "ca:release", "signingAuthority:sa", "tsa:time", "ca:", "ca", ":a", "CA:a", "ca:a/b", "ca:a b", "ca:..", "tsa:t.s-a_1", "x509:a", "ca:a:b", ""}
	levelWords = []string{"strict", "strict", "permissive", "audit", "skip", "Strict", "", "custom"}
	keyWords   = []string{"integrity", "authenticity", "authenticTimestamp", "expiry", "revocation", "Expiry", "", "identity"}
	valueWords = []string{"enforce", "log", "skip", "logged", "", "Enforce"}
	nameWords  = []string{"a", "b", "c", "d", "", "with space", "ü"}
	whenWords  = []string{"", "", "always", "afterCertExpiry", "Always", "never"}
)

// randomDocument is right in most of its parts, so that the rules behind the
// first one are reached too.
func randomDocument(r *rand.Rand) TrustPolicyDocument {
	doc := TrustPolicyDocument{Version: pick(r, "1.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.0", "1.1", "")}
	for i := range 1 + r.IntN(3) {
		d := statementOf(scopes([]string{"a.example/app", "b.example/app", "*"}[i]))
		d.Name = nameWords[i]
		if r.IntN(10) == 0 {
			d.Name = pick(r, nameWords...)
		}
		if r.IntN(3) == 0 {
			d.RegistryScopes = some(r, 3, scopeWords)
		}
		if r.IntN(4) == 0 {
			d.SignatureVerification.Level = pick(r, levelWords...)
		}
		if d.SignatureVerification.Level == levelSkip && r.IntN(4) > 0 {
			d.TrustStores, d.TrustedIdentities = nil, nil
		} else {
			if r.IntN(5) == 0 {
				d.TrustStores = some(r, 3, storeWords)
			}
			if r.IntN(4) == 0 {
				d.TrustedIdentities = some(r, 3, identityWords)
			}
		}
		if r.IntN(6) == 0 {
			d.SignatureVerification.Override = map[string]string{pick(r, keyWords...): pick(r, valueWords...)}
			if r.IntN(3) == 0 {
				d.SignatureVerification.Override[pick(r, keyWords...)] = pick(r, valueWords...)
			}
		}
		if r.IntN(6) == 0 {
			d.SignatureVerification.VerifyTimestamp = pick(r, whenWords...)
		}
		doc.TrustPolicies = append(doc.TrustPolicies, d)
	}
	return doc
}

// TestTrustPolicyDifferential holds thousands of documents against notation-go's
// validation, and the statement that we choose for an image against theirs.
func TestTrustPolicyDifferential(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	accepted, strict := 0, map[string]int{}
	pin := "@" + target.Digest.String()
	for range differential(t, 4000) {
		doc := randomDocument(r)
		policy, why := compareDocument(t, doc)
		if why != "" {
			strict[why]++
		}
		if policy == nil {
			continue
		}
		accepted++
		compareLevels(t, doc, policy)
		canonical := theirs(t, doc)
		for i := range canonical.TrustPolicies {
			for j, scope := range canonical.TrustPolicies[i].RegistryScopes {
				if scope != anyone {
					canonical.TrustPolicies[i].RegistryScopes[j] = must(canonicalScope(scope))(t)
				}
			}
		}
		for _, scope := range append([]string{"z.example/other"}, slices.Concat(doc.TrustPolicies[0].RegistryScopes, []string{"a.example/app"})...) {
			if scope == anyone {
				continue
			}
			ref := must(boltseal.ParseReference(scope + pin))(t)
			ours := policy.match(ref)
			other, err := canonical.GetApplicableTrustPolicy(ref.Name() + pin)
			if (err == nil) != (ours != nil) || ours != nil && ours.name != other.Name {
				t.Fatalf("%s: we apply %+v, notation-go %+v, %v\n%+v", ref, ours, other, err, doc)
			}
		}
	}
	t.Logf("%d documents accepted; refused by us alone: %v", accepted, strict)
	for _, part := range []string{`level skip with scope "*"`, `must be "*" or start with`, "names timestamp authorities only", "belongs to trust policy", "not an image reference", "twice"} {
		if strict[part] == 0 {
			t.Errorf("no document was refused because of %q: %s", part, strictDocuments[part])
		}
	}
}

// compareLevels holds what we enforce against what they do.
func compareLevels(tb testing.TB, doc TrustPolicyDocument, policy *TrustPolicy) {
	tb.Helper()
	for i, d := range theirs(tb, doc).TrustPolicies {
		other := must(d.SignatureVerification.GetVerificationLevel())(tb)
		ours := policy.statements[i].actions
		for kind, act := range map[trustpolicy.ValidationType]action{trustpolicy.TypeAuthenticity: ours.authenticity,
			trustpolicy.TypeAuthenticTimestamp: ours.timestamp, trustpolicy.TypeExpiry: ours.expiry, trustpolicy.TypeRevocation: ours.revocation} {
			if string(other.Enforcement[kind]) != actionNames[act] {
				tb.Fatalf("%s: %s is %s here and %s there\n%+v", d.Name, kind, actionNames[act], other.Enforcement[kind], doc)
			}
		}
	}
}

// FuzzTrustPolicy: no document that we accept is refused by notation-go, and
// what we refuse alone has a name.
func FuzzTrustPolicy(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		f.Add(must(json.Marshal(randomDocument(r)))(f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var doc TrustPolicyDocument
		if len(b) > 1<<16 || json.Unmarshal(b, &doc) != nil {
			return
		}
		compareDocument(t, doc)
	})
}
