// Package observe tells from what engines say of themselves how a cluster stands with each demand, bounded for a report.
package observe

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent/apply"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/running"
)

// Limits on what is told.
const (
	// MaxReportBytes bounds a report as JSON, so that those of 100 clusters are a
	// small part of what an etcd holds.
	MaxReportBytes = 96 << 10
	// MaxComponents of one demand.
	MaxComponents = 100
	maxImage      = 512
	maxNamespace  = 63
	maxPod        = 253
	maxComponent  = 256 // bytes of a component's message
	maxSigner     = 512
)

// Reasons of states, beside those of render, apply and compliance.
const (
	ReasonNotProcessed = "ConstraintNotProcessed" // the engine did not look at it yet
	ReasonStale        = "ConstraintStatusStale"  // the engine looked last too long ago
	ReasonExempt       = "Exempt"
)

// AuditStaleAfter is how old Gatekeeper's last audit may be.
const AuditStaleAfter = time.Hour

const (
	// lookEvery is how often Pods are counted and reports are read at most.
	lookEvery = 3 * time.Second
	timeout   = 10 * time.Second
	pageSize  = 500
	// maxSightings are remembered over a restart, each until forgetAfter it was seen last.
	maxSightings = 5000
	forgetAfter  = 25 * time.Hour
	// maxResults bounds the results that are read of all reports.
	maxResults = 50_000
)

// Options make an Observer.
type Options struct {
	// Dynamic is the way to the cluster. Required.
	Dynamic dynamic.Interface
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Observer tells how a cluster stands. It is for one goroutine at a time.
type Observer struct {
	o       Options
	memory  map[seen]Sighting
	looked  time.Time
	reached time.Time
	pods    int32
	news    bool                            // something was seen for the first time since Memory was asked
	found   map[string][]v1alpha1.Component // by policy, from reports
}

// seen is a component of a demand.
type seen struct{ demand, namespace, image string }

// Sighting is when a component of a demand was seen.
type Sighting struct {
	Demand    string    `json:"d"`
	Namespace string    `json:"n"`
	Image     string    `json:"i"`
	First     time.Time `json:"f"`
	Last      time.Time `json:"l"` // to the hour
}

// New makes an Observer that remembers what was seen before.
func New(o Options, before []Sighting) *Observer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	ob := &Observer{o: o, memory: map[seen]Sighting{}}
	for _, s := range before[:min(maxSightings, len(before))] {
		ob.memory[seen{s.Demand, s.Namespace, s.Image}] = s
	}
	return ob
}

// Memory is what is to be remembered, newest first: what was not seen for a while
// is forgotten.
func (ob *Observer) Memory() []Sighting {
	ob.news = false
	out := make([]Sighting, 0, len(ob.memory))
	for _, s := range ob.memory {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Sighting) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Demand, b.Demand), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Image, b.Image))
	})
	return out[:min(maxSightings, len(out))]
}

// News tells whether something was seen for the first time since Memory was asked.
func (ob *Observer) News() bool { return ob.news }

// Observation is how a cluster stands.
type Observation struct {
	Pods    int32
	Demands []v1alpha1.DemandReport
	// Again is when to look again although nothing is told to have changed; zero
	// means never.
	Again time.Time
	// Reached is when the cluster answered last; zero means that it never did.
	Reached time.Time
}

// Observe tells how the cluster stands with each demand.
func (ob *Observer) Observe(ctx context.Context, r *apply.Result) Observation {
	now := ob.o.Clock()
	var out Observation
	if namesFewer(r) || now.Sub(ob.looked) >= lookEvery || now.Before(ob.looked) {
		if now.Sub(ob.looked) < lookEvery && !now.Before(ob.looked) {
			out.Again = ob.looked.Add(lookEvery)
		} else {
			ob.look(ctx, r)
			ob.looked = now
		}
	}
	var sum, most int64
	for i := range r.Standings {
		s := &r.Standings[i]
		d := ob.demand(r, s, now)
		ob.date(&d, now)
		sum, most = sum+int64(d.Pods), max(most, int64(d.Pods))
		out.Demands = append(out.Demands, d)
	}
	for k, s := range ob.memory {
		if now.Sub(s.Last) > forgetAfter {
			delete(ob.memory, k)
		}
	}
	out.Reached = ob.reached
	if r.Engine == v1alpha1.EngineGatekeeper {
		// Gatekeeper does not say how many it looked at: all.
		sum, most = int64(ob.pods), int64(ob.pods)
		for _, d := range out.Demands {
			most = max(most, int64(d.Violations))
		}
	}
	out.Pods = int32(max(most, min(sum, int64(ob.pods))))
	return out
}

