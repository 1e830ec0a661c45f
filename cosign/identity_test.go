package cosign

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
)

// TestExpressionsMatchTheWhole: an expression that fits a part does not match
// (sigstore-go's certificate_identity.go searches; CVE-2025-29778 of Kyverno).
func TestExpressionsMatchTheWhole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expression, text string
		want             bool
	}{
		{"github.com/acme", "https://github.com/acme/app", false},
		{"https://github.com/acme/.*", "https://github.com/acme/app", true},
		{"https://github.com/acme/.*", "https://evil.example/https://github.com/acme/app", false},
		{"a|b", "ab", false}, {"a|b", "b", true}, {"a|b", "xb", false}, {"a", "a\n", false}, {"(?m)a$", "a\nb", false}, {"(?s)a.*", "a\nb", true},
	} {
		m := must(ExpressionMatch(c.expression))(t)
		if m.Matches(c.text) != c.want {
			t.Errorf("%q and %q: %v", c.expression, c.text, !c.want)
		}
	}
	for _, bad := range []string{"", "(", "a)|(b", strings.Repeat("a", maxMatchLength+1), "(?=a)"} {
		if m, err := ExpressionMatch(bad); err == nil {
			t.Errorf("%.20q: %v", bad, m)
		}
	}
	if ExactMatch("").Matches("") || (Match{}).Matches("") || !ExactMatch("a").Matches("a") || ExactMatch("a").Matches("A") {
		t.Error("exact")
	}
}

// TestIdentities: issuer and subject are both required and both compared, issuers
// exactly (CVE-2026-22772, CVE-2026-49478); extensions are ANDed, identities ORed.
func TestIdentities(t *testing.T) {
	t.Parallel()
	id := testsigstore.DefaultIdentity()
	v1 := issue(t, testsigstore.Identity{})
	b := bundleCandidate(sign(t, v1, statement(), testsigstore.SignOptions{}).Bundle(3))
	right := workflow()
	with := func(change func(*Identity)) Identity {
		out := workflow()
		change(&out)
		return out
	}
	extension := func(name, value string) Identity {
		return with(func(i *Identity) { i.Extensions = map[string]Match{name: ExactMatch(value)} })
	}
	for name, c := range map[string]struct {
		identities []Identity
		cause      boltseal.Cause
	}{
		"right":              {[]Identity{right}, boltseal.CauseNone},
		"another subject":    {[]Identity{with(func(i *Identity) { i.Subject = ExactMatch("x") })}, boltseal.CauseIdentity},
		"another issuer":     {[]Identity{with(func(i *Identity) { i.Issuer = ExactMatch("https://evil.example") })}, boltseal.CauseIdentity},
		"issuer's suffix":    {[]Identity{with(func(i *Identity) { i.Issuer = ExactMatch(strings.TrimPrefix(id.Issuer, "https://")) })}, boltseal.CauseIdentity},
		"either":             {[]Identity{with(func(i *Identity) { i.Subject = ExactMatch("x") }), right}, boltseal.CauseNone},
		"extension":          {[]Identity{extension("sourceRepositoryURI", "https://github.com/acme/app")}, boltseal.CauseNone},
		"another repository": {[]Identity{extension("sourceRepositoryURI", "https://github.com/acme/other")}, boltseal.CauseIdentity},
		"absent extension":   {[]Identity{extension("deploymentEnvironment", "prod")}, boltseal.CauseIdentity},
		"one of two": {[]Identity{with(func(i *Identity) {
			i.Extensions = map[string]Match{"runnerEnvironment": ExactMatch("github-hosted"), "sourceRepositoryRef": ExactMatch("refs/heads/dev")}
		})}, boltseal.CauseIdentity},
	} {
		p := keyless(t)
		p.Identities = c.identities
		t.Log(name)
		expect(t, judge(t, verifier(t, p), b), c.cause)
	}
	p := keyless(t)
	p.Identities = []Identity{with(func(i *Identity) { i.Subject = ExactMatch("mailto:somebody") })}
	ev := judge(t, verifier(t, p), b)
	if !strings.Contains(ev.Reason.Message, id.URI) || !strings.Contains(ev.Reason.Message, id.Issuer) || !strings.Contains(ev.Reason.Message, "mailto:somebody") {
		t.Errorf("found and wanted are not both said: %s", ev.Reason.Message)
	}
	for name, one := range map[string]testsigstore.Identity{
		"a@example.com": {Email: "a@example.com", Issuer: "https://accounts.example.com"},
		"user!example":  {UserName: "user!example", Issuer: "https://accounts.example.com"},
	} {
		p.Identities = []Identity{{Subject: ExactMatch(name), Issuer: ExactMatch("https://accounts.example.com")}}
		expect(t, judge(t, verifier(t, p), bundleCandidate(sign(t, issue(t, one), statement(), testsigstore.SignOptions{}).Bundle(3))), boltseal.CauseNone)
	}
}

