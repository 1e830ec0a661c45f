package cosign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
)

// TestLogEntryOfSomethingElse: an entry counts only where its signature, its signer and
// its content are those being verified (CVE-2022-23649, CVE-2022-36056, CVE-2026-22703
// GHSA-whqx-f9j3-ch6m, CVE-2024-51746).
func TestLogEntryOfSomethingElse(t *testing.T) {
	t.Parallel()
	s := issue(t, testsigstore.Identity{})
	v := verifier(t, keyless(t))
	for name, o := range map[string]testsigstore.SignOptions{"dsse": {}, "intoto": {InToto: true}, "rekor 2": {V2: true, Timestamp: true}} {
		good := sign(t, s, statement(), o)
		for what, other := range map[string]*testsigstore.Signed{
			"another signature of the same": sign(t, s, statement(), o),
			"another content":               sign(t, s, testsigstore.Content{Statement: testsigstore.Statement("", theirs, nil)}, o),
			"another signer":                sign(t, issue(t, testsigstore.Identity{}), statement(), o),
			"a key's":                       sign(t, p256(t), statement(), o),
		} {
			swapped := *good
			swapped.Entries = other.Entries
			t.Log(name, what)
			expect(t, judge(t, v, bundleCandidate(swapped.Bundle(3))), boltseal.CauseNotLogged)
		}
	}
	// A layer has no proof to be looked at besides the promise.
	good, other := sign(t, s, simple(), testsigstore.SignOptions{}), sign(t, s, simple(), testsigstore.SignOptions{})
	good.Entries = other.Entries
	expect(t, judge(t, v, layersOf(t, good)), boltseal.CauseNotLogged)
	// The kind of an entry must fit to what is signed.
	message := sign(t, s, manifestMessage(), testsigstore.SignOptions{})
	message.Entries = sign(t, s, statement(), testsigstore.SignOptions{}).Entries
	expect(t, judge(t, v, bundleCandidate(message.Bundle(3))), boltseal.CauseNotLogged)
}

