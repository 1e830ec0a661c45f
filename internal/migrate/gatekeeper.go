package migrate

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/migrate/rego"
	"github.com/boltseal/boltseal/notation"
)

// Where Ratify answers Gatekeeper.
const (
	pathPrefix = "/ratify/gatekeeper/"
	pathMutate = "/mutate"
)

// Names of the Providers that Ratify's chart makes, for templates without a
// Provider beside them.
var usualProviders = []string{"ratify-provider", "ratify-mutation-provider"}

// Seconds within which an answer leaves at the latest, rounded up: --verify-timeout
// and --mutate-timeout.
const (
	verifySeconds = 3
	mutateSeconds = 1
)

// Parts of reports that Boltseal has nothing to write into.
const (
	nestedReports = "nestedReports" // of version 1.x, which it does not answer
	nestedResults = "nestedResults"
)

// gatekeeper tells of Providers and ConstraintTemplates that ask Ratify, and reports
// whether there are any. Others are passed over; those are counted. ratify says that
// there are resources of Ratify's.
func (c *checker) gatekeeper(docs []*document, ratify bool) (ours bool, others int) {
	var names, foreign []string
	for _, d := range docs {
		if d.Kind != "Provider" {
			continue
		}
		u, err := url.Parse(d.Spec.URL)
		if err != nil || !strings.HasPrefix(u.Path, pathPrefix) {
			foreign = append(foreign, d.Metadata.Name)
			others++
			continue
		}
		names = append(names, d.Metadata.Name)
		c.gatekeepersProvider(d, u)
	}
	ours = len(names) > 0
	made := names
	if !ours {
		names = slices.DeleteFunc(slices.Clone(usualProviders), func(n string) bool { return slices.Contains(foreign, n) })
	}
	for _, d := range docs {
		if d.Kind != "ConstraintTemplate" {
			continue
		}
		t := rego.Read(d.regos(), c.reports())
		switch asked := firstOf(t.Providers, names); {
		case asked != "":
			ours = true
			c.template(d, t, asked)
		case t.Told && len(t.Providers) == 0:
			ours = ours || ratify
			if ratify || len(made) > 0 {
				c.template(d, t, "the provider that its constraint names")
			} else {
				others++
			}
		case len(t.Providers) > 0 && firstOf(t.Providers, foreign) == "" && (ratify || len(made) > 0):
			c.unasked(d, t, made)
		default:
			others++
		}
	}
	return ours, others
}

// firstOf is the first of the names that is among others; "" where none is.
func firstOf(names, among []string) string {
	for _, n := range names {
		if slices.Contains(among, n) {
			return n
		}
	}
	return ""
}

// reports are what the configuration's Verifiers can say.
func (c *checker) reports() (k rego.Known) {
	for _, e := range c.entries {
		if e.base() != v1beta1.KindVerifier {
			continue
		}
		k.Verifiers = append(k.Verifiers, e.Metadata.Name)
		if strings.TrimSpace(e.Spec.Artifacts) == "" {
			k.ArtifactTypes = append(k.ArtifactTypes, notation.ArtifactType)
		}
		for _, t := range strings.Split(e.Spec.Artifacts, ",") {
			if t = strings.TrimSpace(t); t != "" {
				k.ArtifactTypes = append(k.ArtifactTypes, t)
			}
		}
	}
	return k
}

// unasked tells of a template that asks somebody who is not there.
func (c *checker) unasked(d *document, t rego.Template, made []string) {
	where := "which the cluster does not have"
	if c.o.Partial {
		where = "which no document here defines"
	}
	do := "name the file that has the Provider, if it is Ratify's: it is to ask Boltseal then"
	if len(made) > 0 {
		do = "let it ask " + strings.Join(made, " or ") + ", or " + do
	} else {
		do = "let it ask " + usualProviders[0] + ", which Boltseal's chart makes, or " + do
	}
	c.add(d, "spec.targets", Differs, "", "is not asked by it: it asks the provider "+strict.Label(t.Providers[0])+", "+where+nearest.Hint(t.Providers[0], append(slices.Clone(made), usualProviders...)), do)
}

