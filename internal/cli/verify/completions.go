package verify

import (
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// KnownValues returns what is known of the values of the family's flags.
func KnownValues() frame.Completions {
	namespaces := map[string]frame.Completed{"namespace": frame.NamesOfKind(frame.KindNamespace)}
	return frame.Completions{Commands: map[string]map[string]frame.Completed{"audit": namespaces, "doctor": namespaces}}
}