// TestLogEntryThatIsNotProven: promise, proof and checkpoint are each checked where they
// are there, and one that is wrong is not made up for by another.
func TestLogEntryThatIsNotProven(t *testing.T) {
	t.Parallel()
	s := issue(t, testsigstore.Identity{})
	v := verifier(t, keyless(t))
	for _, o := range []testsigstore.SignOptions{{}, {V2: true, Timestamp: true}} {
		change := func(what string, f func(*testsigstore.Entry)) {
			signed := sign(t, s, statement(), o)
			f(signed.Entries[0])
			if ev := judge(t, v, bundleCandidate(signed.Bundle(3))); ev.Reason.Cause != boltseal.CauseNotLogged {
				t.Errorf("%s: %v %+v", what, ev.Outcome, ev.Reason)
			}
		}
		change("a hash of the proof", func(e *testsigstore.Entry) { e.Hashes[0][0] ^= 1 })
		change("a hash too few", func(e *testsigstore.Entry) { e.Hashes = e.Hashes[1:] })
		change("a hash too many", func(e *testsigstore.Entry) { e.Hashes = append(e.Hashes, e.Hashes[0]) })
		change("a short hash", func(e *testsigstore.Entry) { e.Hashes[0] = e.Hashes[0][1:] })
		change("another index", func(e *testsigstore.Entry) { e.Index-- })
		change("another size", func(e *testsigstore.Entry) { e.Size++ })
		change("another root", func(e *testsigstore.Entry) { e.Root = append([]byte{e.Root[0] ^ 1}, e.Root[1:]...) })
		change("no root", func(e *testsigstore.Entry) { e.Root = nil })
		change("a changed checkpoint", func(e *testsigstore.Entry) { e.Checkpoint = strings.Replace(e.Checkpoint, "\n", " \n", 1) })
		change("no signature", func(e *testsigstore.Entry) {
			e.Checkpoint, _, _ = strings.Cut(e.Checkpoint, "\u2014")
			e.Checkpoint += "\u2014 x AAAAAAA=\n"
		})
		change("another log's checkpoint", func(e *testsigstore.Entry) {
			other := sigstore(t).Rekor
			if !e.Log.V2 {
				other = sigstore(t).Rekor2
			}
			text, _, _ := strings.Cut(e.Checkpoint, "\n\u2014")
			e.Checkpoint = must(other.SignNote(e.Log.Host, other.ID[:4], text))(t)
		})
		if o.V2 {
			change("an index beside the proof's", func(e *testsigstore.Entry) { e.GlobalIndex++ })
			change("a checkpoint of another origin", func(e *testsigstore.Entry) {
				text, _, _ := strings.Cut(e.Checkpoint, "\n\u2014")
				e.Checkpoint = must(e.Log.SignNote(e.Log.Host, e.Log.ID[:4], "other.example"+strings.TrimPrefix(text, e.Log.Host)))(t)
			})
			continue
		}
		change("a changed time", func(e *testsigstore.Entry) { e.Integrated = e.Integrated.Add(time.Second) })
		change("a changed global index", func(e *testsigstore.Entry) { e.GlobalIndex++ })
		change("a changed promise", func(e *testsigstore.Entry) {
			e.Promise = append([]byte{}, e.Promise...)
			e.Promise[len(e.Promise)-1] ^= 1
		})
	}
	// Witnesses' signatures are passed over.
	signed := sign(t, s, statement(), testsigstore.SignOptions{V2: true, Timestamp: true})
	signed.Entries[0].Checkpoint += "\u2014 witness.example AAAAAAAAAAAA\n"
	expect(t, judge(t, v, bundleCandidate(signed.Bundle(3))), boltseal.CauseNone)
	// An entry of a log that nobody here knows says nothing, for or against.
	stranger := must(testsigstore.New(testsigstore.Options{Clock: clock}))(t)
	own := sign(t, s, statement(), testsigstore.SignOptions{})
	foreign := must(stranger.Sign(s, statement(), testsigstore.SignOptions{}))(t)
	own.Entries = append(own.Entries, foreign.Entries...)
	expect(t, judge(t, v, bundleCandidate(own.Bundle(3))), boltseal.CauseNone)
	own.Entries = foreign.Entries
	expect(t, judge(t, v, bundleCandidate(own.Bundle(3))), boltseal.CauseNotLogged)
}

// TestDuplicateEntries: one entry twice could count as two logs' (CVE-2026-49834).
func TestDuplicateEntries(t *testing.T) {
	t.Parallel()
	signed := sign(t, issue(t, testsigstore.Identity{}), statement(), testsigstore.SignOptions{})
	signed.Entries = append(signed.Entries, signed.Entries[0])
	expect(t, judge(t, verifier(t, keyless(t)), bundleCandidate(signed.Bundle(3))), boltseal.CauseMalformed)
}

// TestWholeChainIsValid: each certificate, not the leaf alone, is valid at the trusted
// time, with the log ignored too (CVE-2026-24122).
func TestWholeChainIsValid(t *testing.T) {
	t.Parallel()
	old := must(testsigstore.New(testsigstore.Options{Clock: clock, Intermediates: []testca.Spec{{Key: testca.P256, NotAfter: noon.Add(-time.Hour)}}}))(t)
	s := must(old.Issue(testsigstore.Identity{}))(t)
	p := keyless(t)
	p.Root = must(ParseTrustedRoot(old.TrustedRoot(testsigstore.RootOptions{})))(t)
	b := must(old.Sign(s, statement(), testsigstore.SignOptions{Timestamp: true}))(t).Bundle(3)
	expect(t, judge(t, verifier(t, p), bundleCandidate(b)), boltseal.CauseCertificateExpired)
	p.IgnoreLog = true
	expect(t, judge(t, verifier(t, p), bundleCandidate(b)), boltseal.CauseCertificateExpired)
}

