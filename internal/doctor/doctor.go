// Package doctor looks for what keeps images from being judged as their owners want, and says how to fix it.
package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
)

// Level says how much a finding matters. The zero value is a problem.
type Level string

// The levels.
const (
	Problem Level = ""        // something does not work, or not for long
	Warning Level = "warning" // it works, and deserves a look
	Unknown Level = "unknown" // it could not be looked at, and may be either
	OK      Level = "ok"
)

// String returns "problem", "warning", "unknown" or "ok".
func (l Level) String() string { return cmp.Or(string(l), "problem") }

// MarshalText writes String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Areas of findings.
const (
	AreaConfiguration = "configuration"
	AreaCertificates  = "certificates"
	AreaTrustPolicy   = "trust policy"
	AreaRegistries    = "registries"
	AreaImages        = "images"
	AreaCluster       = "cluster"
	AreaWebhooks      = "webhooks"
	AreaPermissions   = "permissions"
	AreaReplicas      = "replicas"
	AreaGatekeeper    = "gatekeeper"
	AreaDemand        = "requirements"
	AreaTrust         = "trust"
	AreaAdmission     = "admission"
)

// Finding is one thing that was looked at.
type Finding struct {
	Area string `json:"area"`
	// Subject is what it is about: a resource, a registry, an image.
	Subject string `json:"subject,omitempty"`
	Level   Level  `json:"level"`
	Message string `json:"message"`
	// Remedy is what to do; empty where Level is OK.
	Remedy string `json:"remedy,omitempty"`
}

// Defaults and limits.
const (
	// DefaultTimeout bounds the question to one registry.
	DefaultTimeout = 10 * time.Second
	// soon is how long before its end a certificate is announced.
	soon = 30 * 24 * time.Hour
	// maxRegistries bounds how many repositories are asked.
	maxRegistries = 50
	parallel      = 8
)

// Options say what to look at besides the configuration.
type Options struct {
	// Images are verified.
	Images []string
	// Timeout bounds one question to a registry. 0 means DefaultTimeout.
	Timeout time.Duration
	// Keys is what providers of certificates, and of registries' credentials, are
	// asked with.
	Keys keys.Env
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

func (o Options) complete() Options {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

// Files looks at the documents of files, and asks the registries that they name.
func Files(ctx context.Context, sources []compile.Source, deps compile.Deps, o Options) []Finding {
	o = o.complete()
	set, _ := compile.Decode(sources) // Compile tells what Decode found too
	deps.Keys, deps.Cloud = keys.Once(ctx, o.Keys, set.Wants()), o.Keys
	deps.Sources = &credential.Pool{}
	compiled, err := set.Compile(deps)
	var out []Finding
	if err != nil {
		out = append(out, problemFindings(err, "correct it, and look again")...)
	} else {
		defer compiled.Close()
		out = append(out, Finding{Area: AreaConfiguration, Level: OK, Message: "it can be applied"})
		for _, w := range compiled.Warnings {
			out = append(out, Finding{AreaConfiguration, w.Place(), Warning, strings.TrimPrefix(w.Error(), w.Place()+": "), "see whether this is meant"})
		}
	}
	survey := set.Survey(deps.Keys)
	out = append(out, fetchFindings(survey)...)
	out = append(out, certificateFindings(survey, o.Clock())...)
	out = append(out, statementFindings(survey)...)
	out = append(out, checkCredentials(ctx, set.Credentials(deps), "", o)...)
	if err != nil {
		return mergeRepeats(out) // nothing else can be asked without an engine
	}
	return mergeRepeats(append(out, checkRegistries(ctx, compiled.EngineFor(""), survey, o)...))
}

// problemFindings makes a finding of each problem of an error.
func problemFindings(err error, remedy string) []Finding {
	var out []Finding
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, Finding{Area: AreaConfiguration, Message: line, Remedy: remedy})
		}
	}
	return out
}

// fetchFindings tells what could not be fetched.
func fetchFindings(s compile.Survey) []Finding {
	var out []Finding
	for _, p := range s.Providers {
		for _, t := range p.Trouble {
			out = append(out, Finding{Area: AreaCertificates, Subject: p.Resource, Message: t, Remedy: "docs/keys.md says which rights each type needs"})
		}
	}
	return out
}

// certificateFindings looks at what providers provide.
func certificateFindings(s compile.Survey, now time.Time) []Finding {
	var out []Finding
	for _, p := range s.Providers {
		if len(p.Trouble) > 0 && len(p.Certificates) == 0 {
			continue
		}
		if f := badCertificates(p, now); len(f) > 0 {
			out = append(out, f...)
			continue
		}
		out = append(out, Finding{Area: AreaCertificates, Subject: p.Resource, Level: OK,
			Message: fmt.Sprintf("%s, good until %s at least", pluralOf(len(p.Certificates), "certificate"), formatDay(firstExpiry(p.Certificates)))})
	}
	return out
}

// badCertificates finds the certificates that are not good, or not for long.
func badCertificates(p compile.SurveyedProvider, now time.Time) []Finding {
	var out []Finding
	for _, c := range p.Certificates {
		f := Finding{Area: AreaCertificates, Subject: p.Resource}
		switch {
		case now.After(c.NotAfter):
			f.Message = fmt.Sprintf("%q expired on %s: signatures under it are not trusted, unless it was signed before and has a timestamp", c.Subject, formatDay(c.NotAfter))
			f.Remedy = "provide its successor; keep it as long as signatures with timestamps rest on it"
		case now.Before(c.NotBefore):
			f.Message, f.Remedy = fmt.Sprintf("%q is valid from %s only", c.Subject, formatDay(c.NotBefore)), "see whether the clock here is right, or wait"
		case c.NotAfter.Sub(now) < soon:
			f.Level = Warning
			f.Message, f.Remedy = fmt.Sprintf("%q expires on %s", c.Subject, formatDay(c.NotAfter)), "provide its successor beside it, and sign anew what is to run after that"
		default:
			continue
		}
		out = append(out, f)
	}
	return out
}

