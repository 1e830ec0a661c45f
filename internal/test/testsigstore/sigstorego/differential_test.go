package sigstorego

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/data"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
)

var (
	message = []byte("an image")
	noon    = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

func clock() time.Time { return noon }

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// ask is one question for both.
type ask struct {
	bundle, root    []byte
	issuer, subject string
	digest          []byte // of the artifact
	algorithm       string // of digest; "" means sha256
	noSCT           bool
}

// theirs is sigstore-go's answer: one log, one time, one certificate's timestamp, the
// identity, and the artifact.
func theirs(q ask) (err error) {
	var b bundle.Bundle
	if err := b.UnmarshalJSON(q.bundle); err != nil {
		return err
	}
	r, err := root.NewTrustedRootFromJSON(q.root)
	if err != nil {
		return err
	}
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	if !q.noSCT {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	v, err := verify.NewVerifier(r, options...)
	if err != nil {
		return err
	}
	id, err := verify.NewShortCertificateIdentity(q.issuer, "", q.subject, "")
	if err != nil {
		return err
	}
	algorithm := q.algorithm
	if algorithm == "" {
		algorithm = "sha256"
	}
	artifact := verify.WithArtifactDigest(algorithm, q.digest)
	_, err = v.Verify(&b, verify.NewPolicy(artifact, verify.WithCertificateIdentity(id)))
	return err
}

// ours is this verifier's answer.
func ours(tb testing.TB, q ask) (bool, string) {
	tb.Helper()
	r, err := cosign.ParseTrustedRoot(q.root)
	if err != nil {
		return false, err.Error()
	}
	v, err := cosign.New(cosign.Options{Name: "v", Clock: clock, TrustPolicies: []cosign.TrustPolicy{{Name: "p", Scopes: []string{"*"}, Root: r, IgnoreSCT: q.noSCT,
		Identities: []cosign.Identity{{Issuer: cosign.ExactMatch(q.issuer), Subject: cosign.ExactMatch(q.subject)}}}}})
	if err != nil {
		return false, err.Error()
	}
	algorithm := digest.SHA256
	if q.algorithm != "" {
		algorithm = digest.Algorithm(q.algorithm)
	}
	ev, err := v.VerifyBundle(tb.Context(), q.bundle, cosign.Artifact{Digest: digest.NewDigestFromBytes(algorithm, q.digest), AnyPredicate: true})
	if err != nil {
		return false, err.Error()
	}
	return ev.Outcome == boltseal.Verified, ev.Reason.Message
}

// stricter are the only differences: what sigstore-go accepts and this verifier does
// not, by a part of our reason, and why.
var stricter = map[string]string{
	"brings a root certificate along":    "whom to trust is never said by what is to be verified (sigstore-conformance asks for this, too)",
	"the checkpoint is of another tree":  "the root that a proof states is not compared there with entries of the second version",
	"the log's entry":                    "an entry of the second version is rebuilt there, and its body not read",
	"does not name its kind and version": "kind and version beside an entry are not compared there with those in it",
	"and the signature says that it is":  "kind and version beside an entry are not compared there with those in it",
	"has a timestamp of 0 bytes":         "an empty timestamp is passed over there where a log tells the time",
	"the bundle's digest is by \"\"":     "a digest without an algorithm is compared there with the artifact's",
	"index outside of its tree":          "of an entry of the second version, the index beside the proof is taken there, and the checkpoint's size",
	"and its proof is about the index":   "of an entry of the second version, the index beside the proof is taken there",
}

// shown are the differences that some bundle has shown.
var shown = map[string]bool{}

// compare fails where we accept what sigstore-go refuses, and where we refuse what it
// accepts without a reason that is listed.
func compare(tb testing.TB, name string, q ask) (accepted bool) {
	tb.Helper()
	their := theirs(q)
	our, why := ours(tb, q)
	switch {
	case our && their != nil:
		tb.Errorf("%s: accepted here, refused by sigstore-go: %v", name, their)
	case !our && their == nil:
		known := false
		for part := range stricter {
			if strings.Contains(why, part) {
				known, shown[part] = true, true
			}
		}
		if !known {
			tb.Errorf("%s: accepted by sigstore-go, refused here: %s", name, why)
		}
	}
	return our
}

// question is about a generated bundle.
func question(tb testing.TB, i *testsigstore.Instance, b []byte) ask {
	tb.Helper()
	sum := sha256.Sum256(message)
	id := testsigstore.DefaultIdentity()
	return ask{bundle: b, root: i.TrustedRoot(testsigstore.RootOptions{}), issuer: id.Issuer, subject: id.URI, digest: sum[:]}
}

// TestGenerated: bundles of all forms, right ones, and each of them with one member
// changed, removed or doubled at a time.
func TestGenerated(t *testing.T) {
	i := must(testsigstore.New(testsigstore.Options{Clock: clock}))(t)
	s := must(i.Issue(testsigstore.Identity{}))(t)
	other := must(i.Issue(testsigstore.Identity{}))(t)
	image := digest.FromBytes(message)
	contents := map[string]testsigstore.Content{"statement": {Statement: testsigstore.Statement("", image, nil)}, "message": {Message: message}}
	for contentName, c := range contents {
		for optionName, o := range map[string]testsigstore.SignOptions{"rekor": {}, "rekor and time": {Timestamp: true}, "intoto": {InToto: true}, "rekor 2": {V2: true, Timestamp: true}, "rekor 2, no time": {V2: true}} {
			for version := 1; version <= 3; version++ {
				name := contentName + ", " + optionName + ", 0." + string(rune('0'+version))
				good := must(i.Sign(s, c, o))(t)
				b := good.Bundle(version)
				accepted := compare(t, name, question(t, i, b))
				if want := optionName != "rekor 2, no time" && !(o.V2 && version == 1); accepted != want {
					t.Errorf("%s: accepted: %v", name, accepted)
				}
				strange := must(i.Sign(other, c, o))(t)
				again := must(i.Sign(s, c, o))(t)
				for what, f := range map[string]func(*testsigstore.Signed){
					"another's entry":     func(g *testsigstore.Signed) { g.Entries = strange.Entries },
					"another's signature": func(g *testsigstore.Signed) { g.Signature = strange.Signature },
					"another's time":      func(g *testsigstore.Signed) { g.Timestamps = strange.Timestamps },
					"another certificate": func(g *testsigstore.Signed) { g.Signer = other },
					"an own, other entry": func(g *testsigstore.Signed) { g.Entries = again.Entries },
					"an entry twice":      func(g *testsigstore.Signed) { g.Entries = append(g.Entries, g.Entries[0]) },
				} {
					changed := *good
					f(&changed)
					compare(t, name+": "+what, question(t, i, changed.Bundle(version)))
				}
				if version == 2 {
					continue // its members are those of the others
				}
				for path, text := range mutations(t, b) {
					compare(t, name+": "+path, question(t, i, text))
				}
			}
		}
	}
}

// mutations are a document with each leaf changed, removed, and renamed.
func mutations(tb testing.TB, b []byte) map[string][]byte {
	tb.Helper()
	out := make(map[string][]byte)
	var paths []func(doc any) // each changes one place
	var names []string
	var walk func(v any, path string, get func(doc any) any)
	walk = func(v any, path string, get func(doc any) any) {
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				at := path + "/" + k
				names = append(names, at+" removed", at+" renamed", at+" null")
				paths = append(paths,
					func(doc any) { delete(get(doc).(map[string]any), k) },
					func(doc any) { m := get(doc).(map[string]any); m[k+"X"] = m[k]; delete(m, k) },
					func(doc any) { get(doc).(map[string]any)[k] = nil })
				if text, ok := child.(string); ok && len(text) > 1 {
					names = append(names, at+" changed", at+" empty")
					paths = append(paths,
						func(doc any) { get(doc).(map[string]any)[k] = flipped(text) },
						func(doc any) { get(doc).(map[string]any)[k] = "" })
				}
				walk(child, at, func(doc any) any { return get(doc).(map[string]any)[k] })
			}
		case []any:
			if len(v) > 0 {
				walk(v[0], path+"/0", func(doc any) any { return get(doc).([]any)[0] })
			}
		}
	}
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		tb.Fatal(err)
	}
	walk(doc, "", func(doc any) any { return doc })
	for i, change := range paths {
		var again any
		if err := json.Unmarshal(b, &again); err != nil {
			tb.Fatal(err)
		}
		change(again)
		out[names[i]] = must(json.Marshal(again))(tb)
	}
	return out
}

