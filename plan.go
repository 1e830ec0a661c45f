package boltseal

import (
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// job is one candidate with what its listing makes likely. The evidence stands in
// Findings.Evidence from first on, one slot for each.
type job struct {
	desc    ocispec.Descriptor
	likely  []likely
	first   int
	untyped bool // the listing says no type: it may be no signature at all
}

// likely is a verifier with an artifact type that it would judge.
type likely struct {
	Verifier
	artifactType string
}

// untyped are the types by which registries list what they have not looked into:
// none, those of a config that says nothing, and that of an image.
var untyped = []string{"", ocispec.MediaTypeEmptyJSON, ocispec.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json",
	"application/octet-stream", "application/json", ocispec.MediaTypeImageManifest, MediaTypeORASArtifact}

// Untyped reports whether the type of a listed artifact leaves open what it is, so
// that its manifest has to be read to know.
func Untyped(artifactType string) bool { return slices.Contains(untyped, artifactType) }

// plan picks the candidates, and reserves their evidence: first those whose type a
// verifier handles, the most promising first and otherwise in the listing's order, and
// then those without a type. alone says that the first is promising enough to be judged
// before the others are fetched: if it is verified, they are not needed.
func (e *Engine) plan(subject Subject, f *Findings, referrers []ocispec.Descriptor) (jobs []job, alone bool) {
	over, unread := 0, 0
	var typed, later []ocispec.Descriptor
	for _, d := range referrers {
		switch handled := slices.ContainsFunc(e.verifiers, func(v Verifier) bool { return verifierHandles(v, d.ArtifactType) }); {
		case !handled && Untyped(d.ArtifactType):
			later = append(later, d)
		case !handled:
			f.passOver(d, notHandled)
		default:
			typed = append(typed, d)
		}
	}
	promising := e.rankCandidates(subject, typed)
	for i, d := range typed {
		if i >= e.limits.MaxSignatures {
			over++
			f.passOver(d, fmt.Sprintf("only %d signatures are checked, the most promising first", e.limits.MaxSignatures))
			continue
		}
		jobs = append(jobs, f.reserve(job{desc: d, likely: likelyFor(d.ArtifactType, e.handlers(d.ArtifactType))}))
	}
	for i, d := range later {
		if i >= e.limits.MaxUntyped {
			unread++
			f.passOver(d, fmt.Sprintf("only the first %d referrers without a type are read", e.limits.MaxUntyped))
			continue
		}
		j := job{desc: d, untyped: true}
		for _, v := range e.verifiers {
			for _, t := range v.ArtifactTypes() {
				j.likely = append(j.likely, likely{v, t})
			}
		}
		jobs = append(jobs, f.reserve(j))
	}
	switch {
	case over > 0:
		f.Truncated = fmt.Sprintf("%d of %d signatures were not checked: the limit is %d", over, len(typed), e.limits.MaxSignatures)
	case unread > 0:
		f.Truncated = fmt.Sprintf("%d of %d referrers without a type were not read: the limit is %d", unread, len(later), e.limits.MaxUntyped)
	}
	return jobs, promising && len(jobs) > 1 && e.sufficient(f, jobs[0])
}

const notHandled = "no verifier handles this artifact type"

// reserve makes room for a job's evidence, so that a policy knows of it before it
// is looked at.
func (f *Findings) reserve(j job) job {
	j.first = len(f.Evidence)
	for _, l := range j.likely {
		f.Evidence = append(f.Evidence, Evidence{
			Referrer: j.desc.Digest, ArtifactType: l.artifactType, Verifier: l.Name(), VerifierType: l.Type(),
			Outcome: Undetermined, Reason: Reason{Cause: CauseIncomplete, Message: "not checked"},
		})
	}
	return j
}

func (f *Findings) passOver(d ocispec.Descriptor, why string) {
	if len(f.PassedOver) < maxPassedOver {
		f.PassedOver = append(f.PassedOver, PassedOver{Referrer: d.Digest, ArtifactType: d.ArtifactType, Why: why})
	}
}

// handlers are the verifiers for an artifact type.
func (e *Engine) handlers(artifactType string) (vs []Verifier) {
	for _, v := range e.verifiers {
		if verifierHandles(v, artifactType) {
			vs = append(vs, v)
		}
	}
	return vs
}

func likelyFor(artifactType string, vs []Verifier) []likely {
	out := make([]likely, len(vs))
	for i, v := range vs {
		out[i] = likely{v, artifactType}
	}
	return out
}

func verifierHandles(v Verifier, artifactType string) bool {
	for _, t := range v.ArtifactTypes() {
		if t == artifactType || t == "*" {
			return true
		}
	}
	return false
}
