package boltseal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Demand says which manifests of an image of several platforms must be trusted,
// each by itself. It has no bearing on an image that is no index.
type Demand string

const (
	// Named is the manifest that the image names: of an index, the index, whose
	// signature covers the digests of everything below it. It is the zero value's
	// meaning, too.
	Named Demand = "named"
	// EachPlatform is the platforms' manifests; the index itself is not asked about.
	EachPlatform Demand = "platforms"
	// Either is the index, or else the platforms' manifests.
	Either Demand = "either"
	// Whole is the index and every manifest in it.
	Whole Demand = "all"
)

// Demands are all demands, as users write them.
func Demands() []Demand { return []Demand{Named, EachPlatform, Either, Whole} }

// MultiArch says what of an index is looked at. The zero value means Named.
type MultiArch struct {
	Demand Demand
	// Platforms are those that nodes run, for EachPlatform and Either: of an index,
	// every manifest is looked at that a runtime on such a node could choose, and no
	// other. A platform that an index does not have cannot run it, and is no
	// objection; an index that has none of them is denied. Empty means every
	// manifest in the index.
	Platforms []Platform
	// Unread, where set, says why Platforms could not be found out, such as that the
	// cluster's Nodes could not be read. What is below an index is then undecided.
	Unread string
}

// Validate reports a demand that there is not, or platforms where they mean
// nothing. Errors wrap [ErrConfiguration].
func (m MultiArch) Validate() error {
	switch {
	case m.Demand != "" && !slices.Contains(Demands(), m.Demand):
		return fmt.Errorf("%w: multiArch is %q; it must be named, platforms, either or all", ErrConfiguration, string(m.Demand))
	case (len(m.Platforms) > 0 || m.Unread != "") && m.Demand != EachPlatform && m.Demand != Either:
		return fmt.Errorf("%w: platforms are listed, and multiArch is %q, which does not ask for them; it must be platforms or either", ErrConfiguration, string(m.demand()))
	case len(m.Platforms) > MaxPlatforms:
		return fmt.Errorf("%w: %d platforms, at most %d", ErrConfiguration, len(m.Platforms), MaxPlatforms)
	}
	return nil
}

// MaxPlatforms bounds the platforms that a MultiArch may list.
const MaxPlatforms = 64

func (m MultiArch) demand() Demand {
	if m.Demand == "" {
		return Named
	}
	return m.Demand
}

// IndexPolicy is a Policy that looks below an index (OCI image-spec 1.1,
// image-index.md). Its Decide finds what was looked at in [Findings.Index].
type IndexPolicy interface {
	Policy
	// MultiArch is what is to be looked at.
	MultiArch() MultiArch
	// Alone decides about one manifest by itself, an index too.
	Alone() Policy
}

// ThisIndex stands for the index itself among the platforms of [IndexFindings].
const ThisIndex = "index"

// IndexFindings is what was looked at of an index, where the policy asks for more
// than the digest that the image names.
type IndexFindings struct {
	Demand Demand `json:"demand"`
	// Manifests are those that were looked at, each with its own verdict: first the
	// index itself where it was, then the others in its order.
	Manifests []PlatformResult `json:"manifests,omitempty"`
	// Failure is set where the index could not be read, or is refused.
	Failure Reason `json:"failure,omitzero"`
	// Absent are listed platforms of which the index has no manifest.
	Absent []Platform `json:"absent,omitempty"`
	// PassedOver are manifests that nobody asked for.
	PassedOver []PassedOverManifest `json:"passedOver,omitempty"`
}

// PlatformResult is what was found about one manifest of an index by itself.
type PlatformResult struct {
	// Platform is what the index says, [ThisIndex] for the index itself. Where one
	// manifest stands for several, they are joined by ", ".
	Platform string `json:"platform"`
	Result
}

