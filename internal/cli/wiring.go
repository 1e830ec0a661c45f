package cli

import (
	"github.com/boltseal/boltseal/internal/cli/govern"
	"github.com/boltseal/boltseal/internal/cli/serve"
)

// servedGovernance is what the commands of the family serve need of the family govern.
func servedGovernance() serve.Governed {
	return serve.Governed{Beside: govern.BesideServer(), Kinds: govern.DocumentKinds(), Advise: govern.AdviseDocument}
}
