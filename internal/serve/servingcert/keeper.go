package servingcert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/kube/onewatch"
)

// AnnotationRenew on the Secret asks for a renewal before its time; its value is
// RenewCertificate or RenewAuthority. It goes when the request is under way.
const AnnotationRenew = "boltseal.dev/renew"

const (
	writeTimeout = 10 * time.Second
	// retryWrite is how long after a failed write the next one is tried.
	retryWrite = time.Second
	// maxSleep bounds how long nothing is looked at: clocks are set, machines sleep.
	maxSleep = 10 * time.Minute
)

// Options make a Keeper.
type Options struct {
	// Client is the way to the API server. It needs the rights to create Secrets in
	// Namespace, and to get, list, watch and update this one. Required.
	Client client.WithWatch
	// Namespace and Secret are where the certificate is kept. Required.
	Namespace, Secret string
	// Names are the DNS names and IP addresses that the certificate must bear. At
	// least one.
	Names []string
	// Lifetimes say how long things last.
	Lifetimes Lifetimes
	// Announced returns since when a CA stands in every caBundle that there is; not
	// ok means that it does not. Required.
	Announced func(*x509.Certificate) (since time.Time, ok bool)
	// Use serves a certificate from now on. Required.
	Use func(tls.Certificate)
	// Changed is told that Bundle may return something else. Nil means nobody is.
	Changed func()
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Keeper keeps the certificate. Every replica has one; they agree by the Secret's
// resourceVersion.
type Keeper struct {
	o    Options
	work chan struct{} // room for one: somebody has to look

	mu     sync.Mutex
	known  bool           // the Secret was looked for
	secret *corev1.Secret // nil: it is not there
	served *leaf
	by     *x509.Certificate // the CA of served
	bundle []byte

	good state // the last state that could be served; the loop's own
	told string
}

// New makes a Keeper. It does not talk to the cluster yet.
func New(o Options) (*Keeper, error) {
	var err error
	if o.Lifetimes, err = o.Lifetimes.complete(); err != nil {
		return nil, err
	}
	if len(o.Names) == 0 {
		return nil, errors.New("a certificate needs a name")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	return &Keeper{o: o, work: make(chan struct{}, 1)}, nil
}

// Run serves what is in the Secret until ctx ends, and keeps it as it should be
// until standing ends, which may be sooner: a replica that leaves goes on serving,
// but what its successors or an administrator do to the Secret is theirs.
func (k *Keeper) Run(ctx, standing context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		onewatch.Run(ctx, onewatch.Options{Client: k.o.Client, Object: &corev1.Secret{}, List: &corev1.SecretList{},
			Namespace: k.o.Namespace, Name: k.o.Secret, Changed: k.observe, Log: k.o.Log})
	})
	for ctx.Err() == nil {
		wait := maxSleep
		if look, ok := k.step(standing); ok {
			wait = min(wait, max(look.Sub(k.o.Clock()), 10*time.Millisecond))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-k.work:
		case <-t.C:
		}
		t.Stop()
	}
}

// Poke makes the Keeper look again: what Announced returns may have changed.
func (k *Keeper) Poke() {
	select {
	case k.work <- struct{}{}:
	default:
	}
}

// Bundle is what callers are to trust, in PEM; nil where it is not known yet. The
// CA of what this replica serves is always in it.
func (k *Keeper) Bundle() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bundle
}

// Ready reports whether there is a certificate that can be served, and says what
// there is.
func (k *Keeper) Ready() (ok bool, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.served == nil:
		return false, fmt.Sprintf("there is none yet in Secret %s/%s", k.o.Namespace, k.o.Secret)
	case !k.o.Clock().Before(k.served.cert.NotAfter):
		return false, "it expired at " + k.served.cert.NotAfter.UTC().Format(time.RFC3339)
	}
	return true, "valid until " + k.served.cert.NotAfter.UTC().Format(time.RFC3339)
}

// Metrics are what Prometheus reads.
func (k *Keeper) Metrics() []prometheus.Collector {
	expiry := func(pick func() *x509.Certificate) func() float64 {
		return func() float64 {
			k.mu.Lock()
			defer k.mu.Unlock()
			if c := pick(); c != nil {
				return float64(c.NotAfter.Unix())
			}
			return 0
		}
	}
	gauge := func(what, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "boltseal_serving_" + what + "_expiry_timestamp_seconds", Help: help}, f)
	}
	return []prometheus.Collector{
		gauge("certificate", "When the certificate that is served expires, 0 where there is none.", expiry(func() *x509.Certificate {
			if k.served == nil {
				return nil
			}
			return k.served.cert
		})),
		gauge("ca", "When the CA of the certificate that is served expires, 0 where there is none.", expiry(func() *x509.Certificate { return k.by })),
	}
}

// observe takes in the Secret as it is now; nil means that there is none.
func (k *Keeper) observe(o client.Object) {
	secret, _ := o.(*corev1.Secret)
	k.set(secret)
	k.Poke()
}

func (k *Keeper) set(secret *corev1.Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known, k.secret = true, secret
}

