package controller

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
)

// Limits on what a status says.
const (
	maxError = 4 << 10
	maxBrief = 100
)

// ConditionReady says whether a resource is in force as it is written.
const ConditionReady = "Ready"

// Reasons of ConditionReady.
const (
	ReasonInForce  = "InForce"
	ReasonLastGood = "LastGoodInForce"
	ReasonReduced  = "CertificatesMissing"
	ReasonDenying  = "Denying"
	ReasonBroken   = "Broken"
)

// verdict is a standing in words.
type verdict struct {
	ready                  bool
	reason, message, error string
}

func evaluateStanding(key compile.Key, st *compile.Standing) verdict {
	if st.OK() {
		message := "applied as it is written"
		for _, w := range st.Warnings {
			message += "\n" + w.Error()
		}
		return verdict{ready: true, reason: ReasonInForce, message: truncateText(message, maxError)}
	}
	v := verdict{error: truncateText(st.Problems.Error(), maxError)}
	var now string
	switch {
	case st.Serving == compile.ServingLastGood:
		v.reason, now = ReasonLastGood, "Until this is fixed, the last version of the resource that worked still applies."
		if isProvider(key) && st.Fetched != nil && st.Fetched.Content != nil {
			now = "Until this is fixed, the certificates that were fetched last are still used."
		}
	case st.Serving == compile.ServingReduced:
		v.reason, now = ReasonReduced, "Until this is fixed, only signatures by the certificates that exist are trusted."
	case strings.HasSuffix(key.Kind, v1alpha1.KindImageIntegrityPolicy):
		v.reason, now = ReasonDenying, "Until this is fixed, what is wrong is read as the strictest that could be meant."
	case isProvider(key):
		v.reason, now = ReasonBroken, "Until this is fixed, it provides no certificates."
	default:
		v.reason, now = ReasonDenying, "Until this is fixed, what it is to check is not trusted."
	}
	v.message = truncateText(v.error, maxError-len(now)-1) + "\n" + now
	return v
}

func isProvider(key compile.Key) bool {
	return strings.HasSuffix(key.Kind, v1beta1.KindKeyManagementProvider) || key.Kind == v1beta1.KindCertificateStore
}

// truncateText cuts a text to at most most bytes.
func truncateText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const end = "…"
	return strings.ToValidUTF8(s[:most-len(end)], "") + end
}

// report is what is to stand in a resource's status.
type report struct {
	key      compile.Key
	version  version
	verdict  verdict
	provider bool
	props    *runtime.RawExtension
	fetched  time.Time // when the certificates were read; zero = not
	remote   bool      // they come from elsewhere
	content  *keys.Content
	expiring string // which of them are not valid, or not for long
}

// status writes the report as a status, given the one that stands there: times
// are kept where nothing else changed. changed is false where nothing is to be
// written.
func (r *report) status(old map[string]any, now time.Time) (status map[string]any, changed bool, err error) {
	condition := metav1.Condition{Type: ConditionReady, Status: metav1.ConditionFalse, Reason: r.verdict.reason, Message: r.verdict.message,
		ObservedGeneration: r.version.generation, LastTransitionTime: metav1.NewTime(now)}
	if r.verdict.ready {
		condition.Status = metav1.ConditionTrue
	}
	var typed any
	if groupVersion(r.key.Kind) == v1alpha1.GroupVersion {
		st := v1alpha1.ImageIntegrityPolicyStatus{ObservedGeneration: r.version.generation}
		st.Conditions = readConditions(old)
		meta.SetStatusCondition(&st.Conditions, condition)
		typed = &st
	} else {
		st := v1beta1.ProviderStatus{Status: v1beta1.Status{IsSuccess: r.verdict.ready, Error: r.verdict.error, BriefError: truncateText(firstLine(r.verdict.error), maxBrief)}}
		st.Conditions = readConditions(old)
		meta.SetStatusCondition(&st.Conditions, condition)
		if r.provider {
			r.expiryCondition(&st.Conditions, now)
			st.Properties = r.props
			if !r.fetched.IsZero() {
				t := metav1.NewTime(r.fetched)
				st.LastFetchedTime = &t
			}
		}
		typed = &st
	}
	if status, err = runtime.DefaultUnstructuredConverter.ToUnstructured(typed); err != nil {
		return nil, false, fmt.Errorf("status of %s: %w", r.key, err)
	}
	if fetched, ok := old[fetchedField]; ok && r.provider && !r.remote && !r.fetched.IsZero() {
		// Only a version of the resource that was not read before is a new reading.
		if c := meta.FindStatusCondition(readConditions(old), ConditionReady); c != nil && c.ObservedGeneration == r.version.generation {
			status[fetchedField] = fetched
		}
	}
	return status, !sameStatus(old, status), nil
}

const fetchedField = "lastfetchedtime"

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// readConditions reads the conditions of a status; what cannot be read is written anew.
func readConditions(status map[string]any) []metav1.Condition {
	var st v1beta1.Status
	if status == nil || runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"conditions": status["conditions"]}, &st) != nil {
		return nil
	}
	return st.Conditions
}

// sameStatus compares statuses as JSON has them.
func sameStatus(a, b map[string]any) bool {
	normal := func(m map[string]any) (out map[string]any) {
		data, err := json.Marshal(m)
		if err != nil || json.Unmarshal(data, &out) != nil {
			return nil
		}
		return out
	}
	return reflect.DeepEqual(normal(a), normal(b))
}

// patch is the JSON merge patch (RFC 7386) from one status to the other. It
// applies to the resource with the given identity only.
func (r *report) patch(old, status map[string]any) ([]byte, error) {
	fields := make(map[string]any, len(status))
	for k, v := range status {
		fields[k] = v
	}
	for k := range old {
		if _, ok := fields[k]; !ok {
			fields[k] = nil
		}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": r.version.uid}, "status": fields})
}