// PassedOverManifest is a manifest in an index that nobody looked at, and why.
type PassedOverManifest struct {
	Platform string        `json:"platform"`
	Digest   digest.Digest `json:"digest"`
	Why      string        `json:"why"`
}

// Undetermined tells causes that leave the question open, as outages do, from
// those that answer it with no.
func (c Cause) Undetermined() bool { return causeUndetermined(c) }

// AllEvidence calls yield for all evidence, that of an index's manifests included,
// until it returns false.
func (f *Findings) AllEvidence(yield func(*Evidence) bool) {
	for i := range f.Evidence {
		if !yield(&f.Evidence[i]) {
			return
		}
	}
	if f.Index == nil {
		return
	}
	for m := range f.Index.Manifests {
		for i := range f.Index.Manifests[m].Evidence {
			if !yield(&f.Index.Manifests[m].Evidence[i]) {
				return
			}
		}
	}
}

// entry is a manifest of an index that is to be looked at.
type entry struct {
	desc     ocispec.Descriptor
	platform string
}

// choose says which manifests of an index are to be looked at; it notes the others
// in f. Errors say why the index cannot be judged.
func (m MultiArch) choose(ix Index, most int, f *IndexFindings) ([]entry, error) {
	var out []entry
	place := map[digest.Digest]int{}
	for _, d := range ix.Manifests {
		name := platformName(d.Platform)
		if why := m.passOver(d); why != "" {
			if len(f.PassedOver) < maxPassedOver {
				f.PassedOver = append(f.PassedOver, PassedOverManifest{Platform: name, Digest: d.Digest, Why: why})
			}
			continue
		}
		switch d.MediaType {
		case ocispec.MediaTypeImageManifest, MediaTypeDockerManifest:
		case ocispec.MediaTypeImageIndex, MediaTypeDockerManifestList:
			return nil, fmt.Errorf("%w: its manifest %s (%s) is an index again, and what is in that is not checked", errUnjudged, d.Digest, name)
		default:
			return nil, fmt.Errorf("%w: its manifest %s (%s) is of type %.100q, which is not that of an image", errUnjudged, d.Digest, name, d.MediaType)
		}
		if i, seen := place[d.Digest]; seen {
			if !slices.Contains(strings.Split(out[i].platform, ", "), name) && len(out[i].platform) < maxPassedOver {
				out[i].platform += ", " + name
			}
			continue
		}
		if len(out) == most {
			return nil, fmt.Errorf("%w: more than %d manifests in the index have to be checked", ErrLimit, most)
		}
		place[d.Digest] = len(out)
		out = append(out, entry{ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, name})
	}
	for _, p := range m.Platforms {
		if !slices.ContainsFunc(ix.Manifests, func(d ocispec.Descriptor) bool { return !isAttestation(d) && p.mayRun(d.Platform) }) {
			f.Absent = append(f.Absent, p)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: of the %d manifests in the index none is for %s", errUnjudged, len(ix.Manifests), m.sought())
	}
	return out, nil
}

func (m MultiArch) sought() string {
	const most = 6
	switch names := platformNames(m.Platforms); {
	case len(names) == 0:
		return "a platform"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" or another of the %d platforms that are listed", len(names))
	default:
		return strings.Join(names, ", ")
	}
}

func platformNames(ps []Platform) (out []string) {
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// passOver says why an entry need not be looked at, "" where it must be.
func (m MultiArch) passOver(d ocispec.Descriptor) string {
	if isAttestation(d) {
		return "it describes another manifest and is no image"
	}
	if len(m.Platforms) > 0 && !slices.ContainsFunc(m.Platforms, func(p Platform) bool { return p.mayRun(d.Platform) }) {
		return "its platform is not listed"
	}
	return ""
}

// isAttestation recognises what BuildKit adds to an index. The annotation by itself
// proves nothing: it is the platform unknown/unknown that no node runs.
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations[annotationReferenceType] == referenceAttestation && d.Platform != nil &&
		d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}