// namesFewer tells whether statuses name fewer violations than there are.
func namesFewer(r *apply.Result) bool {
	for i := range r.Standings {
		if a := auditOf(r.Standings[i].Live); a != nil && (int(a.ViolatingImages) > len(a.First) || a.Unknown > 0 || a.ExemptOtherwise > 0) {
			return true
		}
	}
	return false
}

// demand is how one demand stands, with components that have no times yet.
func (ob *Observer) demand(r *apply.Result, s *apply.Standing, now time.Time) v1alpha1.DemandReport {
	d := v1alpha1.DemandReport{Name: s.Demand, State: v1alpha1.Unknown}
	switch {
	case s.Reason == render.ConstraintTemplateConflicts || s.Reason == apply.PolicyNameConflicts:
		d.State, d.Reason, d.Message = v1alpha1.Conflict, string(s.Reason), s.Message
	case s.Reason != "":
		d.State, d.Reason, d.Message = v1alpha1.Failed, string(s.Reason), s.Message
	case s.Live == nil || !s.Current:
		d.Reason, d.Message = ReasonNotProcessed, "it is being put in place"
	case r.Engine == v1alpha1.EngineGatekeeper:
		ob.gatekeeper(&d, s, now)
	default:
		ob.boltseal(&d, s)
	}
	if len(s.Refused) > 0 && d.Message == "" {
		f := s.Refused[0]
		d.Message = fmt.Sprintf("exemption %s is not honoured: %s", f.Exemption, f.Message)
	}
	if s.Exempt && d.State != v1alpha1.Conflict && d.State != v1alpha1.Failed {
		d.State, d.Reason, d.Exempt, d.Violations = v1alpha1.Exempt, ReasonExempt, d.Exempt+d.Violations, 0
		if d.Message == "" {
			d.Message = "the cluster is exempt by " + strings.Join(s.Honoured, ", ")
		}
		for i := range d.Components {
			if d.Components[i].State == v1alpha1.NonCompliant {
				d.Components[i].State = v1alpha1.Exempt
			}
		}
	}
	d.Reason, d.Message = truncateText(d.Reason, compliance.MaxReason), truncateText(d.Message, compliance.MaxMessage)
	return d
}

// evaluateState derives the state of a demand whose counts are known.
func evaluateState(d *v1alpha1.DemandReport) {
	switch {
	case d.Violations > 0:
		d.State, d.Reason, d.Message = v1alpha1.NonCompliant, compliance.ReasonPodsViolate, fmt.Sprintf("%d Pods run images that are not trusted", d.Violations)
	case d.Unknown > 0:
		d.State, d.Reason, d.Message = v1alpha1.Unknown, compliance.ReasonPodsUnknown, fmt.Sprintf("%d Pods could not be checked yet", d.Unknown)
	default:
		d.State = v1alpha1.Compliant
	}
}

// date gives components their times, and keeps the first by namespace and image.
func (ob *Observer) date(d *v1alpha1.DemandReport, now time.Time) {
	slices.SortFunc(d.Components, func(a, b v1alpha1.Component) int {
		return cmp.Or(cmp.Compare(stateRank(a.State), stateRank(b.State)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Image, b.Image), cmp.Compare(a.Reason, b.Reason))
	})
	d.Components = slices.CompactFunc(d.Components, func(a, b v1alpha1.Component) bool {
		return a.State == b.State && a.Namespace == b.Namespace && a.Image == b.Image && a.Reason == b.Reason
	})
	nameFirst(d, MaxComponents)
	for i := range d.Components {
		c := &d.Components[i]
		c.Namespace, c.Image, c.Pod = truncateText(c.Namespace, maxNamespace), truncateText(c.Image, maxImage), truncateText(c.Pod, maxPod)
		c.Reason, c.Message = truncateText(c.Reason, compliance.MaxReason), truncateText(c.Message, maxComponent)
		c.Signer = truncateText(c.Signer, maxSigner)
		k := seen{d.Name, c.Namespace, c.Image}
		m, ok := ob.memory[k]
		if !ok || m.First.IsZero() || m.First.After(now) {
			m = Sighting{d.Name, c.Namespace, c.Image, c.FirstSeen.Time, time.Time{}}
			if m.First.IsZero() || m.First.After(now) {
				m.First = now.UTC().Truncate(time.Second)
			}
			ob.news = true
		}
		if m.Last = now.UTC().Truncate(time.Hour); m.Last.Before(m.First) {
			m.Last = m.First
		}
		c.FirstSeen, c.LastSeen, ob.memory[k] = metav1.NewTime(m.First), metav1.NewTime(m.Last), m
	}
}