// TestTimeOfACertificate: a certificate of minutes needs somebody trusted who says when
// it signed; the present counts only where nobody is asked (client-spec, section 4.2).
func TestTimeOfACertificate(t *testing.T) {
	t.Parallel()
	outside := issue(t, testsigstore.Identity{NotBefore: noon.Add(-time.Hour)}) // valid until ten to
	inside := issue(t, testsigstore.Identity{})
	all, noTSA := trustedRoot(t, testsigstore.RootOptions{}), trustedRoot(t, testsigstore.RootOptions{NoTSA: true})
	for name, c := range map[string]struct {
		s     *testsigstore.Signer
		o     testsigstore.SignOptions
		p     func(*TrustPolicy)
		cause boltseal.Cause
	}{
		"log's time outside":           {outside, testsigstore.SignOptions{}, nil, boltseal.CauseCertificateExpired},
		"authority's time outside":     {outside, testsigstore.SignOptions{V2: true, Timestamp: true}, nil, boltseal.CauseCertificateExpired},
		"rekor 2 without a timestamp":  {inside, testsigstore.SignOptions{V2: true}, nil, boltseal.CauseTimestamp},
		"rekor 2, authority not known": {inside, testsigstore.SignOptions{V2: true, Timestamp: true}, func(p *TrustPolicy) { p.Root = noTSA }, boltseal.CauseTimestamp},
		"log ignored, timestamp":       {inside, testsigstore.SignOptions{Timestamp: true}, func(p *TrustPolicy) { p.IgnoreLog = true }, boltseal.CauseNone},
		"log ignored, no timestamp":    {inside, testsigstore.SignOptions{}, func(p *TrustPolicy) { p.IgnoreLog = true }, boltseal.CauseTimestamp},
		"nobody asked, valid now":      {inside, testsigstore.SignOptions{}, func(p *TrustPolicy) { p.IgnoreLog, p.Root = true, noTSA }, boltseal.CauseNone},
		"nobody asked, expired":        {outside, testsigstore.SignOptions{}, func(p *TrustPolicy) { p.IgnoreLog, p.Root = true, noTSA }, boltseal.CauseCertificateExpired},
		"authority required":           {inside, testsigstore.SignOptions{}, func(p *TrustPolicy) { p.Time = TimeAuthority }, boltseal.CauseTimestamp},
		"authority required, there":    {inside, testsigstore.SignOptions{Timestamp: true}, func(p *TrustPolicy) { p.Time = TimeAuthority }, boltseal.CauseNone},
		"log required":                 {inside, testsigstore.SignOptions{V2: true, Timestamp: true}, func(p *TrustPolicy) { p.Time = TimeLog }, boltseal.CauseTimestamp},
		"both required":                {inside, testsigstore.SignOptions{Timestamp: true}, func(p *TrustPolicy) { p.Time = TimeBoth }, boltseal.CauseNone},
		"both required, one there":     {inside, testsigstore.SignOptions{}, func(p *TrustPolicy) { p.Time = TimeBoth }, boltseal.CauseTimestamp},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := keyless(t)
			p.Root = all
			if c.p != nil {
				c.p(&p)
			}
			ev := judge(t, verifier(t, p), bundleCandidate(sign(t, c.s, statement(), c.o).Bundle(3)))
			expect(t, ev, c.cause)
			if now := strings.HasPrefix(name, "nobody"); now && c.cause == boltseal.CauseNone && !ev.ValidUntil.Equal(c.s.Certificate.NotAfter) ||
				now && c.cause != boltseal.CauseNone && !strings.Contains(ev.Reason.Message, "only while the certificate is valid") {
				t.Errorf("valid until %v: %+v", ev.ValidUntil, ev.Reason)
			}
		})
	}
	// An entry's time without the log's promise is no time.
	b := sign(t, inside, statement(), testsigstore.SignOptions{}).Bundle(3)
	b = edited(t, b, nil, "verificationMaterial", "tlogEntries", 0, "inclusionPromise")
	expect(t, judge(t, verifier(t, keyless(t)), bundleCandidate(b)), boltseal.CauseTimestamp)
}

