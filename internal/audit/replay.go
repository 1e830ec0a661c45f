package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/policy"
)

// Limits on what is read back.
const (
	MaxLineBytes = 8 << 20
	maxImages    = 20_000
)

// ErrNotFound: no line has the ID.
var ErrNotFound = errors.New("no decision and no evidence of this ID")

// Case is a recorded decision with the evidence of its images, by ID. Decision
// is nil where evidence alone was asked for.
type Case struct {
	Decision *Decision
	Evidence map[string]*Evidence
}

// Find reads lines and returns the case of an ID; "" is the last decision. Lines
// of other programs in between are passed over. Evidence that a decision names
// and that is not there is missing from the case.
func Find(r io.ReadSeeker, id string) (*Case, error) {
	c := &Case{Evidence: map[string]*Evidence{}}
	err := eachLine(r, func(kind, lineID string, line []byte) error {
		switch {
		case kind == KindDecision && (id == "" || lineID == id):
			var d Decision
			if err := json.Unmarshal(line, &d); err != nil {
				return fmt.Errorf("decision %s: %w", lineID, err)
			}
			for i := range d.Images {
				if img := &d.Images[i]; img.Digest == "" && img.Decision != Excluded {
					_, img.Digest, _ = strings.Cut(img.Image, "@")
				}
			}
			c.Decision = &d
		case kind == KindEvidence && id != "" && lineID == id:
			return c.add(line)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.Decision == nil {
		if len(c.Evidence) == 0 {
			return nil, ErrNotFound
		}
		return c, nil
	}
	return c, c.gather(r)
}

// gather collects the evidence that the decision names.
func (c *Case) gather(r io.ReadSeeker) error {
	wanted := map[string]bool{}
	for i, img := range c.Decision.Images {
		switch {
		case i >= maxImages:
			return fmt.Errorf("the decision is about more than %d images", maxImages)
		case len(img.Inline) > 0:
			if err := c.add(img.Inline); err != nil {
				return err
			}
		case img.Evidence != "":
			wanted[img.Evidence] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return eachLine(r, func(kind, id string, line []byte) error {
		if kind == KindEvidence && wanted[id] {
			return c.add(line)
		}
		return nil
	})
}

func (c *Case) add(line []byte) error {
	var ev Evidence
	if err := json.Unmarshal(line, &ev); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	c.Evidence[ev.ID] = &ev
	return nil
}

func eachLine(r io.Reader, each func(kind, id string, line []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), MaxLineBytes)
	for s.Scan() {
		var head struct{ Kind, ID string }
		if len(s.Bytes()) == 0 || s.Bytes()[0] != '{' || json.Unmarshal(s.Bytes(), &head) != nil || head.ID == "" {
			continue
		}
		if err := each(head.Kind, head.ID, s.Bytes()); err != nil {
			return err
		}
	}
	return s.Err()
}

// Replay is a recorded result, decided again from its evidence.
type Replay struct {
	Decision boltseal.Decision `json:"decision"`
	Reason   boltseal.Reason   `json:"reason"`
	// Agrees tells whether the recorded decision is the same.
	Agrees bool `json:"agrees"`
	// Changes say what would have led to another decision.
	Changes []Change `json:"changes,omitempty"`
}

// Change is something that would have led to another decision.
type Change struct {
	What string            `json:"what"`
	To   boltseal.Decision `json:"to"`
	How  string            `json:"how,omitempty"`
}

// Replay decides again. It uses the record alone: no network, no clock, and not
// today's configuration.
func (e *Evidence) Replay() (Replay, error) {
	r := &e.Result
	if e.Policy == nil || r.Failure != (boltseal.Reason{}) || r.Subject.Digest == "" {
		re := Replay{Decision: r.Decision, Reason: r.Reason, Agrees: r.Decision != boltseal.Allow}
		if re.Agrees {
			re.Changes = []Change{{What: "if its signatures can be checked; this prevented it: " + r.Reason.Message, To: boltseal.Unknown, How: r.Reason.Remedy}}
		}
		return re, nil
	}
	p, err := policy.New(*e.Policy)
	if err != nil {
		return Replay{}, err
	}
	re := Replay{}
	re.Decision, re.Reason = p.Decide(&r.Findings)
	re.Agrees = re.Decision == r.Decision
	if re.Decision == boltseal.Allow {
		re.Changes = fragileEvidence(p, r.Findings)
	} else {
		re.Changes = missingEvidence(p, r.Findings, re.Reason)
	}
	return re, nil
}

// fragileEvidence lists the evidence that an allow hangs on.
func fragileEvidence(p boltseal.Policy, f boltseal.Findings) (changes []Change) {
	for i, ev := range numberedEvidence(&f) {
		if ev.Outcome != boltseal.Verified {
			continue
		}
		if d := decideWith(p, f, map[int]boltseal.Outcome{i: boltseal.Rejected}); d != boltseal.Allow {
			changes = append(changes, Change{What: "without " + signatureName(ev), To: d, How: lastsUntil(ev)})
		}
	}
	return changes
}

// missingEvidence lists what would have made a denial an allow: one signature by itself
// where that is enough, otherwise all of them.
func missingEvidence(p boltseal.Policy, f boltseal.Findings, why boltseal.Reason) (changes []Change) {
	all := map[int]boltseal.Outcome{}
	for i, ev := range numberedEvidence(&f) {
		if ev.Outcome == boltseal.Verified {
			continue
		}
		all[i] = boltseal.Verified
		if decideWith(p, f, map[int]boltseal.Outcome{i: boltseal.Verified}) == boltseal.Allow {
			changes = append(changes, Change{What: "if " + signatureName(ev) + " were trusted; it is not: " + ev.Reason.Message, To: boltseal.Allow, How: ev.Reason.Remedy})
		}
	}
	if len(changes) > 0 {
		return changes
	}
	if len(all) > 0 && decideWith(p, f, all) == boltseal.Allow {
		return []Change{{What: fmt.Sprintf("if all %d signatures that are not trusted were trusted", len(all)), To: boltseal.Allow, How: why.Remedy}}
	}
	return []Change{{What: "if what the policy requires existed; this is missing: " + why.Message, To: boltseal.Allow, How: why.Remedy}}
}

func decideWith(p boltseal.Policy, f boltseal.Findings, outcomes map[int]boltseal.Outcome) boltseal.Decision {
	f.Evidence = slices.Clone(f.Evidence)
	if f.Index != nil {
		index := *f.Index
		index.Manifests = slices.Clone(index.Manifests)
		for i := range index.Manifests {
			index.Manifests[i].Evidence = slices.Clone(index.Manifests[i].Evidence)
		}
		f.Index = &index
	}
	for i, ev := range numberedEvidence(&f) {
		if o, ok := outcomes[i]; ok {
			ev.Outcome = o
		}
	}
	d, _ := p.Decide(&f)
	return d
}

// numberedEvidence yields all evidence with its place.
func numberedEvidence(f *boltseal.Findings) iter.Seq2[int, *boltseal.Evidence] {
	return func(yield func(int, *boltseal.Evidence) bool) {
		i := 0
		for ev := range f.AllEvidence {
			if !yield(i, ev) {
				return
			}
			i++
		}
	}
}

func signatureName(ev *boltseal.Evidence) string {
	s := "the signature " + shortDigest(ev.Referrer.String())
	if ev.Signer != nil {
		s += " by " + ev.Signer.Subject
	}
	return s
}

func shortDigest(d string) string {
	if len(d) > 19 {
		return d[:19] + "…"
	}
	return d
}

func lastsUntil(ev *boltseal.Evidence) string {
	if ev.ValidUntil.IsZero() {
		return ""
	}
	return "that signature is valid until " + ev.ValidUntil.Format(time.RFC3339)
}
