package cli

// verifyCompletions returns what is known of the values of the family's flags.
func verifyCompletions() Completions {
	namespaces := map[string]Completed{"namespace": NamesOfKind(KindNamespace)}
	return Completions{Commands: map[string]map[string]Completed{"audit": namespaces, "doctor": namespaces}}
}
