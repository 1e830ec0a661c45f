package server

import (
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// gathered is what was found about the images of an object, for each group of the policies
// that select it.
type gathered struct {
	groups  []integrity.Group
	records [][]record // one for each image of each group
}

// gather finds what is known about an object's images for all policies that select it: for
// the cluster's with the cluster's resources, for those that a namespace sets itself with the
// namespace's.
func (s *Server) gather(in *question, snap *snapshot.Snapshot, policies []*integrity.Policy, q *admission.Request) (g gathered) {
	cluster, own := byOwner(policies)
	if len(own) == 0 || snap.Engines.EngineFor(q.Namespace) == snap.Engines.EngineFor("") {
		s.gatherGroup(&g, in, snap, policies, q, "")
		return g
	}
	// The longer path is for the few who have both, and verifies one after the other.
	if len(cluster) > 0 {
		s.gatherGroup(&g, in, snap, cluster, q, "")
	}
	s.gatherGroup(&g, in, snap, own, q, q.Namespace)
	return g
}

// byOwner parts the cluster's policies from those that a namespace sets itself.
func byOwner(policies []*integrity.Policy) (cluster, own []*integrity.Policy) {
	for _, p := range policies {
		if p.Owner() == "" {
			cluster = append(cluster, p)
		} else {
			own = append(own, p)
		}
	}
	return cluster, own
}

// gatherGroup adds what is found about the images that some policy wants judged, by the
// resources of owner: a namespace, or the cluster where that is "".
func (s *Server) gatherGroup(g *gathered, in *question, snap *snapshot.Snapshot, policies []*integrity.Policy, q *admission.Request, owner string) {
	images, records := make([]integrity.Image, len(q.Images)), make([]record, len(q.Images))
	for i, img := range q.Images {
		images[i] = integrity.Image{Where: img.Where(), Image: img.Image, Pinned: strings.Contains(img.Image, "@")}
	}
	g.groups, g.records = append(g.groups, integrity.Group{Policies: policies, Images: images}), append(g.records, records)

	choice := s.chooseForPod(in, snap.Choose(owner, s.o.Webhook != nil || s.o.TrustWebhook), q)
	if choice.Engine == nil {
		for i := range images {
			images[i].Found.Reason = choice.Why
		}
		return
	}
	s.askGroup(in, snap, policies, choice, q.Namespace, images, records)
	// Where a registry refused the Pod's Secrets they were read anew: once more with those,
	// where they are others by now.
	if choice.PerPod && slices.ContainsFunc(images, func(i integrity.Image) bool { return i.Found.Reason.Cause == boltseal.CauseUnauthorized }) {
		if fresh := s.chooseForPod(in, choice, q); fresh.Engine != nil && fresh.Engine != choice.Engine {
			choice = fresh
			s.askGroup(in, snap, policies, choice, q.Namespace, images, records)
		}
	}
	if choice.Withheld {
		for i := range images {
			if images[i].Found.Decision != boltseal.Allow {
				images[i].Found.Reason = strangerReason(images[i].Found.Reason)
			}
		}
	}
	if s.o.Memory != nil {
		s.rememberGroup(in, policies, choice.Engine, images, records)
	}
}

// chooseForPod is the choice for the reviewed Pod, by its own pull Secrets where they count.
func (s *Server) chooseForPod(in *question, c snapshot.Choice, q *admission.Request) snapshot.Choice {
	if !c.PerPod {
		return c
	}
	ctx, cancel := in.within()
	defer cancel()
	defer func(start time.Time) { in.spent.PodSecrets += s.o.Clock().Sub(start) }(s.o.Clock())
	return c.ForPod(ctx, snapshot.Pod{Namespace: q.Namespace, Secrets: q.PullSecrets, Account: q.ServiceAccount})
}

// askGroup verifies the images that some policy does not exclude, and sets what is found and
// how it is recorded.
func (s *Server) askGroup(in *question, snap *snapshot.Snapshot, policies []*integrity.Policy, c snapshot.Choice, namespace string, images []integrity.Image, records []record) {
	if s.o.Memory != nil && snap.Policies.Recalls() {
		shorter := *in
		shorter.deadline = in.deadline.Add(-recallTime(in.deadline.Sub(in.start)))
		in = &shorter
	}
	s.ask(in, snap.Memo, len(images), func(i int) (*boltseal.Engine, string, string) {
		if slices.ContainsFunc(policies, func(p *integrity.Policy) bool { return !p.Excludes(images[i].Image) }) {
			return c.Engine, images[i].Image, namespace
		}
		return nil, "", ""
	}, func(i int, a *memo.Answer, t *timing.Times) {
		images[i].Found = integrity.Found{Decision: a.Decision, Reason: a.Reason, Digest: a.Digest}
		records[i] = record{audit: a.Audit, times: t}
	})
}

// recallTime is the part of the time for an answer that is left for memory, which is
// asked when the registries' time is up: in an outage for all who wait, and they wake at
// once. So it is a part of the time, and no fixed time that a busy machine uses up.
func recallTime(total time.Duration) time.Duration {
	return max(total/10, min(total/5, 300*time.Millisecond))
}

// rememberGroup adds what memory knows of images whose registries are out, for the policies
// that want it.
func (s *Server) rememberGroup(in *question, policies []*integrity.Policy, e *boltseal.Engine, images []integrity.Image, records []record) {
	for i := range images {
		if !images[i].Found.Reason.Cause.Outage() {
			continue
		}
		for _, age := range integrity.RecallAges(policies, images[i].Image) {
			r, encoded := s.remember(in, e, images[i].Image, age)
			images[i].Remembered, records[i].recalled = append(images[i].Remembered, r), append(records[i].recalled, encoded)
		}
	}
}

// remember decides about an image from memory. encoded is what is recorded of it, nil where
// memory knows nothing.
func (s *Server) remember(in *question, e *boltseal.Engine, image string, maxAge time.Duration) (r integrity.Remembered, encoded []byte) {
	r.MaxAge = maxAge
	ref, err := boltseal.ParseReference(image)
	if err != nil {
		r.Found.Reason = boltseal.ReasonOf(err)
		return r, nil
	}
	ctx, cancel := in.within()
	defer cancel()
	defer func(start time.Time) { in.spent.Memory += s.o.Clock().Sub(start) }(s.o.Clock())
	result, since := s.o.Memory.Verify(ctx, e, ref, maxAge)
	r.Found, r.Since = integrity.Found{Decision: result.Decision, Reason: result.Reason, Digest: result.Subject.Digest}, since
	if result.Decision != boltseal.Unknown {
		encoded = s.o.Encode(e, &result).Audit
	}
	return r, encoded
}
