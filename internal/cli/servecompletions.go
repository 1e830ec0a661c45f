package cli

import (
	"github.com/boltseal/boltseal/internal/externaldata"
	"github.com/boltseal/boltseal/internal/registrar"
)

// serveCompletions returns what is known of the values of the family's flags.
func serveCompletions() Completions {
	return Completions{Flags: map[string]Completed{
		"log-format":             {Values: []string{"text", "json"}},
		"log-level":              {Values: []string{"debug", "info", "warn", "error"}},
		"report-version":         {Values: []string{string(externaldata.Report020), string(externaldata.Report010)}},
		"webhook":                {Values: []string{string(registrar.Enforce), string(registrar.Off)}},
		"webhook-failure-policy": {Values: []string{"Fail", "Ignore"}},
	}}
}
