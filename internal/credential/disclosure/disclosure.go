// Package disclosure decides where credentials that are used in a namespace's name may be shown.
package disclosure

import "fmt"

// Way is one use of a credential, as the resource that asks for it has it.
type Way struct {
	// Namespace is the resource's. "" means that the cluster's administrators wrote it,
	// who decide for themselves whom they show what.
	Namespace string
	// Diverts is the parameter of the resource by which the credential could reach
	// somebody else than the host of that name: no TLS, other authorities, another token
	// server. "" means that there is none, or that the credential itself says the same.
	// A proxy sees TLS only, and is none.
	Diverts string
	// Elsewhere is the host that the resource names, where the credential does not say
	// itself that it is for that host. "" means that it says so.
	Elsewhere string
}

// Refusal says why a credential is not shown.
type Refusal struct {
	Field string // the parameter that is the cause, "" where it is the address
	Why   string
}

// Of returns why a credential is not shown in this way; nil where it may be. what is
// the credential in words that "is not shown" can follow.
//
// Whoever may write a Store or a provider in a namespace may not be who may read its
// Secrets, and is never who may use Boltseal's own identity. So the resource does not
// decide who gets to see them: the credential says itself for whom it is, and that host
// is known by its name and the authorities that everybody trusts.
func Of(w Way, what string) *Refusal {
	switch {
	case w.Namespace == "":
		return nil
	case w.Diverts != "":
		return &Refusal{w.Diverts, fmt.Sprintf("%s is not shown where a namespace sets %s", what, w.Diverts)}
	case w.Elsewhere != "":
		return &Refusal{"", fmt.Sprintf("%s does not say that it is for %s, and is not shown to whomever a namespace names", what, w.Elsewhere)}
	}
	return nil
}
