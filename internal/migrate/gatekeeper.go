package migrate

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/internal/strict"
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

// asks finds the Providers that Rego asks.
var asks = regexp.MustCompile(`"provider"\s*:\s*"([^"]{1,253})"`)

// Parts of reports that Boltseal has nothing to write into.
const (
	nestedReports = "nestedReports" // of version 1.x, which it does not answer
	nestedResults = "nestedResults"
)

// gatekeeper tells of Providers and ConstraintTemplates that ask Ratify, and reports
// whether there are any.
func (c *checker) gatekeeper(docs []*document) (ours bool) {
	var names []string
	for _, d := range docs {
		if d.Kind != "Provider" {
			continue
		}
		u, err := url.Parse(d.Spec.URL)
		if err != nil || !strings.HasPrefix(u.Path, pathPrefix) {
			continue
		}
		names = append(names, d.Metadata.Name)
		c.gatekeepersProvider(d, u)
	}
	ours = len(names) > 0
	if !ours {
		names = usualProviders
	}
	for _, d := range docs {
		if d.Kind == "ConstraintTemplate" && c.template(d, names) {
			ours = true
		}
	}
	return ours
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

// template tells of a ConstraintTemplate, and reports whether it asks one of the
// Providers.
func (c *checker) template(d *document, providers []string) bool {
	var rego strings.Builder
	for _, t := range d.Spec.Targets {
		texts := append([]string{t.Rego}, t.Libs...)
		for _, code := range t.Code {
			texts = append(append(texts, code.Source.Rego), code.Source.Libs...)
		}
		for _, text := range texts {
			rego.WriteString(text + "\n")
		}
	}
	text := rego.String()
	asked := ""
	for _, m := range asks.FindAllStringSubmatch(text, -1) {
		if slices.Contains(providers, m[1]) {
			asked = m[1]
			break
		}
	}
	if asked == "" {
		return false
	}
	switch {
	case strings.Contains(text, nestedReports):
		c.add(d, "spec.targets", Unsupported, "answers reports of version 1.x where the Policy is rego-policy, with "+nestedReports, "answers reports of version 0.x, which have none", "write it for the reports of config-policy (docs/gatekeeper.md)")
	case strings.Contains(text, nestedResults):
		c.add(d, "spec.targets", Differs, "writes into "+nestedResults+" what became of artifacts attached to an artifact", "judges signatures of the image only, and leaves "+nestedResults+" empty", "use a template that needs none")
	case !strings.Contains(text, "isSuccess"):
		c.add(d, "spec.targets", Differs, "", "answers it; it never looks at isSuccess, so it does not see what is denied", "see what it is for; docs/gatekeeper.md has a template that denies what is not trusted")
	default:
		c.add(d, "spec.targets", OK, "", "answers what it asks of "+asked+" in the same shapes", "consider the template of docs/gatekeeper.md, which denies where an answer says nothing for certain")
	}
	return true
}
