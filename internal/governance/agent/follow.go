package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

const (
	// firstBackOff and mostBackOff bound the pause before a request that failed is
	// tried again; it doubles, and is drawn from its upper half.
	firstBackOff = 250 * time.Millisecond
	mostBackOff  = 10 * time.Second
	// hubTimeout bounds one request at the hub that is no watch.
	hubTimeout = 10 * time.Second
	// watchSeconds is how long one watch lasts, before all is read anew.
	watchSeconds = 300
)

// backOff is how long to wait before what failed is tried again.
type backOff struct{ next time.Duration }

func (b *backOff) reset() { b.next = 0 }

func (b *backOff) step() time.Duration {
	b.next = min(max(firstBackOff, 2*b.next), mostBackOff)
	return b.next/2 + rand.N(b.next/2)
}

func (b *backOff) wait(ctx context.Context) { sleepContext(ctx, b.step()) }

func sleepContext(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// follower watches the one bundle. Rights that are bound to a name cover requests
// with this field selector (Kubernetes, RBAC, "Referring to resources").
type follower struct {
	resource dynamic.ResourceInterface
	name     string
	// tell is told of the bundle whenever it may have changed; nil means that the
	// hub answered, and has none.
	tell func(*v1alpha1.ClusterBundle)
	// failed is told why the hub does not answer, and nil when it does.
	failed func(error)
}

func (f *follower) run(ctx context.Context) {
	var pause backOff
	for ctx.Err() == nil {
		version, err := f.list(ctx)
		if err == nil {
			f.failed(nil)
			pause.reset()
			err = f.watch(ctx, version)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		f.failed(err)
		pause.wait(ctx)
	}
}

func (f *follower) list(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	list, err := f.resource.List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", f.name).String()})
	if err != nil {
		return "", err
	}
	found := false
	for i := range list.Items {
		if u := &list.Items[i]; u.GetName() == f.name {
			if err := f.read(u); err != nil {
				return "", err
			}
			found = true
		}
	}
	if !found {
		f.tell(nil)
	}
	return list.GetResourceVersion(), nil
}

// read tells of a bundle as it came from the hub.
func (f *follower) read(u *unstructured.Unstructured) error {
	b := &v1alpha1.ClusterBundle{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, b); err != nil {
		return fmt.Errorf("the bundle cannot be read: %w", err)
	}
	f.tell(b)
	return nil
}

func (f *follower) watch(ctx context.Context, version string) error {
	seconds := int64(watchSeconds)
	w, err := f.resource.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", f.name).String(),
		ResourceVersion: version, TimeoutSeconds: &seconds, AllowWatchBookmarks: true})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.ResultChan():
			if !ok {
				return nil // its time is over, or the hub is; the list tells
			}
			switch u, _ := e.Object.(*unstructured.Unstructured); {
			case e.Type == watch.Error:
				err := apierrors.FromObject(e.Object)
				if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
					return nil
				}
				return err
			case u == nil:
				return errors.New("the hub sent something that is no object")
			case e.Type == watch.Bookmark || u.GetName() != f.name:
			case e.Type == watch.Deleted:
				f.tell(nil)
			default:
				if err := f.read(u); err != nil {
					return err
				}
			}
		}
	}
}

// MaxHubResponse bounds what is read of one answer of the hub that is no watch; of
// a watch client-go bounds each event. An API server stores far less.
const MaxHubResponse = 16 << 20

// bounded is a way to the hub on which no answer is endless.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil && r.URL.Query().Get("watch") == "" {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, MaxHubResponse), resp.Body}
	}
	return resp, err
}