// step does what is to be done now, and says when to look again; not ok means when
// something changes. Once ctx has ended nothing is written.
func (k *Keeper) step(ctx context.Context) (look time.Time, ok bool) {
	k.mu.Lock()
	known, secret := k.known, k.secret
	k.mu.Unlock()
	now := k.o.Clock()
	if !known {
		return time.Time{}, false
	}
	if secret == nil {
		secret = &corev1.Secret{}
	}
	read, problems := decodeState(secret.Data, now, k.o.Names)
	s, did, look, err := facts{now: now, names: k.o.Names, life: k.o.Lifetimes, announced: k.o.Announced, renew: secret.Annotations[AnnotationRenew]}.
		plan(read.mend(k.good, now, k.o.Names))
	var data map[string][]byte
	if err == nil {
		data, err = s.encode()
	}
	if err != nil {
		k.complain("a certificate could not be made", err)
		return now.Add(retryWrite), true
	}
	if !sameData(data, secret.Data) || secret.Annotations[AnnotationRenew] != "" {
		if ctx.Err() != nil {
			if read.usable() {
				return k.serve(read, now)
			}
			return time.Time{}, false
		}
		if problems != nil && secret.ResourceVersion != "" {
			k.o.Log.Warn("the Secret with the serving certificate is not as it should be, and is being fixed", "namespace", k.o.Namespace, "secret", k.o.Secret, "problems", problems.Error())
		}
		if err := k.write(ctx, secret, data); err != nil {
			// What was not written must not be served: another replica may have written
			// something else. What is in the Secret may be.
			if read.usable() {
				k.serve(read, now)
			}
			if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
				err = k.refresh(ctx) // another replica was faster
			}
			if err != nil {
				k.complain("the Secret with the serving certificate could not be written, and is tried again", err)
				return now.Add(retryWrite), true
			}
			return now, true
		}
		for _, d := range did {
			k.o.Log.Info("serving certificate", "what", d)
		}
	}
	k.told = ""
	k.good = s
	if again, wait := k.serve(s, now); wait {
		look = earlierOf(look, again)
	}
	return look, true
}

// complain logs a problem once, until something else happens.
func (k *Keeper) complain(what string, err error) {
	if text := err.Error(); text != k.told {
		k.told = text
		k.o.Log.Error(what, "namespace", k.o.Namespace, "secret", k.o.Secret, "error", text)
	}
}

// write puts data into the Secret, unless somebody was faster.
func (k *Keeper) write(ctx context.Context, old *corev1.Secret, data map[string][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	secret := old.DeepCopy()
	secret.Data = data
	delete(secret.Annotations, AnnotationRenew)
	var err error
	if secret.ResourceVersion == "" {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: k.o.Namespace, Name: k.o.Secret, Labels: map[string]string{"app.kubernetes.io/managed-by": "boltseal"}}
		secret.Type = corev1.SecretTypeTLS
		err = k.o.Client.Create(ctx, secret)
	} else {
		err = k.o.Client.Update(ctx, secret)
	}
	if err == nil {
		k.set(secret)
	}
	return err
}

// refresh reads the Secret, for the watch may be behind.
func (k *Keeper) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	secret := &corev1.Secret{}
	err := k.o.Client.Get(ctx, client.ObjectKey{Namespace: k.o.Namespace, Name: k.o.Secret}, secret)
	switch {
	case apierrors.IsNotFound(err):
		secret, err = nil, nil
	case err != nil:
		return err
	}
	k.set(secret)
	return nil
}

// serve puts the state's certificate in use. One of another CA than before waits
// until its CA is announced, whatever brought it into the Secret: again says when
// to look, where that is known.
func (k *Keeper) serve(s state, now time.Time) (again time.Time, wait bool) {
	k.mu.Lock()
	served, by := k.served, k.by
	k.mu.Unlock()
	change := served == nil || !served.cert.Equal(s.leaf.cert)
	if change && served != nil && !by.Equal(s.current.cert) && now.Before(served.cert.NotAfter) {
		since, ok := k.o.Announced(s.current.cert)
		if ready := since.Add(k.o.Lifetimes.Announce); !ok || now.Before(ready) {
			change, again, wait = false, ready, ok
			// Before it is too late, nothing is lost by the change.
			if last := served.cert.NotAfter.Add(-k.o.Lifetimes.Certificate / 6); !now.Before(last) {
				change = true
			} else {
				again, wait = earlierOf(laterOf(again, now.Add(time.Second)), last), true
			}
		}
	}
	if change {
		k.o.Use(s.leaf.tls())
		served, by = s.leaf, s.current.cert
	}
	bundle := s.bundle()
	if !trustsCA(s, by) {
		bundle = append(bundle, certPEM(by)...)
	}
	k.mu.Lock()
	k.served, k.by = served, by
	changed := !bytes.Equal(k.bundle, bundle)
	k.bundle = bundle
	k.mu.Unlock()
	if changed {
		k.o.Changed()
	}
	return again, wait
}

// trustsCA reports whether a CA is in the state's bundle.
func trustsCA(s state, ca *x509.Certificate) bool {
	return slices.ContainsFunc(append([]*authority{s.current, s.next}, s.retired...), func(a *authority) bool { return a != nil && a.cert.Equal(ca) })
}

// ServiceNames are the names that callers in a cluster know a Service by.
func ServiceNames(namespace, service string) []string {
	n := service + "." + namespace
	return []string{n + ".svc", n + ".svc.cluster.local", n, service}
}