// TestTimestampAuthority: a token counts only if it is by the root's authority, by the
// certificate that it names itself, which is for timestamps alone and valid at its time
// (CVE-2026-39984; sigstore/timestamp-authority #1333, #1384, #1389, #1416).
func TestTimestampAuthority(t *testing.T) {
	t.Parallel()
	both := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}, {1, 2, 3}}))(t)
	for name, c := range map[string]struct {
		o    testsigstore.Options
		root testsigstore.RootOptions
		ok   bool
	}{
		"right":                                  {ok: true},
		"right, certificate in the token":        {root: testsigstore.RootOptions{NoTSALeaf: true}, ok: true},
		"without a certificate, root names it":   {o: testsigstore.Options{TSA: testca.TSAOptions{NoCertificates: true}}, ok: true},
		"without a certificate":                  {o: testsigstore.Options{TSA: testca.TSAOptions{NoCertificates: true}}, root: testsigstore.RootOptions{NoTSALeaf: true}},
		"of another message":                     {o: testsigstore.Options{TSA: testca.TSAOptions{WrongImprint: true}}},
		"with a wrong signature":                 {o: testsigstore.Options{TSA: testca.TSAOptions{BreakSignature: true}}},
		"with a wrong digest":                    {o: testsigstore.Options{TSA: testca.TSAOptions{WrongDigest: true}}},
		"without the signing certificate's hash": {o: testsigstore.Options{TSA: testca.TSAOptions{NoSigningCertificate: true}}},
		"with another's hash":                    {o: testsigstore.Options{TSA: testca.TSAOptions{WrongSigningCertificate: true}}},
		"by a certificate for more":              {o: testsigstore.Options{TSALeaf: testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageCodeSigning}}}},
		"by a certificate for code":              {o: testsigstore.Options{TSALeaf: testca.Spec{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}}},
		"by a certificate for something unknown": {o: testsigstore.Options{TSALeaf: testca.Spec{NoEKU: true, Extensions: []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: both}}}}},
		"by an expired certificate":              {o: testsigstore.Options{TSALeaf: testca.Spec{NotAfter: noon.Add(-time.Minute)}}},
		"by one that is not valid yet":           {o: testsigstore.Options{TSALeaf: testca.Spec{NotBefore: noon.Add(time.Minute)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.o.Clock = clock
			i := must(testsigstore.New(c.o))(t)
			root, err := ParseTrustedRoot(i.TrustedRoot(c.root))
			if err != nil {
				t.Fatal(err)
			}
			signed := must(i.Sign(must(i.Issue(testsigstore.Identity{}))(t), statement(), testsigstore.SignOptions{V2: true, Timestamp: true}))(t)
			p := keyless(t)
			p.Root = root
			ev := judge(t, verifier(t, p), bundleCandidate(signed.Bundle(3)))
			if c.ok {
				expect(t, ev, boltseal.CauseNone)
			} else {
				expect(t, ev, boltseal.CauseTimestamp)
			}
			// What is no answer, or another's, makes no panic and no time.
			for _, stamps := range [][][]byte{{[]byte("x")}, {must(sigstore(t).Timestamp(signed.Signature))(t)}} {
				signed.Timestamps = stamps
				expect(t, judge(t, verifier(t, p), bundleCandidate(signed.Bundle(3))), boltseal.CauseTimestamp)
			}
		})
	}
}