// flipped is a text with one letter in the middle exchanged.
func flipped(s string) string {
	b := []byte(s)
	i := len(b) / 2
	if b[i] == 'A' || b[i] == '0' {
		b[i] = '1'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// TestRealBundles: bundles of the public instance that sigstore-go's module carries.
func TestRealBundles(t *testing.T) {
	publicRoot := data.TrustedRoot(t, "public-good.json")
	rootJSON := must(publicRoot.MarshalJSON())(t)
	for file, q := range map[string]ask{
		"sigstore.js@2.0.0-provenance.sigstore.json": {issuer: "https://token.actions.githubusercontent.com", subject: "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"},
		"dsse.sigstore.json":                         {issuer: "https://github.com/login/oauth", subject: "brian@dehamer.com"},
	} {
		b := data.Bundle(t, file)
		q.bundle, q.root, q.algorithm = must(b.MarshalJSON())(t), rootJSON, "sha512"
		statement := must(b.Envelope())(t)
		st := must(statement.Statement())(t)
		q.digest = must(hexBytes(st.Subject[0].Digest["sha512"]))(t)
		if _, why := ours(t, q); !compare(t, file, q) && !strings.Contains(why, "root certificate") {
			t.Errorf("%s is not accepted: %v, %v", file, theirs(q), why)
		}
		for path, text := range mutations(t, q.bundle) {
			changed := q
			changed.bundle = text
			compare(t, file+": "+path, changed)
		}
	}
}

// TestDifferencesAreShown: a difference that no bundle shows any more is to be deleted.
// It comes after the tests that show them.
func TestDifferencesAreShown(t *testing.T) {
	for part := range stricter {
		if !shown[part] {
			t.Errorf("no bundle was refused here alone because %q", part)
		}
	}
}

func hexBytes(s string) ([]byte, error) {
	d, err := digest.Parse("sha512:" + s)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 64)
	var n byte
	for i, c := range d.Encoded() {
		v := byte(strings.IndexRune("0123456789abcdef", c)) //nolint:gosec // hexadecimal
		if i%2 == 0 {
			n = v << 4
		} else {
			out = append(out, n|v)
		}
	}
	return out, nil
}

// BenchmarkBoth is the public instance's bundle, verified by both.
func BenchmarkBoth(b *testing.B) {
	of := new(testing.T) // what the module's reader wants
	rootJSON := must(data.TrustedRoot(of, "public-good.json").MarshalJSON())(b)
	file := must(data.Bundle(of, "sigstore.js@2.0.0-provenance.sigstore.json").MarshalJSON())(b)
	st := must(must(data.Bundle(of, "sigstore.js@2.0.0-provenance.sigstore.json").Envelope())(b).Statement())(b)
	sum := must(hexBytes(st.Subject[0].Digest["sha512"]))(b)
	const issuer, subject = "https://token.actions.githubusercontent.com", "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"
	b.Run("sigstore-go", func(b *testing.B) {
		r := must(root.NewTrustedRootFromJSON(rootJSON))(b)
		v := must(verify.NewVerifier(r, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1), verify.WithSignedCertificateTimestamps(1)))(b)
		id := must(verify.NewShortCertificateIdentity(issuer, "", subject, ""))(b)
		for b.Loop() {
			var parsed bundle.Bundle
			if err := parsed.UnmarshalJSON(file); err != nil {
				b.Fatal(err)
			}
			if _, err := v.Verify(&parsed, verify.NewPolicy(verify.WithArtifactDigest("sha512", sum), verify.WithCertificateIdentity(id))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("boltseal", func(b *testing.B) {
		r := must(cosign.ParseTrustedRoot(rootJSON))(b)
		v := must(cosign.New(cosign.Options{Name: "v", TrustPolicies: []cosign.TrustPolicy{{Name: "p", Scopes: []string{"*"}, Root: r,
			Identities: []cosign.Identity{{Issuer: cosign.ExactMatch(issuer), Subject: cosign.ExactMatch(subject)}}}}}))(b)
		about := cosign.Artifact{Digest: digest.NewDigestFromBytes(digest.SHA512, sum), AnyPredicate: true}
		for b.Loop() {
			if ev, err := v.VerifyBundle(b.Context(), file, about); err != nil || ev.Outcome != boltseal.Verified {
				b.Fatalf("%+v, %v", ev, err)
			}
		}
	})
}
