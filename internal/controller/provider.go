package controller

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
)

// ConditionExpiring says whether certificates have expired, or will soon.
const ConditionExpiring = "CertificatesExpiring"

// Reasons of ConditionExpiring.
const (
	ReasonExpiring = "CertificateExpires"
	ReasonValid    = "CertificatesValid"
)

// Limits on what a provider's status says.
const (
	maxCertificates = 20
	maxItems        = 20
	maxExpiring     = 5
	maxText         = 500
)

// minFetched is how often at most the time of fetching alone is written.
const minFetched = time.Minute

// certificate is what a provider's status tells of one.
type certificate struct {
	// Name and Version are what whoever keeps it calls it; "" for an inline one.
	Name         string      `json:"name,omitempty"`
	Version      string      `json:"version,omitempty"`
	Subject      string      `json:"subject"`
	Issuer       string      `json:"issuer"`
	SerialNumber string      `json:"serialNumber"` // hexadecimal
	NotBefore    metav1.Time `json:"notBefore"`
	NotAfter     metav1.Time `json:"notAfter"`
	Fingerprint  string      `json:"sha256"`
}

// item is what a provider's status tells of what is not in use, or deserves a look.
type item struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Use     string `json:"use"`
	Why     string `json:"why,omitempty"`
}

// properties are those of a provider's status.
type properties struct {
	Certificates []certificate `json:"certificates,omitempty"`
	// Count is how many are in use; the list is bounded.
	Count int `json:"count"`
	// EarliestExpiry is when the first of them expires.
	EarliestExpiry *metav1.Time `json:"earliestExpiry,omitempty"`
	Items          []item       `json:"items,omitempty"`
}

func (p *properties) add(name, version string, c *x509.Certificate) {
	p.Count++
	if p.EarliestExpiry == nil || c.NotAfter.Before(p.EarliestExpiry.Time) {
		t := metav1.NewTime(c.NotAfter)
		p.EarliestExpiry = &t
	}
	if len(p.Certificates) == maxCertificates {
		return
	}
	sum := sha256.Sum256(c.Raw)
	p.Certificates = append(p.Certificates, certificate{truncateText(name, maxText), truncateText(version, maxText), truncateText(c.Subject.String(), maxText), truncateText(c.Issuer.String(), maxText),
		c.SerialNumber.Text(16), metav1.NewTime(c.NotBefore), metav1.NewTime(c.NotAfter), hex.EncodeToString(sum[:])})
}

func (p *properties) encode() (*runtime.RawExtension, error) {
	if p.Count == 0 && len(p.Items) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(p)
	return &runtime.RawExtension{Raw: b}, err
}

func propertiesOf(certs []*x509.Certificate) (*runtime.RawExtension, error) {
	var p properties
	for _, c := range certs {
		p.add("", "", c)
	}
	return p.encode()
}

// fetchedProperties are those of what was fetched.
func fetchedProperties(content *keys.Content) (*runtime.RawExtension, error) {
	var p properties
	anchors := map[string]bool{}
	for _, c := range content.Certificates() {
		anchors[string(c.Raw)] = true
	}
	for _, g := range content.Groups {
		for _, it := range g.Items {
			if (it.Use != keys.InUse || it.Why != "") && len(p.Items) < maxItems {
				p.Items = append(p.Items, item{truncateText(it.Name, maxText), truncateText(it.Version, maxText), string(it.Use), truncateText(it.Why, maxText)})
			}
			if it.Use != keys.InUse {
				continue
			}
			for _, c := range it.Certificates {
				if anchors[string(c.Raw)] {
					delete(anchors, string(c.Raw)) // it is told once
					p.add(it.Name, it.Version, c)
				}
			}
		}
	}
	return p.encode()
}

// provided fills in what a provider's report tells besides its verdict, given the
// report before.
func (r *report) provided(st *compile.Standing, old *report, now time.Time) {
	r.provider = true
	for i, text := range st.Expiring {
		if i == maxExpiring {
			r.expiring += "\n…"
			break
		}
		if i > 0 {
			r.expiring += "\n"
		}
		r.expiring += text
	}
	if st.Fetched != nil {
		r.remote, r.fetched, r.content = true, st.Fetched.Fetched, st.Fetched.Content
		switch {
		case r.content == nil:
		case old != nil && old.content == r.content:
			r.props = old.props
		default:
			if props, err := fetchedProperties(r.content); err == nil {
				r.props = props
			}
		}
		return
	}
	if len(st.Certificates) == 0 {
		return
	}
	r.fetched = now
	if old != nil && !old.fetched.IsZero() && (old.version == r.version || st.Serving == compile.ServingLastGood) {
		r.fetched, r.props = old.fetched, old.props
	} else if props, err := propertiesOf(st.Certificates); err == nil {
		r.props = props
	}
}

// expiryCondition brings the condition up to the report. It stands there only where
// there was ever something to tell.
func (r *report) expiryCondition(conditions *[]metav1.Condition, now time.Time) {
	c := metav1.Condition{Type: ConditionExpiring, Status: metav1.ConditionTrue, Reason: ReasonExpiring, Message: truncateText(r.expiring, maxError),
		ObservedGeneration: r.version.generation, LastTransitionTime: metav1.NewTime(now)}
	if r.expiring == "" {
		if meta.FindStatusCondition(*conditions, ConditionExpiring) == nil {
			return
		}
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, ReasonValid, "no certificate expires within 30 days"
	}
	meta.SetStatusCondition(conditions, c)
}

// fetched takes in when what a provider has was last confirmed.
func (w *writer) fetched(key compile.Key, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.reports[key]
	if old == nil || !old.remote || !old.verdict.ready || at.Sub(old.fetched) < minFetched {
		return
	}
	r := *old
	r.fetched = at
	w.reports[key], w.open[key] = &r, true
	w.poke()
}
