// Package boltseal says whether a container image is trusted, and why.
//
// An image reference goes in, evidence comes out, and a policy turns the
// evidence into a decision:
//
//   - A [Store] resolves the reference to a digest and lists what refers to it.
//   - A [Verifier] judges one candidate signature and returns [Evidence].
//   - A [Policy] turns all evidence into a [Decision].
//   - An [Engine] is the three of them together, with limits and a clock.
//
// The packages beside this one provide the parts: oci has stores for
// registries and for OCI layouts on disk, notation has the Notary Project
// verifier, trust holds certificates, and policy holds the rules.
//
// The zero [Decision] is [Deny], the zero [Outcome] is [Rejected], and work
// that could not be finished is [Unknown]: nothing becomes [Allow] by omission.
package boltseal
