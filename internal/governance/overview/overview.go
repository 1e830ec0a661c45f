// Package overview lists how far clusters are with what is assigned to them: by assignment, cluster, namespace, image and component.
package overview

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

// Input is what the hub has. Names in Filter narrow it; empty ones do not.
type Input struct {
	Assignments []v1alpha1.PolicyAssignment
	Clusters    []v1alpha1.Cluster
	Bundles     []v1alpha1.ClusterBundle
	Reports     []v1alpha1.ClusterReport
	Filter      Filter
}

// Filter narrows what is listed.
type Filter struct {
	Assignment, Cluster, Namespace string
	// Image is a part of the image's name.
	Image string
	// Since leaves out components that were first seen before; zero leaves none out.
	Since time.Time
}

// Assignment is how far the clusters of one are.
type Assignment struct {
	Assignment string                   `json:"assignment"`
	Scope      string                   `json:"scope"`
	State      v1alpha1.ComplianceState `json:"state"`
	// CompliantPercent is of the clusters whose state is known, AzurePercent is what
	// Azure Policy would show.
	CompliantPercent string `json:"compliantPercent,omitempty"`
	AzurePercent     string `json:"azurePercent,omitempty"`
	Clusters         int32  `json:"clusters"`
	Compliant        int32  `json:"compliant"`
	NonCompliant     int32  `json:"nonCompliant"`
	Exempt           int32  `json:"exempt"`
	Conflict         int32  `json:"conflict"`
	Unknown          int32  `json:"unknown"`
	Error            int32  `json:"error"`
	// Pods of the clusters that reported; nil where none did.
	Pods      *v1alpha1.PodCounts `json:"pods,omitempty"`
	ChangedAt *time.Time          `json:"changedAt,omitempty"`
}

// Cluster is how far one cluster is with one definition of one assignment.
type Cluster struct {
	Cluster    string                   `json:"cluster"`
	Assignment string                   `json:"assignment"`
	Reference  string                   `json:"policyDefinitionReferenceId"`
	Effect     string                   `json:"effect"`
	State      v1alpha1.ComplianceState `json:"state"`
	Reason     string                   `json:"reason,omitempty"`
	Message    string                   `json:"message,omitempty"`
}

// Component is an image in a namespace of a cluster that does not satisfy an assignment.
type Component struct {
	Cluster    string                   `json:"cluster"`
	Namespace  string                   `json:"namespace"`
	Image      string                   `json:"image"`
	Pods       int32                    `json:"pods"`
	Pod        string                   `json:"pod"`
	Assignment string                   `json:"assignment"`
	Reference  string                   `json:"policyDefinitionReferenceId"`
	State      v1alpha1.ComplianceState `json:"state"`
	Reason     string                   `json:"reason,omitempty"`
	Message    string                   `json:"message,omitempty"`
	Signer     string                   `json:"signer,omitempty"`
	FirstSeen  time.Time                `json:"firstSeen"`
	LastSeen   time.Time                `json:"lastSeen"`
}

// Group is a namespace or an image, over all that is listed of it.
type Group struct {
	Cluster   string                   `json:"cluster,omitempty"` // of a namespace
	Name      string                   `json:"name"`
	State     v1alpha1.ComplianceState `json:"state"`
	Pods      int32                    `json:"pods"`
	Images    int                      `json:"images"`
	Clusters  int                      `json:"clusters"`
	FirstSeen time.Time                `json:"firstSeen"`
	LastSeen  time.Time                `json:"lastSeen"`
}

// Assignments returns a row for each, in order of names.
func Assignments(in Input) []Assignment {
	out := []Assignment{}
	for i := range in.Assignments {
		a := &in.Assignments[i]
		if in.Filter.Assignment != "" && a.Name != in.Filter.Assignment {
			continue
		}
		r := Assignment{Assignment: a.Name, Scope: a.Spec.Scope, State: v1alpha1.Unknown}
		if c := a.Status.Compliance; c != nil {
			changed := c.ChangedAt.Time
			r = Assignment{a.Name, a.Spec.Scope, c.State, c.CompliantPercent, c.AzurePercent, c.Clusters, c.Compliant, c.NonCompliant, c.Exempt, c.Conflict, c.Unknown, c.Error, c.Pods, &changed}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Assignment) int { return cmp.Compare(a.Assignment, b.Assignment) })
	return out
}

// Point is how far the clusters of an assignment were from some time on.
type Point struct {
	Assignment string                   `json:"assignment"`
	At         time.Time                `json:"at"`
	State      v1alpha1.ComplianceState `json:"state"`
	// CompliantPercent is of the clusters whose state was known. Compliant and Unknown
	// are nil in points of versions that did not keep them.
	CompliantPercent string `json:"compliantPercent,omitempty"`
	Clusters         int32  `json:"clusters"`
	Compliant        *int32 `json:"compliant,omitempty"`
	NonCompliant     int32  `json:"nonCompliant"`
	Unknown          *int32 `json:"unknown,omitempty"`
}

// Trend returns the points of each assignment in order of names, the oldest first.
func Trend(in Input) []Point {
	out := []Point{}
	for i := range in.Assignments {
		a := &in.Assignments[i]
		if in.Filter.Assignment != "" && a.Name != in.Filter.Assignment || a.Status.Compliance == nil {
			continue
		}
		for _, p := range a.Status.Compliance.Trend {
			out = append(out, Point{a.Name, p.At.Time, p.State, p.CompliantPercent, p.Clusters, p.Compliant, p.NonCompliant, p.Unknown})
		}
	}
	slices.SortStableFunc(out, func(a, b Point) int { return cmp.Compare(a.Assignment, b.Assignment) })
	return out
}

