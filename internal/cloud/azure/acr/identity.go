package acr

import (
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/boltseal/boltseal/internal/credential"
)

// scope is what a token for registries is asked for; it is the same in all clouds
// (azcontainerregistry, cloud_config.go).
const scope = "https://containerregistry.azure.net/.default"

// cloudOf is the cloud in which to sign in for a registry. An identity is of one
// cloud: its assertions are not shown to another's Entra, whatever an image is called.
func (s *Source) cloudOf(host string) (cloud.Configuration, error) {
	for _, c := range sovereigns() {
		if !strings.HasSuffix(host, "."+c.suffix) {
			continue
		}
		if why := s.who.Elsewhere(c.config); why != "" {
			return cloud.Configuration{}, fmt.Errorf("%w: %s is not given to %s, which %s", credential.ErrNotForHost, s.o.Provider, host, why)
		}
		return c.config, nil
	}
	if own, ok := s.who.Cloud(); ok {
		return own, nil
	}
	return cloud.AzurePublic, nil
}