// TestSignatureIsASignature: provenance, an SBOM or whatever else is said about an image
// is not its signature (security-profiles-operator#3449), and a predicate type is
// compared exactly (CVE-2022-35929, CVE-2022-35930, CVE-2026-39395 GHSA-w6c6-c85g-mmv6).
func TestSignatureIsASignature(t *testing.T) {
	t.Parallel()
	s := issue(t, testsigstore.Identity{})
	v := verifier(t, keyless(t))
	for _, predicate := range []string{"https://slsa.dev/provenance/v1", "https://spdx.dev/Document", "https://sigstore.dev/cosign/sign/v1 ", "https://sigstore.dev/cosign/sign/v1/x", "https://SIGSTORE.dev/cosign/sign/v1"} {
		ev := judge(t, v, bundleCandidate(sign(t, s, testsigstore.Content{Statement: testsigstore.Statement(predicate, image, nil)}, testsigstore.SignOptions{}).Bundle(3)))
		expect(t, ev, boltseal.CauseUnsupported)
		if ev.Kind != predicate {
			t.Errorf("kind %q", ev.Kind)
		}
	}
}

// TestEnvelope: payload type, statement type, subjects and the number of signatures are
// what they must be (client-spec section 4.5; kyverno#2739).
func TestEnvelope(t *testing.T) {
	t.Parallel()
	s := issue(t, testsigstore.Identity{})
	v := verifier(t, keyless(t))
	text := string(testsigstore.Statement("", image, nil))
	for name, c := range map[string]struct {
		content testsigstore.Content
		cause   boltseal.Cause
	}{
		"version 0.1":       {testsigstore.Content{Statement: []byte(strings.Replace(text, "Statement/v1", "Statement/v0.1", 1))}, boltseal.CauseNone},
		"another type":      {testsigstore.Content{Statement: []byte(strings.Replace(text, "Statement/v1", "Statement/v2", 1))}, boltseal.CauseMalformed},
		"no predicate type": {testsigstore.Content{Statement: []byte(strings.Replace(text, "predicateType", "predicatetype", 1))}, boltseal.CauseMalformed},
		"no subject":        {testsigstore.Content{Statement: []byte(strings.Replace(text, `"subject"`, `"Subject"`, 1))}, boltseal.CauseMalformed},
		"a member twice":    {testsigstore.Content{Statement: []byte(strings.Replace(text, `"subject"`, `"subject":[],"subject"`, 1))}, boltseal.CauseMalformed},
		"another payload":   {testsigstore.Content{Statement: []byte(text), Type: "text/plain"}, boltseal.CauseMalformed},
		"another image":     {testsigstore.Content{Statement: testsigstore.Statement("", theirs, nil)}, boltseal.CauseOtherImage},
		"another algorithm": {testsigstore.Content{Statement: []byte(strings.Replace(text, `"sha256"`, `"sha512"`, 1))}, boltseal.CauseOtherImage},
		"many subjects":     {testsigstore.Content{Statement: []byte(strings.Replace(text, `"subject":[`, `"subject":[`+strings.Repeat(`{"name":"x","digest":{"sha256":"00"}},`, 1023), 1))}, boltseal.CauseNone},
		"too many subjects": {testsigstore.Content{Statement: []byte(strings.Replace(text, `"subject":[`, `"subject":[`+strings.Repeat(`{"name":"x","digest":{"sha256":"00"}},`, 1024), 1))}, boltseal.CauseLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, judge(t, v, bundleCandidate(sign(t, s, c.content, testsigstore.SignOptions{}).Bundle(3))), c.cause)
		})
	}
	b := sign(t, s, statement(), testsigstore.SignOptions{}).Bundle(3)
	one := map[string]any{"sig": "AAAA"}
	for name, list := range map[string][]any{"none": {}, "two": {one, one}} {
		ev := judge(t, v, bundleCandidate(edited(t, b, list, "dsseEnvelope", "signatures")))
		t.Log(name)
		expect(t, ev, boltseal.CauseMalformed)
	}
	expect(t, judge(t, v, bundleCandidate(edited(t, b, "AAAA", "dsseEnvelope", "signatures", 0, "sig"))), boltseal.CauseTampered)
}

