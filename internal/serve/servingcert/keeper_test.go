package servingcert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal/internal/test/testwait"
)

const (
	testNamespace = "boltseal-system"
	testSecret    = "boltseal-serving"
)

var secretKey = client.ObjectKey{Namespace: testNamespace, Name: testSecret}

// newClient is an API server's memory, which refuses what is written over a newer version as a real one does.
func newClient(t testing.TB) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	return fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).
		WithIndex(&corev1.Secret{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }).Build()
}

func read(t testing.TB, c client.Client) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	if err := c.Get(context.Background(), secretKey, s); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	return s
}

// world is a cluster in which time passes when the test says so.
type world struct {
	t       testing.TB
	client  client.WithWatch
	now     time.Time
	rand    *rand.Rand
	life    Lifetimes
	keepers []*Keeper
	// bundles are what the cluster's caBundle was, and since when; callers may be
	// behind by less than the announcement.
	bundles []published
}

type published struct {
	since  time.Time
	bundle []byte
	certs  map[string]bool
}

func (w *world) clock() time.Time { return w.now }

// announced is what a registrar that sees everything would say.
func (w *world) announced(ca *x509.Certificate) (time.Time, bool) {
	since, ok := time.Time{}, false
	for i := len(w.bundles) - 1; i >= 0 && w.bundles[i].certs[string(ca.Raw)]; i-- {
		since, ok = w.bundles[i].since, true
	}
	return since, ok
}

func (w *world) keeper() *Keeper {
	w.t.Helper()
	k, err := New(Options{Client: w.client, Namespace: testNamespace, Secret: testSecret, Names: svcNames, Lifetimes: w.life,
		Announced: w.announced, Use: func(tls.Certificate) {}, Clock: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// publish writes a bundle where callers find it.
func (w *world) publish(bundle []byte) {
	if bundle == nil || len(w.bundles) > 0 && string(w.bundles[len(w.bundles)-1].bundle) == string(bundle) {
		return
	}
	p := published{since: w.now, bundle: bundle, certs: map[string]bool{}}
	for _, c := range readBundle(w.t, bundle) {
		p.certs[string(c.Raw)] = true
	}
	w.bundles = append(w.bundles, p)
}

// check fails where a caller that is behind by up to lag cannot talk to a replica.
func (w *world) check(lag time.Duration) {
	w.t.Helper()
	for i, k := range w.keepers {
		if k.served == nil {
			continue
		}
		for j := len(w.bundles) - 1; j >= 0; j-- {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(w.bundles[j].bundle)
			if _, err := k.served.cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: svcNames[0], CurrentTime: w.now}); err != nil {
				w.t.Fatalf("%s: replica %d is not trusted by a bundle of %s: %v", w.now.Sub(begin), i, w.now.Sub(w.bundles[j].since), err)
			}
			if !w.bundles[j].since.After(w.now.Add(-lag)) {
				break // older ones are nobody's any more
			}
		}
	}
}

// TestNoCallerIsLost lets replicas, callers and accidents take their turns for months, and looks at every moment
// whether every caller trusts every replica.
func TestNoCallerIsLost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, client: newClient(t), now: begin, rand: rand.New(rand.NewPCG(seed, 7)),
				life: Lifetimes{Authority: 30 * day, Certificate: 9 * day, Announce: hour}}
			const lag = 50 * time.Minute // of callers
			for range 3 {
				w.keepers = append(w.keepers, w.keeper())
			}
			for _, k := range w.keepers {
				k.set(read(t, w.client))
				k.step(t.Context())
			}
			// The first CA is announced by nobody: callers come after it.
			for _, k := range w.keepers {
				k.set(read(t, w.client))
				k.step(t.Context())
			}
			w.publish(w.keepers[0].Bundle())
			issuers := map[string]bool{}
			for w.now.Before(begin.Add(60 * day)) {
				w.now = w.now.Add(time.Duration(1+w.rand.IntN(600)) * time.Minute / 10)
				if w.rand.IntN(12) > 0 {
					w.now = w.now.Add(time.Duration(w.rand.IntN(8)) * hour)
				}
				w.accident()
				for _, i := range w.rand.Perm(len(w.keepers)) {
					if w.rand.IntN(3) == 0 {
						continue // its watch is behind
					}
					k := w.keepers[i]
					k.set(read(t, w.client))
					k.step(t.Context())
					issuers[k.by.Subject.CommonName] = true
					if i == 0 {
						w.publish(k.Bundle()) // the leader
					}
				}
				w.check(lag)
			}
			if len(issuers) < 4 {
				t.Errorf("%d CAs were served", len(issuers))
			}
		})
	}
}

