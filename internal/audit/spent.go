package audit

import (
	"strconv"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// minSpent is the shortest time that a line tells of: what is not there took less.
const minSpent = time.Millisecond

// Spent is where the time of a request went. What took less than a millisecond is 0.
type Spent struct {
	// Body is how long the request took to arrive, and Decode to be read.
	Body   time.Duration `json:"body,omitempty"`
	Decode time.Duration `json:"decode,omitempty"`
	// PodSecrets is how long the Pod's pull Secrets took, Images the verification of all
	// images that were not known, and Memory what was used in place of a registry that
	// did not answer.
	PodSecrets time.Duration `json:"podSecrets,omitempty"`
	Images     time.Duration `json:"images,omitempty"`
	Memory     time.Duration `json:"memory,omitempty"`
}

// Part is a part of the time of a request or an image, by its name in a line.
type Part struct {
	Name string
	Took time.Duration
}

// Parts are all parts that took at least a millisecond.
func (s *Spent) Parts() []Part {
	if s == nil {
		return nil
	}
	all := s.parts()
	return longParts(all[:])
}

func (s *Spent) parts() [5]Part {
	return [...]Part{{"body", s.Body}, {"decode", s.Decode}, {"podSecrets", s.PodSecrets}, {"images", s.Images}, {"memory", s.Memory}}
}

// ImageSpent is where the time of the verification of an image went. A stage's time is
// that in which at least one of its steps was under way: stages overlap. What took
// less than a millisecond is 0.
type ImageSpent struct {
	// Waited is how long the request waited, and Joined tells that another one had begun
	// the verification, so that stages may be longer.
	Waited time.Duration `json:"waited,omitempty"`
	Joined bool          `json:"joined,omitempty"`
	// Stages as package boltseal has them.
	Resolve       time.Duration `json:"resolve,omitempty"`
	Referrers     time.Duration `json:"referrers,omitempty"`
	Fetch         time.Duration `json:"fetch,omitempty"`
	Verify        time.Duration `json:"verify,omitempty"`
	Revocation    time.Duration `json:"revocation,omitempty"`
	Token         time.Duration `json:"token,omitempty"`
	Credentials   time.Duration `json:"credentials,omitempty"`
	RegistryQueue time.Duration `json:"registryQueue,omitempty"`
	Processor     time.Duration `json:"processor,omitempty"`
	Shared        time.Duration `json:"shared,omitempty"`
	// Slowest is the HTTP request that took longest, nil where none took a millisecond.
	Slowest *SlowRequest `json:"slowestRequest,omitempty"`
}

// SlowRequest is one HTTP request.
type SlowRequest struct {
	Host string        `json:"host"`
	Took time.Duration `json:"took"`
	// Status is that of the answer, 0 where there was none yet.
	Status int `json:"status,omitempty"`
}

// SpentOn says where the time of a verification went, nil where there was none.
func SpentOn(t *timing.Times) *ImageSpent {
	if t == nil {
		return nil
	}
	s := &ImageSpent{Waited: t.Waited, Joined: t.Joined,
		Resolve: t.Stages[boltseal.StageResolve], Referrers: t.Stages[boltseal.StageReferrers], Fetch: t.Stages[boltseal.StageFetch],
		Verify: t.Stages[boltseal.StageVerify], Revocation: t.Stages[boltseal.StageRevocation], Token: t.Stages[boltseal.StageToken],
		Credentials: t.Stages[boltseal.StageCredentials], RegistryQueue: t.Stages[boltseal.StageQueue], Processor: t.Stages[boltseal.StageTurn],
		Shared: t.Stages[boltseal.StageShared]}
	if t.Slowest.Took >= minSpent {
		s.Slowest = &SlowRequest{t.Slowest.Host, t.Slowest.Took, t.Slowest.Status}
	}
	return s
}

// Parts are all parts that took at least a millisecond.
func (s *ImageSpent) Parts() []Part {
	if s == nil {
		return nil
	}
	all := s.parts()
	return longParts(all[:])
}

func (s *ImageSpent) parts() [11]Part {
	return [...]Part{{"waited", s.Waited}, {"resolve", s.Resolve}, {"referrers", s.Referrers}, {"fetch", s.Fetch}, {"verify", s.Verify}, {"revocation", s.Revocation},
		{"token", s.Token}, {"credentials", s.Credentials}, {"registryQueue", s.RegistryQueue}, {"processor", s.Processor}, {"shared", s.Shared}}
}

func longParts(all []Part) (long []Part) {
	for _, p := range all {
		if p.Took >= minSpent {
			long = append(long, p)
		}
	}
	return long
}

const spentMember = `,"spentNanoseconds":{`

// appendSpent appends the member of a decision, where there is something to tell.
func appendSpent(dst []byte, s *Spent) []byte {
	if s == nil {
		return dst
	}
	all := s.parts()
	if dst, begun := appendParts(dst, all[:]); begun {
		return append(dst, '}')
	}
	return dst
}

// appendImageSpent appends the member of an image, where there is something to tell.
func appendImageSpent(dst []byte, s *ImageSpent) []byte {
	if s == nil {
		return dst
	}
	all := s.parts()
	dst, begun := appendParts(dst, all[:])
	if !begun {
		return dst
	}
	if s.Joined {
		dst = append(dst, `,"joined":true`...)
	}
	if r := s.Slowest; r != nil {
		dst = appendText(append(dst, `,"slowestRequest":{"host":`...), r.Host)
		dst = strconv.AppendInt(append(dst, `,"took":`...), int64(r.Took), 10)
		if r.Status != 0 {
			dst = strconv.AppendInt(append(dst, `,"status":`...), int64(r.Status), 10)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func appendParts(dst []byte, all []Part) (_ []byte, begun bool) {
	for _, p := range all {
		if p.Took < minSpent {
			continue
		}
		if begun {
			dst = append(dst, ',')
		} else {
			dst, begun = append(dst, spentMember...), true
		}
		dst = append(append(append(dst, '"'), p.Name...), `":`...)
		dst = strconv.AppendInt(dst, int64(p.Took), 10)
	}
	return dst, begun
}
