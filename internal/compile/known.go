package compile

import "slices"

// Names are the names of parts that this package knows.
type Names struct {
	Verifiers, Stores, Policies, Providers, AuthProviders []string
	// Policy is the one name that a Policy may have.
	Policy string
}

// Known returns the names as resources write them.
func Known() Names {
	return Names{
		Verifiers: append(slices.Clone(verifierTypes), olderNotation), Stores: slices.Clone(storeTypes), Policies: slices.Clone(policyTypes),
		Providers: slices.Clone(providerTypes), AuthProviders: slices.Clone(authProviders),
		Policy: policyName,
	}
}