// accident damages the Secret, asks for a renewal, or starts a replica anew.
func (w *world) accident() {
	s := read(w.t, w.client)
	if s == nil {
		return
	}
	ctx := context.Background()
	switch w.rand.IntN(40) {
	case 0:
		if err := w.client.Delete(ctx, s); err != nil {
			w.t.Fatal(err)
		}
		return
	case 1:
		s.Data[KeyAuthorities] = []byte("{}")
	case 2:
		s.Data[KeyKey] = nil
	case 3:
		s.Data[KeyCertificate] = s.Data[KeyBundle]
	case 4:
		s.Annotations = map[string]string{AnnotationRenew: RenewAuthority}
	case 5:
		s.Annotations = map[string]string{AnnotationRenew: RenewCertificate}
	case 6, 7:
		// A Secret that was damaged while nobody who knew better was there is another matter.
		if _, problems := decodeState(s.Data, w.now, svcNames); problems == nil {
			k := w.keeper()
			k.set(s)
			k.step(ctx)
			w.keepers[1+w.rand.IntN(len(w.keepers)-1)] = k
		}
		return
	default:
		return
	}
	if err := w.client.Update(ctx, s); err != nil {
		w.t.Fatal(err)
	}
}

// TestWhoLeavesServesAndDoesNotWrite: a replica that was told to stop serves what
// others put into the Secret, and does nothing to it: what is deleted stays deleted.
func TestWhoLeavesServesAndDoesNotWrite(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	var served [2]*x509.Certificate
	var keepers []*Keeper
	for i := range served {
		k, err := New(Options{Client: c, Namespace: testNamespace, Secret: testSecret, Names: svcNames,
			Announced: func(*x509.Certificate) (time.Time, bool) { return time.Time{}, true },
			Use:       func(c tls.Certificate) { served[i] = c.Leaf }})
		if err != nil {
			t.Fatal(err)
		}
		keepers = append(keepers, k)
	}
	leaves, stays := keepers[0], keepers[1]
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	leaves.set(nil)
	if leaves.step(ended); read(t, c) != nil {
		t.Fatal("it made the Secret")
	}
	stays.set(nil)
	stays.step(t.Context())
	s := read(t, c)
	leaves.set(s)
	if leaves.step(ended); served[0] == nil || !served[0].Equal(served[1]) {
		t.Error("it does not serve what is there")
	}
	s.Annotations = map[string]string{AnnotationRenew: RenewCertificate}
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	asked := read(t, c)
	leaves.set(asked)
	if leaves.step(ended); read(t, c).ResourceVersion != asked.ResourceVersion {
		t.Error("it renewed the certificate")
	}
	stays.set(asked)
	stays.step(t.Context())
	leaves.set(read(t, c))
	if leaves.step(ended); !served[0].Equal(served[1]) {
		t.Error("it does not serve what another renewed")
	}
	if err := c.Delete(t.Context(), read(t, c)); err != nil {
		t.Fatal(err)
	}
	leaves.set(nil)
	if leaves.step(ended); read(t, c) != nil {
		t.Error("it put the Secret back")
	}
	if ok, text := leaves.Ready(); !ok {
		t.Error(text)
	}
}

// TestReplicasAgree starts replicas at once, with their watches.
func TestReplicasAgree(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served [4]atomic.Pointer[x509.Certificate]
	var keepers []*Keeper
	for i := range served {
		k, err := New(Options{Client: c, Namespace: testNamespace, Secret: testSecret, Names: svcNames,
			Announced: func(*x509.Certificate) (time.Time, bool) { return time.Time{}, true },
			Use:       func(c tls.Certificate) { served[i].Store(c.Leaf) }})
		if err != nil {
			t.Fatal(err)
		}
		if ok, text := k.Ready(); ok || text == "" {
			t.Error("it is ready without a certificate")
		}
		keepers = append(keepers, k)
		wg.Go(func() { k.Run(ctx, ctx) })
	}
	agree := func(what string, other *x509.Certificate) {
		t.Helper()
		// waits: it polls, and touches what it waits for; only a hang reaches the deadline
		for deadline := time.Now().Add(testwait.Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			first, all := served[0].Load(), true
			for i := range served {
				have := served[i].Load()
				all = all && have != nil && have.Equal(first) && (other == nil || !have.Equal(other))
			}
			if all {
				return
			}
			// This API server's watches begin a moment after its lists, and miss what
			// is between: something new makes them look.
			if s := read(t, c); s != nil {
				s.Labels = map[string]string{"touched": fmt.Sprint(time.Until(deadline).Milliseconds())}
				if err := c.Update(ctx, s); err != nil && !apierrors.IsConflict(err) {
					t.Fatal(err)
				}
			}
		}
		t.Fatalf("%s: the replicas do not agree", what)
	}
	agree("at the start", nil)
	for _, what := range []string{RenewCertificate, RenewAuthority} {
		before := served[0].Load()
		for {
			s := read(t, c)
			s.Annotations = map[string]string{AnnotationRenew: what}
			err := c.Update(ctx, s)
			if err == nil {
				break
			}
			if !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
		agree(what, before)
	}
	for i, k := range keepers {
		if ok, _ := k.Ready(); !ok || string(k.Bundle()) != string(keepers[0].Bundle()) {
			t.Errorf("replica %d: ready %t, with another bundle than the first", i, ok)
		}
	}
	stop()
	wg.Wait()
}
