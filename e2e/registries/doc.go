// Package registries proves Boltseal against registries that others have written.
package registries
