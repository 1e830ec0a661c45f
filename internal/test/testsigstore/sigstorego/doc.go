// Package sigstorego holds the verifier of Sigstore's signatures against sigstore-go, in a module of its own: whoever uses Boltseal gets none of its dependencies.
package sigstorego