// Clusters returns a row for each definition that holds for each cluster. A
// cluster for which nothing holds has one row without an assignment.
func Clusters(in Input) []Cluster {
	out := []Cluster{}
	for i := range in.Clusters {
		c := &in.Clusters[i]
		if in.Filter.Cluster != "" && c.Name != in.Filter.Cluster {
			continue
		}
		if len(c.Status.Assignments) == 0 && in.Filter.Assignment == "" {
			r := Cluster{Cluster: c.Name, State: v1alpha1.Unknown, Message: "nothing is assigned to it, or the hub has not looked yet"}
			if t := c.Status.Compliance; t != nil {
				r.State, r.Message = t.State, "nothing is assigned to it"
			}
			out = append(out, r)
		}
		for _, a := range c.Status.Assignments {
			if in.Filter.Assignment == "" || a.Assignment == in.Filter.Assignment {
				out = append(out, Cluster{c.Name, a.Assignment, a.PolicyDefinitionReferenceID, a.Effect, a.State, a.Reason, a.Message})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Cluster) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return out
}

// Components returns what clusters report of what does not satisfy their
// assignments. More is how many Pods violate beside those that are named.
// Reports of clusters that are not registered are left out.
func Components(in Input) (out []Component, more int32) {
	out = []Component{}
	registered := map[string]bool{}
	for i := range in.Clusters {
		registered[in.Clusters[i].Name] = true
	}
	type key struct{ cluster, demand string }
	demands := map[key]*v1alpha1.Demand{}
	for i := range in.Bundles {
		b := &in.Bundles[i]
		for j := range b.Spec.Demands {
			demands[key{b.Name, b.Spec.Demands[j].Name}] = &b.Spec.Demands[j]
		}
	}
	f := in.Filter
	for i := range in.Reports {
		r := &in.Reports[i]
		if !registered[r.Name] || f.Cluster != "" && r.Name != f.Cluster {
			continue
		}
		for _, d := range r.Report.Demands {
			demand := demands[key{r.Name, d.Name}]
			if demand == nil || f.Assignment != "" && demand.Assignment != f.Assignment {
				continue // it is demanded no more
			}
			var named int32
			for _, c := range d.Components {
				if c.State == v1alpha1.NonCompliant {
					named += c.Pods
				}
				if f.Namespace != "" && c.Namespace != f.Namespace || !strings.Contains(c.Image, f.Image) || c.FirstSeen.Time.Before(f.Since) {
					continue
				}
				out = append(out, Component{r.Name, c.Namespace, c.Image, c.Pods, c.Pod, demand.Assignment, compliance.Reference(*demand),
					c.State, c.Reason, c.Message, c.Signer, c.FirstSeen.Time, c.LastSeen.Time})
			}
			more += max(0, d.Violations-named)
		}
	}
	slices.SortFunc(out, func(a, b Component) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Image, b.Image),
			cmp.Compare(a.Assignment, b.Assignment), cmp.Compare(a.Reference, b.Reference))
	})
	return out, more
}

// Silent returns the clusters of which nothing is known now, by name: their agents
// never reported, or not for a while. Components tells nothing of them.
func Silent(in Input) []string {
	var out []string
	for i := range in.Clusters {
		c := &in.Clusters[i]
		if in.Filter.Cluster != "" && c.Name != in.Filter.Cluster {
			continue
		}
		if slices.ContainsFunc(c.Status.Assignments, func(s v1alpha1.AssignmentState) bool {
			return (in.Filter.Assignment == "" || s.Assignment == in.Filter.Assignment) &&
				(s.Reason == compliance.ReasonNoReport || s.Reason == compliance.ReasonReportStale || s.Reason == compliance.ReasonClockSkew)
		}) {
			out = append(out, c.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Namespaces groups components by cluster and namespace.
func Namespaces(cs []Component) []Group {
	return groupComponents(cs, func(c Component) (string, string) { return c.Cluster, c.Namespace })
}

// Images groups components by image, over all clusters.
func Images(cs []Component) []Group {
	return groupComponents(cs, func(c Component) (string, string) { return "", c.Image })
}

func groupComponents(cs []Component, of func(Component) (cluster, name string)) []Group {
	type id struct{ cluster, name string }
	type place struct{ cluster, namespace, image string }
	type group struct {
		states   []v1alpha1.ComplianceState
		images   map[string]bool
		clusters map[string]bool
		pods     map[place]int32 // what several assignments report of is counted once
		Group
	}
	all := map[id]*group{}
	for _, c := range cs {
		cluster, name := of(c)
		g := all[id{cluster, name}]
		if g == nil {
			g = &group{images: map[string]bool{}, clusters: map[string]bool{}, pods: map[place]int32{}, Group: Group{Cluster: cluster, Name: name, FirstSeen: c.FirstSeen, LastSeen: c.LastSeen}}
			all[id{cluster, name}] = g
		}
		g.states = append(g.states, c.State)
		g.images[c.Image], g.clusters[c.Cluster] = true, true
		at := place{c.Cluster, c.Namespace, c.Image}
		g.pods[at] = max(g.pods[at], c.Pods)
		if c.FirstSeen.Before(g.FirstSeen) {
			g.FirstSeen = c.FirstSeen
		}
		if c.LastSeen.After(g.LastSeen) {
			g.LastSeen = c.LastSeen
		}
	}
	out := []Group{}
	for _, g := range all {
		g.State, g.Images, g.Clusters = compliance.RollUp(g.states...), len(g.images), len(g.clusters)
		for _, n := range g.pods {
			g.Pods += n
		}
		out = append(out, g.Group)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Pods, a.Pods), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
	})
	return out
}
