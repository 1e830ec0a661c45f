package serve

import (
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/kube/registrar"
)

// KnownValues returns what is known of the values of the family's flags.
func KnownValues() frame.Completions {
	return frame.Completions{Flags: map[string]frame.Completed{
		"log-format":             {Values: []string{"text", "json"}},
		"log-level":              {Values: []string{"debug", "info", "warn", "error"}},
		"report-version":         {Values: []string{string(externaldata.Report020), string(externaldata.Report010)}},
		"webhook":                {Values: []string{string(registrar.Enforce), string(registrar.Off)}},
		"webhook-failure-policy": {Values: []string{"Fail", "Ignore"}},
	}}
}
