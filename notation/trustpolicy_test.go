package notation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
)

const whom = "x509.subject:C=US,ST=WA,O=Example"

func TestNewTrustPolicyRefuses(t *testing.T) {
	t.Parallel()
	one := func(change ...func(*TrustPolicyDoc)) TrustPolicyDocument { return document(statementOf(change...)) }
	many := func(n int, text func(int) string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = text(i)
		}
		return list
	}
	var tooMany TrustPolicyDocument
	for i := range MaxTrustPolicies + 1 {
		tooMany.TrustPolicies = append(tooMany.TrustPolicies, statementOf(scopes(fmt.Sprintf("a.example/r%d", i)), func(d *TrustPolicyDoc) { d.Name = fmt.Sprint(i) }))
	}
	tooMany.Version = "1.0"
	for _, c := range []struct {
		name string
		doc  TrustPolicyDocument
		says []string
	}{
		{"nothing", TrustPolicyDocument{}, []string{"no version"}},
		{"another version", TrustPolicyDocument{Version: "1.1", TrustPolicies: []TrustPolicyDoc{statementOf()}}, []string{`version "1.1"`, `"1.0"`}},
		{"no statements", TrustPolicyDocument{Version: "1.0"}, []string{"no trustPolicies"}},
		{"too many statements", tooMany, []string{"1001 trustPolicies"}},
		{"no name", one(func(d *TrustPolicyDoc) { d.Name = "" }), []string{"no name"}},
		{"one name twice", document(statementOf(scopes("a.example/a")), statementOf(scopes("a.example/b"))), []string{`two trust policies are named "release"`}},

		{"no scopes", one(scopes()), []string{"registryScopes is empty"}},
		{"wildcard and another", one(scopes("*", "a.example/b")), []string{`"*" must be the only entry`}},
		{"another and wildcard", one(scopes("a.example/b", "*")), []string{`"*" must be the only entry`}},
		{"wildcard in two statements", document(statementOf(), statementOf(func(d *TrustPolicyDoc) { d.Name = "b" })), []string{`"*" belongs to trust policy "release" already`}},
		{"wildcard in a host", one(scopes("*.example/app")), []string{"a wildcard must be the only entry"}},
		{"wildcard at the end", one(scopes("a.example/*")), []string{"a wildcard must be the only entry"}},
		{"a scope twice in a statement", one(scopes("a.example/b", "a.example/b")), []string{`"a.example/b" belongs to trust policy "release" already`}},
		{"a scope in two statements", document(statementOf(scopes("a.example/b")), statementOf(scopes("a.example/b"), func(d *TrustPolicyDoc) { d.Name = "b" })), []string{`trust policy "b"`, `belongs to trust policy "release" already`}},
		{"a scope twice in two spellings", one(scopes("A.example:443/b", "a.example/b")), []string{"belongs to trust policy"}},
		{"Docker Hub twice in two spellings", one(scopes("docker.io/team/b", "index.docker.io/team/b")), []string{"belongs to trust policy"}},
		{"host only", one(scopes("a.example")), []string{"must be HOST/REPOSITORY"}},
		{"empty scope", one(scopes("")), []string{"must be HOST/REPOSITORY"}},
		{"tag", one(scopes("a.example/b:v1")), []string{"without tag and digest"}},
		{"tag latest", one(scopes("a.example/b:latest")), []string{"without tag and digest"}},
		{"digest", one(scopes("a.example/b@" + target.Digest.String())), []string{"without tag and digest"}},
		{"URL", one(scopes("https://a.example/b")), []string{"registryScopes"}},
		{"upper case in the repository", one(scopes("a.example/B")), []string{"registryScopes"}},
		{"homoglyph", one(scopes("a.example/аpp")), []string{"registryScopes"}},
		{"too many scopes", one(scopes(many(MaxScopes+1, func(i int) string { return fmt.Sprintf("a.example/r%d", i) })...)), []string{"more than 10000 registryScopes"}},

		{"no level", one(level("")), []string{"signatureVerification.level is missing", "strict, permissive, audit, skip"}},
		{"mistyped level", one(level("stict")), []string{`"stict"`, "strict"}},
		{"level in upper case", one(level("Strict")), []string{`"Strict"`}},
		{"level custom", one(level("custom")), []string{`"custom"`}},
		{"skip for everything", document(statementOf(level("skip"), scopes("*"))), []string{`level skip with scope "*"`}},
		{"skip with stores", one(level("skip"), stores("ca:a")), []string{"level skip checks nothing"}},
		{"skip with identities", one(level("skip"), identities("*")), []string{"level skip checks nothing"}},
		{"skip with an override", one(level("skip"), override("expiry", "log")), []string{"nothing to override"}},
		{"override of integrity", one(override("integrity", "log")), []string{"integrity cannot be overridden"}},
		{"override of integrity to what it is", one(override("integrity", "enforce")), []string{"integrity cannot be overridden"}},
		{"mistyped check", one(override("revocaton", "skip")), []string{`"revocaton" is no check`, "revocation"}},
		{"override of identity", one(override("identity", "log")), []string{`"identity" is no check`}},
		{"mistyped action", one(override("expiry", "logg")), []string{`"logg"`, "log"}},
		{"authenticity skipped", one(override("authenticity", "skip")), []string{"only revocation can be skipped"}},
		{"expiry skipped", one(override("expiry", "skip")), []string{"only revocation can be skipped"}},
		{"timestamp skipped", one(override("authenticTimestamp", "skip")), []string{"only revocation can be skipped"}},
		{"verifyTimestamp", one(verifyTimestamp("afterCertExpired")), []string{`"afterCertExpired"`, "afterCertExpiry"}},
		{"verifyTimestamp under skip", one(level("skip"), verifyTimestamp("never")), []string{`"never"`}},

		{"no stores", one(stores()), []string{"trustStores is empty"}},
		{"store without type", one(stores("release")), []string{`"release" must be TYPE:NAME`}},
		{"store of unknown type", one(stores("caa:release")), []string{"ca, signingAuthority, tsa"}},
		{"store type in upper case", one(stores("CA:release")), []string{"ca, signingAuthority, tsa"}},
		{"store without name", one(stores("ca:")), []string{"the name may contain letters"}},
		{"store name with a slash", one(stores("ca:../../etc")), []string{"the name may contain letters"}},
		{"store name with a colon", one(stores("ca:a:b")), []string{"the name may contain letters"}},
		{"store name that is not ASCII", one(stores("ca:ä")), []string{"the name may contain letters"}},
		{"timestamp authorities only", one(stores("tsa:a")), []string{"no signer would be trusted"}},

		{"no identities", one(identities()), []string{"trustedIdentities is empty"}},
		{"empty identity", one(identities("")), []string{`"" must be "*" or start with "x509.subject:"`}},
		{"wildcard and another identity", one(identities("*", whom)), []string{`"*" must be the only entry`}},
		{"another identity and wildcard", one(identities(whom, "*")), []string{`"*" must be the only entry`}},
		{"wildcard twice", one(identities("*", "*")), []string{`"*" must be the only entry`}},
		{"mistyped prefix", one(identities("x509.subjct:C=US,ST=WA,O=Example")), []string{"x509.subject"}},
		{"no prefix", one(identities("C=US,ST=WA,O=Example")), []string{"x509.subject:"}},
		{"another prefix", one(identities("x509.san:a.example")), []string{"x509.subject:"}},
		{"too many identities", one(identities(many(MaxIdentities+1, func(i int) string { return fmt.Sprintf("%s%d", whom, i) })...)), []string{"more than 1000"}},
		{"overlap", one(identities(whom, whom+",CN=a")), []string{"overlap"}},
		{"overlap the other way", one(identities(whom+",CN=a", whom)), []string{"overlap"}},
		{"the same twice", one(identities(whom, whom)), []string{"overlap"}},
		{"the same in another order", one(identities(whom, "x509.subject:O=Example,S=WA,C=US")), []string{"overlap"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := NewTrustPolicy(c.doc)
			if p != nil || !errors.Is(err, boltseal.ErrConfiguration) {
				t.Fatalf("%v, %v", p, err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v does not say %q", err, s)
				}
			}
		})
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	all := actions{enforce, enforce, enforce, enforce}
	for _, c := range []struct {
		name   string
		change []func(*TrustPolicyDoc)
		want   actions
	}{
		{"strict", []func(*TrustPolicyDoc){level("strict")}, all},
		{"permissive", []func(*TrustPolicyDoc){level("permissive")}, actions{enforce, record, record, record}},
		{"audit", []func(*TrustPolicyDoc){level("audit")}, actions{record, record, record, record}},
		{"skip", []func(*TrustPolicyDoc){level("skip")}, actions{skip, skip, skip, skip}},
		{"authenticity logged", []func(*TrustPolicyDoc){override("authenticity", "log")}, actions{authenticity: record}},
		{"timestamp logged", []func(*TrustPolicyDoc){override("authenticTimestamp", "log")}, actions{timestamp: record}},
		{"expiry logged", []func(*TrustPolicyDoc){override("expiry", "log")}, actions{expiry: record}},
		{"revocation logged", []func(*TrustPolicyDoc){override("revocation", "log")}, actions{revocation: record}},
		{"revocation skipped", []func(*TrustPolicyDoc){override("revocation", "skip")}, actions{revocation: skip}},
		{"audit, all enforced", []func(*TrustPolicyDoc){level("audit"), override("authenticity", "enforce", "authenticTimestamp", "enforce", "expiry", "enforce", "revocation", "enforce")}, all},
		{"an empty override", []func(*TrustPolicyDoc){override()}, all},
	} {
		p, err := NewTrustPolicy(document(statementOf(c.change...)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := p.statements[0].actions; got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	// A statement's override must not reach another statement of the same level.
	p := must(NewTrustPolicy(document(statementOf(level("audit"), override("expiry", "enforce")), statementOf(level("audit"), scopes(repository), func(d *TrustPolicyDoc) { d.Name = "b" }))))(t)
	if p.statements[1].actions.expiry != record {
		t.Error("an override reached another statement")
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	named := func(name string, list ...string) TrustPolicyDoc {
		return statementOf(scopes(list...), func(d *TrustPolicyDoc) { d.Name = name })
	}
	exact := []TrustPolicyDoc{
		named("one", "a.example/team/app", "a.example/team/tool"), named("ports", "b.example:5000/app"),
		named("default port", "c.example:443/app"), named("case", "D.Example/app"), named("hub", "docker.io/library/nginx"),
		named("hub short", "team/app"), named("local", "localhost:5000/app"),
	}
	withWildcard := must(NewTrustPolicy(document(append(slices.Clone(exact), named("rest", "*"))...)))(t)
	without := must(NewTrustPolicy(document(exact...)))(t)
	pin := "@" + target.Digest.String()
	for _, c := range []struct{ ref, want string }{
		{"a.example/team/app" + pin, "one"},
		{"a.example/team/app:v1", "one"},
		{"a.example/team/app:v1" + pin, "one"},
		{"A.EXAMPLE/team/app", "one"},
		{"a.example:443/team/app", "one"},
		{"a.example/team/tool", "one"},
		{"a.example/team", ""},
		{"a.example/team/app/sub", ""},
		{"a.example/team/apps", ""},
		{"a.example:5000/team/app", ""},
		{"evil.a.example/team/app", ""},
		{"b.example:5000/app", "ports"},
		{"b.example/app", ""},
		{"c.example/app", "default port"},
		{"d.example/app", "case"},
		{"nginx", "hub"},
		{"docker.io/library/nginx:1", "hub"},
		{"index.docker.io/library/nginx", "hub"},
		{"docker.io/nginxinc/nginx", ""},
		{"docker.io/team/app", "hub short"},
		{"localhost:5000/app", "local"},
		{"localhost/app", ""},
	} {
		ref := must(boltseal.ParseReference(c.ref))(t)
		if got := without.match(ref); (got == nil) != (c.want == "") || got != nil && got.name != c.want {
			t.Errorf("%s matches %+v, want %q", c.ref, got, c.want)
		}
		want := c.want
		if want == "" {
			want = "rest"
		}
		if got := withWildcard.match(ref); got == nil || got.name != want {
			t.Errorf("%s matches %+v beside a wildcard, want %q", c.ref, got, want)
		}
	}
}

func TestTrustStoresOfAPolicy(t *testing.T) {
	t.Parallel()
	p := must(NewTrustPolicy(document(
		statementOf(stores("ca:a", "tsa:t", "ca:a")),
		statementOf(scopes("a.example/b"), stores("signingAuthority:s", "ca:a", "ca:A-b_c.9"), func(d *TrustPolicyDoc) { d.Name = "b" }),
		statementOf(level("skip"), func(d *TrustPolicyDoc) { d.Name = "c" }))))(t)
	if got, want := p.TrustStores(), []string{"ca:a", "tsa:t", "signingAuthority:s", "ca:A-b_c.9"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