func (c *checker) gatekeepersProvider(d *document, u *url.URL) {
	host := c.o.Service + "." + c.o.Namespace
	if name := u.Hostname(); name != host && !strings.HasPrefix(name, host+".") {
		do := "change spec.url to https://" + host + ".svc:6001" + u.Path + " when you switch"
		if !slices.Contains(usualProviders, d.Metadata.Name) {
			do += ", and name it in --gatekeeper-providers, so that its caBundle is kept up to date"
		}
		c.add(d, "spec.url", Differs, "is asked at "+strict.Label(u.Host), "answers the same requests in the same shapes, and keeps caBundle up to date", do)
	} else {
		c.add(d, "spec.url", OK, "", "is asked already", "")
	}
	least, flag := verifySeconds, "--verify-timeout"
	if strings.HasSuffix(u.Path, pathMutate) {
		least, flag = mutateSeconds, "--mutate-timeout"
	}
	if d.Spec.Timeout > 0 && d.Spec.Timeout < least {
		c.add(d, "spec.timeout", Differs, "", fmt.Sprintf("answers within %d s at the latest, and Gatekeeper does not wait for longer than %d s", least, d.Spec.Timeout), fmt.Sprintf("write %d, or give %s less", least, flag))
	}
}

// regos are the texts of a template.
func (d *document) regos() (texts []string) {
	for _, t := range d.Spec.Targets {
		texts = append(append(texts, t.Rego), t.Libs...)
		for _, code := range t.Code {
			texts = append(append(texts, code.Source.Rego), code.Source.Libs...)
		}
	}
	return texts
}

// maxDemands bounds how many demands of a template are told.
const maxDemands = 5

// template tells of a ConstraintTemplate that asks one of the Providers.
func (c *checker) template(d *document, t rego.Template, asked string) {
	before := len(c.found)
	if t.Cut {
		c.add(d, "spec.targets", Differs, "", "answers it; it is too long or too involved to be read here, so what it requires is not known", "try it against Boltseal before the switch, or use the template of docs/gatekeeper.md")
		return
	}
	var demands []string
	for _, what := range t.Demands {
		switch {
		case strings.Contains(what, nestedReports):
			c.add(d, "spec.targets", Unsupported, "answers reports of version 1.x where the Policy is rego-policy, with "+nestedReports, "answers reports of version 0.x, which have none", "write it for the reports of config-policy (docs/gatekeeper.md)")
		case strings.Contains(what, nestedResults):
			c.add(d, "spec.targets", Differs, "writes into "+nestedResults+" what became of artifacts attached to an artifact", "verifies signatures of the image only, and leaves "+nestedResults+" empty", "use a template that needs none")
		default:
			demands = append(demands, printableText(what))
		}
	}
	if len(demands) > 0 {
		boltseal := "never answers what it requires: " + strings.Join(demands[:min(len(demands), maxDemands)], ", ")
		if more := len(demands) - maxDemands; more > 0 {
			boltseal += fmt.Sprintf(" and %d more", more)
		}
		switch {
		case t.Always:
			boltseal += "; so it refuses every image"
		case t.Dead || !t.Outcome:
			boltseal += "; so it refuses nothing by it"
		}
		c.add(d, "spec.targets", Unsupported, "answers it where a plugin, or another Policy, reports it", boltseal,
			"require only what exists: verifierReports of name and type notation, isSuccess, message, artifactType, extensions Issuer and SN; or use the template of docs/gatekeeper.md")
	}
	const never, see = "answers it, and it can never refuse an image: ", "see what it is for; docs/gatekeeper.md has a template that denies what is not trusted"
	switch {
	case !t.Violation:
		c.add(d, "spec.targets", Differs, "", never+"it has no rule violation, which is the one that Gatekeeper goes by", see)
	case t.Dead && len(demands) == 0:
		c.add(d, "spec.targets", Differs, "", never+"its rules violation cannot be true, whatever the answer is", see)
	case t.Outcome || len(c.found) > before:
	case t.Failure:
		c.add(d, "spec.targets", Differs, "", "answers it; it never checks isSuccess, so it refuses what could not be asked, and nothing that is not trusted", see)
	default:
		c.add(d, "spec.targets", Differs, "", "answers it; it never checks isSuccess, so it does not see what is denied", see)
	}
	if len(c.found) == before {
		c.add(d, "spec.targets", OK, "", "answers what it asks of "+strict.Label(asked)+" in the same shapes", "consider the template of docs/gatekeeper.md, which denies where an answer says nothing for certain")
	}
}

// printableText is what a template says, as a message may show it.
func printableText(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