func stateRank(s v1alpha1.ComplianceState) int {
	return slices.Index([]v1alpha1.ComplianceState{v1alpha1.NonCompliant, v1alpha1.Exempt, v1alpha1.Unknown}, s)
}

func truncateText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// look counts the Pods, and reads reports where statuses do not name everything.
// What cannot be looked at stays as it was.
func (ob *Observer) look(ctx context.Context, r *apply.Result) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// One Pod of a list brings the number of all others.
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	list, err := ob.o.Dynamic.Resource(pods).List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil {
		n := int64(len(list.Items))
		if rest := list.GetRemainingItemCount(); rest != nil {
			n += *rest
		}
		ob.pods, ob.reached = int32(min(n, maxCount)), ob.o.Clock()
	} else if apierrors.IsForbidden(err) {
		ob.reached = ob.o.Clock()
	} else if ctx.Err() == nil {
		ob.o.Log.Debug("Pods could not be counted", "error", err.Error())
	}
	if !namesFewer(r) {
		ob.found = nil
		return
	}
	if found, err := ob.reports(ctx); err == nil {
		ob.found = found
	} else if ctx.Err() == nil {
		ob.o.Log.Debug("reports could not be read, so that the first violations alone are named", "error", err.Error())
	}
}

// reports reads what the audit wrote of images that are not trusted.
func (ob *Observer) reports(ctx context.Context) (map[string][]v1alpha1.Component, error) {
	out := map[string][]v1alpha1.Component{}
	gvr := schema.GroupVersionResource{Group: openreports.GroupName, Version: "v1alpha1", Resource: "reports"}
	o := metav1.ListOptions{Limit: pageSize, LabelSelector: running.ManagedByLabel + "=" + running.ManagedBy}
	for n := 0; ; {
		list, err := ob.o.Dynamic.Resource(gvr).List(ctx, o)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			var rep openreports.Report
			if list.Items[i].GetName() != running.ReportName || runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &rep) != nil {
				continue
			}
			for k := range rep.Results {
				if n++; n > maxResults {
					return out, nil
				}
				c, ok := componentOf(rep.Namespace, &rep.Results[k])
				if policy := rep.Results[k].Policy; ok {
					out[policy] = addComponent(out[policy], c)
				}
			}
		}
		if o.Continue = list.GetContinue(); o.Continue == "" {
			return out, nil
		}
	}
}

// addComponent adds what one workload runs to what others of its namespace run of
// the same image: all, which has 2 * MaxComponents at the most.
func addComponent(all []v1alpha1.Component, c v1alpha1.Component) []v1alpha1.Component {
	i := slices.IndexFunc(all, func(o v1alpha1.Component) bool {
		return o.State == c.State && o.Namespace == c.Namespace && o.Image == c.Image && o.Reason == c.Reason
	})
	switch {
	case i >= 0:
		all[i].Pods += c.Pods
		if !c.FirstSeen.IsZero() && c.FirstSeen.Before(&all[i].FirstSeen) {
			all[i].FirstSeen = c.FirstSeen
		}
	case len(all) < 2*MaxComponents:
		all = append(all, c)
	}
	return all
}

// componentOf reads one result of a report of the audit (see internal/running).
func componentOf(namespace string, r *openreports.ReportResult) (v1alpha1.Component, bool) {
	c := v1alpha1.Component{Namespace: namespace, Image: r.Properties["image"], State: v1alpha1.NonCompliant, Reason: r.Properties["cause"], Message: r.Description, Signer: r.Properties["signer"]}
	switch r.Result {
	case "fail", "warn":
	case "error":
		c.State = v1alpha1.Unknown
	case "skip":
		c.State = v1alpha1.Exempt
	default:
		return c, false
	}
	if c.Image == "" {
		return c, false // it stands for many
	}
	if n, err := strconv.ParseInt(r.Properties["pods"], 10, 32); err == nil {
		c.Pods = int32(n)
	}
	if len(r.Subjects) > 0 {
		if c.Pod = r.Subjects[0].Name; r.Subjects[0].Kind != "Pod" {
			c.Pod = r.Subjects[0].Kind + "/" + c.Pod
		}
	}
	if r.Timestamp.Seconds > 0 {
		c.FirstSeen = metav1.NewTime(time.Unix(r.Timestamp.Seconds, 0).UTC())
	}
	return c, true
}