func firstExpiry(certs []*x509.Certificate) time.Time {
	var t time.Time
	for _, c := range certs {
		if t.IsZero() || c.NotAfter.Before(t) {
			t = c.NotAfter
		}
	}
	return t
}

func formatDay(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func pluralOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// statementFindings looks at how much trust policies ask for. Levels are those of the
// Notary Project's trust-store-trust-policy.md, "Signature Verification details".
func statementFindings(s compile.Survey) []Finding {
	var out []Finding
	for _, st := range s.Statements {
		d := st.Statement
		f := Finding{Area: AreaTrustPolicy, Subject: fmt.Sprintf("%s, %q", st.Resource, d.Name), Level: Warning}
		scopes := strings.Join(d.RegistryScopes[:min(len(d.RegistryScopes), 3)], ", ")
		if len(d.RegistryScopes) > 3 {
			scopes += ", …"
		}
		switch level := d.SignatureVerification.Level; level {
		case "skip":
			f.Message = "every image of " + scopes + " is trusted, signed or not (level skip)"
		case "audit":
			f.Message = "for " + scopes + " a signature only has to be intact: who signed, expiry and revocation are noted, not enforced (level audit)"
		case "permissive":
			f.Message = "for " + scopes + " expiry, timestamps and revocation are noted, not enforced (level permissive)"
		default:
			f.Level, f.Message = OK, fmt.Sprintf("%s at level %s", scopes, level)
		}
		if f.Level != OK {
			f.Remedy = "choose level strict, unless this is meant"
		} else if n := len(d.SignatureVerification.Override); n > 0 {
			f.Level, f.Message, f.Remedy = Warning, f.Message+", with "+pluralOf(n, "check")+" overridden", "see whether this is meant"
		}
		out = append(out, f)
	}
	return out
}

// checkRegistries asks the registries that trust policies name, and verifies images.
func checkRegistries(ctx context.Context, e *boltseal.Engine, s compile.Survey, o Options) []Finding {
	if e == nil {
		return nil
	}
	type question struct {
		reference, subject string
		image              bool
	}
	var asks []question
	for _, image := range o.Images {
		asks = append(asks, question{image, image, true})
	}
	var repositories []string
	for _, st := range s.Statements {
		if st.Namespace != "" {
			continue // the cluster's engine does not serve it
		}
		for _, scope := range st.Statement.RegistryScopes {
			if scope != "*" && !slices.Contains(repositories, scope) {
				repositories = append(repositories, scope)
			}
		}
	}
	var out []Finding
	if len(repositories) > maxRegistries {
		out = append(out, Finding{AreaRegistries, "", Warning, fmt.Sprintf("trust policies name %d repositories; the first %d were asked", len(repositories), maxRegistries), "name images of the others with --image"})
		repositories = repositories[:maxRegistries]
	}
	for _, r := range repositories {
		asks = append(asks, question{r + ":latest", r, false})
	}
	if len(asks) == 0 {
		return append(out, Finding{AreaRegistries, "", Warning, "no registry was asked: no trust policy names a repository, and no image was named", "name an image with --image"})
	}
	findings := make([]Finding, len(asks))
	var wg sync.WaitGroup
	room := make(chan struct{}, parallel)
	for i, q := range asks {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			r, err := e.Verify(ctx, q.reference)
			if err != nil {
				r = boltseal.Result{Reason: boltseal.ReasonOf(err)}
			}
			if q.image {
				findings[i] = imageFinding(q.subject, r)
			} else {
				findings[i] = repositoryFinding(q.subject, r)
			}
		})
	}
	wg.Wait()
	return append(out, findings...)
}

func imageFinding(name string, r boltseal.Result) Finding {
	if r.Decision == boltseal.Allow {
		return Finding{Area: AreaImages, Subject: name, Level: OK, Message: "trusted: " + r.Reason.Message}
	}
	return Finding{Area: AreaImages, Subject: name, Message: r.Reason.Message, Remedy: r.Reason.Remedy}
}

// repositoryFinding reads from an answer about some image of it whether it can be read at all.
func repositoryFinding(name string, r boltseal.Result) Finding {
	f := Finding{Area: AreaRegistries, Subject: name, Level: OK, Message: "it answers"}
	switch r.Reason.Cause {
	case boltseal.CauseUnavailable, boltseal.CauseUnusable, boltseal.CauseUnauthorized, boltseal.CauseRefused, boltseal.CauseNoStore, boltseal.CauseInternal, boltseal.CauseInvalidReference:
		f.Level, f.Message, f.Remedy = Problem, r.Reason.Message, r.Reason.Remedy
	case boltseal.CauseImageNotFound:
		f.Message = "it answers (there is no image latest in it)"
	}
	return f
}

// Worst is the level of the worst finding, OK where there is none: what is not known
// is worse than what deserves a look.
func Worst(fs []Finding) Level {
	for _, level := range []Level{Problem, Unknown, Warning} {
		if slices.ContainsFunc(fs, func(f Finding) bool { return f.Level == level }) {
			return level
		}
	}
	return OK
}
