package cli

// servedGovernance is what the commands of the family serve need of the family govern.
func servedGovernance() Governed {
	return Governed{Beside: besideServer(), Kinds: governedKinds(), Advise: adviseGoverned}
}