// TestPayload: a simple signing payload is of this image, by strict JSON (Ratify 1.1;
// Connaisseur's ambiguous digests).
func TestPayload(t *testing.T) {
	t.Parallel()
	s := p256(t)
	v := verifier(t, byKey(s))
	text := string(testsigstore.Simple("registry.example/team/app", image, nil))
	digestMember := fmt.Sprintf(`"docker-manifest-digest":"%s"`, image)
	for name, c := range map[string]struct {
		text  string
		cause boltseal.Cause
	}{
		"right":                   {text, boltseal.CauseNone},
		"another image":           {strings.Replace(text, string(image), string(theirs), 1), boltseal.CauseOtherImage},
		"another type":            {strings.Replace(text, "cosign container", "atomic container", 1), boltseal.CauseMalformed},
		"the digest twice":        {strings.Replace(text, digestMember, strings.Replace(digestMember, string(image), string(theirs), 1)+","+digestMember, 1), boltseal.CauseMalformed},
		"the digest in two cases": {strings.Replace(text, digestMember, digestMember+`,"Docker-manifest-digest":"x"`, 1), boltseal.CauseMalformed},
		"in another case":         {strings.Replace(text, "docker-manifest-digest", "Docker-manifest-digest", 1), boltseal.CauseMalformed},
		"an unknown criterion":    {strings.Replace(text, `"critical":{`, `"critical":{"expires":1,`, 1), boltseal.CauseMalformed},
		"text behind it":          {text + "{}", boltseal.CauseMalformed},
		"no digest":               {strings.Replace(text, string(image), "", 1), boltseal.CauseMalformed},
		"no critical":             {`{"optional":null}`, boltseal.CauseMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, judge(t, v, layersOf(t, sign(t, s, testsigstore.Content{Payload: []byte(c.text)}, testsigstore.SignOptions{NoLog: true}))), c.cause)
		})
	}
}

// TestReferenceAndAnnotations: the name in a payload counts only where the policy says
// so, and required annotations are those that were signed.
func TestReferenceAndAnnotations(t *testing.T) {
	t.Parallel()
	s := p256(t)
	none := testsigstore.SignOptions{NoLog: true}
	named := func(reference string) boltseal.Candidate {
		return layersOf(t, sign(t, s, testsigstore.Content{Payload: testsigstore.Simple(reference, image, map[string]any{"env": "prod", "n": 1})}, none))
	}
	p := byKey(s)
	expect(t, judge(t, verifier(t, p), named("elsewhere.example/app")), boltseal.CauseNone)
	p.MatchReference = true
	for reference, cause := range map[string]boltseal.Cause{"registry.example/team/app": boltseal.CauseNone, "registry.example/team/app:v1": boltseal.CauseNone,
		"registry.example/team/app2": boltseal.CauseOtherImage, "elsewhere.example/app": boltseal.CauseOtherImage, "": boltseal.CauseOtherImage, "!": boltseal.CauseOtherImage} {
		t.Log(reference)
		expect(t, judge(t, verifier(t, p), named(reference)), cause)
	}
	expect(t, judge(t, verifier(t, p), bundleCandidate(sign(t, s, statement(), none).Bundle(3))), boltseal.CauseOtherImage)
	p = byKey(s)
	for value, cause := range map[string]boltseal.Cause{"prod": boltseal.CauseNone, "dev": boltseal.CauseIdentity, "": boltseal.CauseIdentity} {
		p.Annotations = map[string]string{"env": value}
		expect(t, judge(t, verifier(t, p), named("registry.example/team/app")), cause)
		b := sign(t, s, testsigstore.Content{Statement: testsigstore.Statement("", image, map[string]any{"env": "prod"})}, none).Bundle(3)
		expect(t, judge(t, verifier(t, p), bundleCandidate(b)), cause)
	}
	p.Annotations = map[string]string{"n": "1"} // a number is not that text
	expect(t, judge(t, verifier(t, p), named("registry.example/team/app")), boltseal.CauseIdentity)
}

