package running

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	fieldManager = "boltseal"
	// writeTimeout bounds one write, or one page of a list.
	writeTimeout = 10 * time.Second
	// writesRate is how many writes are made in a second: they are in no hurry, and
	// an API server that has much to write is slow to answer.
	writesRate = 20
	// maxErrors is how many failures are told of one round of writes.
	maxErrors = 3
)

// reportResource is where reports are.
var reportResource = schema.GroupVersionResource{Group: openreports.GroupName, Version: "v1alpha1", Resource: "reports"}

// written is a report as it stands in the cluster.
type written struct {
	text  string // its content, as JSON
	since map[resultKey]metav1.Timestamp
}

// writer writes what was found, where it differs from what stands there.
type writer struct {
	a       *Auditor
	events  record.EventRecorder
	reports map[string]*written // by namespace
	listed  bool                // reports are those that are there
	absent  bool                // the cluster does not know reports
	stands  map[string]stand    // statuses, by policy
	seen    map[violation]bool  // violations that were told of
	speech  flowcontrol.RateLimiter
	pace    flowcontrol.RateLimiter
}

func newWriter(a *Auditor, events record.EventRecorder) *writer {
	return &writer{a: a, events: events, reports: map[string]*written{}, stands: map[string]stand{}, seen: map[violation]bool{},
		speech: flowcontrol.NewTokenBucketRateLimiter(eventsRate, eventsBurst), pace: flowcontrol.NewTokenBucketRateLimiter(writesRate, 1)}
}

// doubt has everything read again that stands in the cluster.
func (w *writer) doubt() {
	w.listed = false
	clear(w.stands)
}

// write writes a result.
func (w *writer) write(ctx context.Context, r *Result) error {
	errs := []error{w.list(ctx), w.statuses(ctx, r)}
	w.tell(r)
	return errors.Join(append(errs, w.writeReports(ctx, r))...)
}

// list reads the reports that are there: a replica that led before wrote them.
func (w *writer) list(ctx context.Context) error {
	if w.listed {
		return nil
	}
	reports := map[string]*written{}
	err := eachPage(func(o metav1.ListOptions) (string, error) {
		o.LabelSelector = ManagedByLabel + "=" + ManagedBy
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		list, err := w.a.dynamic.Resource(reportResource).List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			if u := &list.Items[i]; u.GetName() == ReportName {
				reports[u.GetNamespace()] = w.read(u)
			}
		}
		return list.GetContinue(), nil
	}, metav1.ListOptions{})
	switch {
	case apierrors.IsNotFound(err):
		if !w.absent {
			w.a.o.Log.Warn("the cluster does not know openreports.io/v1alpha1 Report, so that the audit's results is in the status of policies only; see docs/audit.md")
		}
		w.absent, w.listed = true, true
		return nil
	case err != nil:
		return fmt.Errorf("reports: %w", err)
	}
	if w.absent {
		w.a.o.Log.Info("the cluster knows reports now")
	}
	w.reports, w.listed, w.absent = reports, true, false
	return nil
}

// read takes from a report what is to be known of it. One that cannot be read is
// written anew.
func (w *writer) read(u *unstructured.Unstructured) *written {
	var r openreports.Report
	if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &r) != nil {
		return &written{}
	}
	for i := range r.Results {
		if one := &r.Results[i]; one.Result == "fail" || one.Result == "warn" {
			if image := one.Properties[propertyImage]; image != "" {
				w.seen[violation{u.GetNamespace(), one.Policy, image}] = true
			}
		}
	}
	return writtenOf(&r)
}

func writtenOf(r *openreports.Report) *written {
	out := &written{text: textOf(r), since: make(map[resultKey]metav1.Timestamp, len(r.Results))}
	for i := range r.Results {
		out.since[keyOfResult(&r.Results[i])] = r.Results[i].Timestamp
	}
	return out
}

// textOf is a report's content: all but what the API server adds.
func textOf(r *openreports.Report) string {
	b, err := json.Marshal(struct {
		Labels  map[string]string
		Scope   any
		Source  string
		Summary openreports.ReportSummary
		Results []openreports.ReportResult
	}{r.Labels, r.Scope, r.Source, r.Summary, r.Results})
	if err != nil {
		return "" // which is no report's
	}
	return string(b)
}

// writeReports brings the reports up to a result. Those of namespaces that are not
// looked at to the end yet stay as they are.
func (w *writer) writeReports(ctx context.Context, r *Result) error {
	if w.absent || !w.listed {
		return nil
	}
	all := reportsOf(r)
	most, now := fitBudget(all, w.a.o.ReportBytes), r.At
	var errs failures
	for _, ns := range slices.Sorted(maps.Keys(all)) {
		n, old := all[ns], w.reports[ns]
		if n.pending {
			continue
		}
		var before map[resultKey]metav1.Timestamp
		if old != nil {
			before = old.since
		}
		report := n.report(ns, most, before, now)
		next := writtenOf(report)
		if old != nil && old.text == next.text {
			continue
		}
		err := w.apply(ctx, report)
		switch {
		case err == nil:
			w.reports[ns] = next
		case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, "NamespaceTerminating"):
			continue // the namespace, or the kind, is going
		default:
			errs.add(fmt.Errorf("report of namespace %s: %w", ns, err))
		}
		w.a.metrics.wrote("report", err)
		if ctx.Err() != nil {
			return errs.join()
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(w.reports)) {
		if all[ns] != nil {
			continue
		}
		err := w.delete(ctx, ns)
		w.a.metrics.wrote("report", err)
		if err != nil {
			errs.add(fmt.Errorf("report of namespace %s: %w", ns, err))
			continue
		}
		delete(w.reports, ns)
	}
	size := 0
	for _, wr := range w.reports {
		size += len(wr.text)
	}
	w.a.metrics.reportBytes.Set(float64(size))
	return errs.join()
}

func (w *writer) apply(ctx context.Context, r *openreports.Report) error {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r)
	if err != nil {
		return err
	}
	unstructured.RemoveNestedField(object, "metadata", "creationTimestamp")
	if err := w.pace.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = w.a.dynamic.Resource(reportResource).Namespace(r.Namespace).Apply(ctx, r.Name, &unstructured.Unstructured{Object: object},
		metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}

func (w *writer) delete(ctx context.Context, namespace string) error {
	if err := w.pace.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := w.a.dynamic.Resource(reportResource).Namespace(namespace).Delete(ctx, ReportName, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// failures keeps the first errors, and counts the rest.
type failures struct {
	errs []error
	more int
}

func (f *failures) add(err error) {
	if len(f.errs) == maxErrors {
		f.more++
		return
	}
	f.errs = append(f.errs, err)
}

func (f *failures) join() error {
	if f.more > 0 {
		return errors.Join(append(f.errs, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.errs...)
}