// TestOptionsThatAreRefused: what would trust everybody, or nobody, is an error that
// says so, before anything is verified.
func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	key := Key{Name: "k", Public: p256(t).Key.Public()}
	for name, c := range map[string]struct {
		change func(*TrustPolicy)
		says   string
	}{
		"no issuer":  {func(p *TrustPolicy) { p.Identities[0].Issuer = Match{} }, "has no issuer"},
		"no subject": {func(p *TrustPolicy) { p.Identities[0].Subject = ExactMatch("") }, "has no subject"},
		"unknown extension": {func(p *TrustPolicy) {
			p.Identities[0].Extensions = map[string]Match{"sourceRepositoryUri": ExactMatch("x")}
		}, "sourceRepositoryURI"},
		"empty extension":    {func(p *TrustPolicy) { p.Identities[0].Extensions = map[string]Match{"runnerEnvironment": {}} }, "must be something"},
		"nobody":             {func(p *TrustPolicy) { p.Identities = nil }, "neither keys nor identities"},
		"no scopes":          {func(p *TrustPolicy) { p.Scopes = nil }, "no scopes"},
		"a star within":      {func(p *TrustPolicy) { p.Scopes = []string{"a*b"} }, "a*b"},
		"no root":            {func(p *TrustPolicy) { p.Root = nil }, "no trusted root"},
		"no log":             {func(p *TrustPolicy) { p.Root = trustedRoot(t, testsigstore.RootOptions{NoLogs: true}) }, "transparency log"},
		"no CT log":          {func(p *TrustPolicy) { p.Root = trustedRoot(t, testsigstore.RootOptions{NoCT: true}) }, "certificate transparency log"},
		"no authority":       {func(p *TrustPolicy) { p.Root = trustedRoot(t, testsigstore.RootOptions{NoCA: true}) }, "certificate authority"},
		"no TSA":             {func(p *TrustPolicy) { p.Root, p.Time = trustedRoot(t, testsigstore.RootOptions{NoTSA: true}), TimeBoth }, "timestamp authority"},
		"a log's, ignored":   {func(p *TrustPolicy) { p.IgnoreLog, p.Time = true, TimeLog }, "no entry of one is read"},
		"another time":       {func(p *TrustPolicy) { p.Time = "now" }, "now"},
		"one key twice":      {func(p *TrustPolicy) { p.Keys = []Key{key, {Name: "l", Public: key.Public}} }, "one and the same"},
		"too many keys":      {func(p *TrustPolicy) { p.Keys = slices.Repeat([]Key{key}, MaxKeys+1) }, "at most"},
		"no name":            {func(p *TrustPolicy) { p.Name = "" }, "name"},
		"one scope twice":    {func(p *TrustPolicy) { p.Scopes = []string{"*", "*"} }, "both have the scope"},
		"too many scopes":    {func(p *TrustPolicy) { p.Scopes = slices.Repeat([]string{"a"}, MaxScopes+1) }, "at most"},
		"too many identites": {func(p *TrustPolicy) { p.Identities = slices.Repeat(p.Identities, MaxIdentities+1) }, "at most"},
	} {
		p := keyless(t)
		c.change(&p)
		v, err := New(Options{Name: "v", TrustPolicies: []TrustPolicy{p}})
		if err == nil || !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

// TestScopes: the most specific scope decides, and no scope is no trust.
func TestScopes(t *testing.T) {
	t.Parallel()
	s := p256(t)
	named := func(name string, scopes ...string) TrustPolicy {
		p := byKey(s)
		p.Name, p.Scopes = name, scopes
		return p
	}
	v := verifier(t, named("all", "*"), named("team", "registry.example/team/*"), named("prefix", "registry.example/te*"), named("app", "registry.example/team/app"))
	for repository, want := range map[string]string{"team/app": "app", "team/app2": "team", "team": "prefix", "teams/x": "prefix", "other": "all"} {
		p := v.scopes.find(boltseal.Reference{Registry: "registry.example", Repository: repository})
		if p == nil || p.Name != want {
			t.Errorf("%s: %+v, not %s", repository, p, want)
		}
	}
	c := bundleCandidate(sign(t, s, statement(), testsigstore.SignOptions{NoLog: true}).Bundle(3))
	expect(t, judge(t, verifier(t, named("other", "elsewhere.example/*")), c), boltseal.CauseNoTrustPolicy)
}

// TestTrustedRoots: members that are not known, logs without a start, and what cannot be
// used are refused (CVE-2023-47122: a log is never trusted by what it says itself), and
// windows count, their ends included.
func TestTrustedRoots(t *testing.T) {
	t.Parallel()
	right := sigstore(t).TrustedRoot(testsigstore.RootOptions{})
	first := func(kind string, path ...any) []any { return append([]any{kind, 0}, path...) }
	for name, b := range map[string][]byte{
		"unknown member":     edited(t, right, "x", "tlog"),
		"in a log":           edited(t, right, "x", first("tlogs", "url")...),
		"another type":       edited(t, right, "application/json", "mediaType"),
		"no start":           edited(t, right, map[string]any{}, first("tlogs", "publicKey", "validFor")...),
		"no window":          edited(t, right, nil, first("ctlogs", "publicKey", "validFor")...),
		"reversed":           edited(t, right, map[string]any{"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, first("tlogs", "publicKey", "validFor")...),
		"another hash":       edited(t, right, "SHA2_512", first("tlogs", "hashAlgorithm")...),
		"another kind":       edited(t, right, "PKIX_ED25519", first("tlogs", "publicKey", "keyDetails")...),
		"no key":             edited(t, right, "", first("tlogs", "publicKey", "rawBytes")...),
		"no id":              edited(t, right, nil, first("tlogs", "logId")...),
		"a short id":         edited(t, right, "AAAA", first("ctlogs", "logId", "keyId")...),
		"no chain":           edited(t, right, []any{}, first("certificateAuthorities", "certChain", "certificates")...),
		"no certificate":     edited(t, right, "AAAA", first("certificateAuthorities", "certChain", "certificates", 0, "rawBytes")...),
		"a leaf alone":       edited(t, right, []any{map[string]any{"rawBytes": sigstore(t).TSA.Chain.Leaf().Raw}}, first("timestampAuthorities", "certChain", "certificates")...),
		"not in order":       edited(t, right, []any{map[string]any{"rawBytes": sigstore(t).CA.Certs[2].Raw}, map[string]any{"rawBytes": sigstore(t).CA.Certs[1].Raw}}, first("certificateAuthorities", "certChain", "certificates")...),
		"of somebody else":   edited(t, right, []any{map[string]any{"rawBytes": sigstore(t).CA.Certs[1].Raw}, map[string]any{"rawBytes": sigstore(t).TSA.Chain.Root().Raw}}, first("certificateAuthorities", "certChain", "certificates")...),
		"nobody":             []byte(`{"mediaType":"` + trustedRootV01 + `"}`),
		"nothing":            nil,
		"too long":           []byte(strings.Repeat(" ", MaxTrustedRootBytes+1)),
		"an id for two logs": edited(t, right, sigstore(t).Rekor.ID, "tlogs", 1, "logId", "keyId"),
	} {
		if r, err := ParseTrustedRoot(b); !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	s := issue(t, testsigstore.Identity{})
	b := bundleCandidate(sign(t, s, statement(), testsigstore.SignOptions{Timestamp: true}).Bundle(3))
	for name, c := range map[string]struct {
		o     testsigstore.RootOptions
		cause boltseal.Cause
	}{
		"ends at the time":   {testsigstore.RootOptions{End: noon}, boltseal.CauseNone},
		"starts at the time": {testsigstore.RootOptions{Start: noon}, boltseal.CauseNone},
		"ended before":       {testsigstore.RootOptions{End: noon.Add(-1)}, boltseal.CauseBadCertificate},
		"starts after":       {testsigstore.RootOptions{Start: noon.Add(1)}, boltseal.CauseBadCertificate},
	} {
		p := keyless(t)
		p.Root = trustedRoot(t, c.o)
		t.Log(name)
		expect(t, judge(t, verifier(t, p), b), c.cause)
		// With one kind's window alone.
		if c.cause == boltseal.CauseNone {
			continue
		}
		for kind, cause := range map[string]boltseal.Cause{"tlogs": boltseal.CauseNotLogged, "ctlogs": boltseal.CauseBadCertificate, "certificateAuthorities": boltseal.CauseCertificateExpired} {
			wrong := c.o
			p.Root = trustedRoot(t, testsigstore.RootOptions{Mutate: func(doc map[string]any) {
				at := doc[kind].([]any)[0].(map[string]any)
				if kind != "certificateAuthorities" {
					at = at["publicKey"].(map[string]any)
				}
				if wrong.End.IsZero() {
					at["validFor"] = map[string]any{"start": wrong.Start.Format("2006-01-02T15:04:05.999999999Z07:00")}
				} else {
					at["validFor"] = map[string]any{"start": "2020-01-01T00:00:00Z", "end": wrong.End.Format("2006-01-02T15:04:05.999999999Z07:00")}
				}
			}})
			t.Log(name, kind)
			expect(t, judge(t, verifier(t, p), b), cause)
		}
	}
}