// TestCertificateRules: what Fulcio does not issue is no signer's certificate.
func TestCertificateRules(t *testing.T) {
	t.Parallel()
	id := testsigstore.DefaultIdentity()
	for name, c := range map[string]struct {
		change func(*testsigstore.Identity)
		cause  boltseal.Cause
	}{
		"no timestamp of a log":  {func(id *testsigstore.Identity) { id.NoSCT = true }, boltseal.CauseBadCertificate},
		"another log's":          {func(id *testsigstore.Identity) { id.CT = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t) }, boltseal.CauseBadCertificate},
		"no issuer":              {func(id *testsigstore.Identity) { id.Issuer = "" }, boltseal.CauseBadCertificate},
		"issuer in the old form": {func(id *testsigstore.Identity) { id.RawIssuer = true }, boltseal.CauseNone},
		"two names":              {func(id *testsigstore.Identity) { id.Email = "a@example.com" }, boltseal.CauseBadCertificate},
		"no name":                {func(id *testsigstore.Identity) { id.URI, id.Mutate = "", func(*x509.Certificate) {} }, boltseal.CauseBadCertificate},
		"a name of another kind": {func(id *testsigstore.Identity) {
			id.Mutate = func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"a.example"} }
		}, boltseal.CauseBadCertificate},
		"a name that hides": {func(id *testsigstore.Identity) {
			id.Mutate = func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} }
		}, boltseal.CauseBadCertificate},
		"a CA's": {func(id *testsigstore.Identity) {
			id.Mutate = func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid, c.MaxPathLen = true, true, -1 }
		}, boltseal.CauseBadCertificate},
		"not for code": {func(id *testsigstore.Identity) {
			id.Mutate = func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }
		}, boltseal.CauseBadCertificate},
		"not for signatures": {func(id *testsigstore.Identity) {
			id.Mutate = func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }
		}, boltseal.CauseBadCertificate},
		"something critical": {func(id *testsigstore.Identity) {
			id.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, boltseal.CauseBadCertificate},
		"an extension that is bad": {func(id *testsigstore.Identity) {
			id.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 16}, Value: []byte("x")}}
		}, boltseal.CauseBadCertificate},
		"a key on P-224": {func(id *testsigstore.Identity) { id.Key = must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))(t) }, boltseal.CauseBadCertificate},
		"a key on P-384": {func(id *testsigstore.Identity) { id.Key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t) }, boltseal.CauseNone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := id
			c.change(&with)
			s := issue(t, with)
			if name == "a key on P-224" {
				s.Hash = 5 // crypto.SHA256
			}
			p := keyless(t)
			o := testsigstore.SignOptions{}
			expect(t, judge(t, verifier(t, p), bundleCandidate(sign(t, s, statement(), o).Bundle(3))), c.cause)
			if with.NoSCT || with.CT != nil {
				p.IgnoreSCT = true
				expect(t, judge(t, verifier(t, p), bundleCandidate(sign(t, s, statement(), o).Bundle(3))), boltseal.CauseNone)
			}
		})
	}
	stranger := must(testsigstore.New(testsigstore.Options{Clock: clock}))(t) // with the same names
	s := must(stranger.Issue(id))(t)
	expect(t, judge(t, verifier(t, keyless(t)), bundleCandidate(sign(t, s, statement(), testsigstore.SignOptions{}).Bundle(3))), boltseal.CauseUntrustedSigner)
	// Roots in a bundle, and those beside a layer, are never trusted.
	doc := edited(t, must(stranger.Sign(s, statement(), testsigstore.SignOptions{}))(t).Bundle(2), []any{
		map[string]any{"rawBytes": s.Certificate.Raw}, map[string]any{"rawBytes": stranger.CA.Root().Raw}}, "verificationMaterial", "x509CertificateChain", "certificates")
	expect(t, judge(t, verifier(t, keyless(t)), bundleCandidate(doc)), boltseal.CauseMalformed)
}
