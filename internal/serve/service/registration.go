package service

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/kube/onewatch"
	"github.com/boltseal/boltseal/internal/kube/registrar"
	"github.com/boltseal/boltseal/internal/serve/clientca"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/servingcert"
	"github.com/boltseal/boltseal/internal/serve/tlsfiles"
)

// ServingOptions say where Boltseal keeps a certificate of its own making.
type ServingOptions struct {
	// Secret is its name in Boltseal's namespace. Required.
	Secret string
	// Lifetimes are the certificate's and its CA's.
	Lifetimes servingcert.Lifetimes
}

// WebhookOptions say what leads a cluster to Boltseal.
type WebhookOptions struct {
	// Mode says whether the webhook configurations are made and kept. "" means
	// registrar.Off.
	Mode registrar.Mode
	// Service and Port are where the API server asks, in Boltseal's namespace.
	// Required.
	Service string
	Port    int32
	// FailurePolicy and TimeoutSeconds are the webhooks'; their zero values mean
	// Fail and 10.
	FailurePolicy  admissionregistrationv1.FailurePolicyType
	TimeoutSeconds int32
	// Owner is what the webhook configurations belong to.
	Owner registrar.Owner
	// Providers are names of Gatekeeper's Providers that get the CAs where they
	// point here.
	Providers []string
	// VerifyProvider and MutateProvider are names of Providers that are made and
	// kept. "" means none.
	VerifyProvider, MutateProvider string
}

// makes are the Providers that are made. Gatekeeper waits for whole seconds, and for
// longer than an answer takes.
func (o WebhookOptions) makes(so server.Options) []registrar.Provider {
	var out []registrar.Provider
	for _, p := range []struct {
		name, path string
		answer     time.Duration
	}{
		{o.VerifyProvider, server.PathVerify, cmp.Or(so.VerifyTimeout, server.DefaultVerifyTimeout)},
		{o.MutateProvider, server.PathMutate, cmp.Or(so.MutateTimeout, server.DefaultMutateTimeout)},
	} {
		if p.name != "" {
			out = append(out, registrar.Provider{Name: p.name, Path: p.path, TimeoutSeconds: int(p.answer/time.Second) + 1})
		}
	}
	return out
}

// Webhooks is what the webhook configurations are to be. more are kinds beside those
// that are watched on whose changes advice is given.
func (o WebhookOptions) Webhooks(namespace string, exempt []string, more []schema.GroupVersionKind) registrar.Webhooks {
	return registrar.Webhooks{Namespace: namespace, Service: o.Service, Port: o.Port, PinPath: server.PathPin, ValidatePath: server.PathValidate,
		AdvisePath: server.PathAdvise, Advised: advisedKinds(more), Exempt: exempt, FailurePolicy: o.FailurePolicy, TimeoutSeconds: o.TimeoutSeconds}
}

// registration is what ties a service to its cluster's webhooks and to Gatekeeper.
type registration struct {
	client    client.WithWatch
	keeper    *servingcert.Keeper  // nil: the certificate is not Boltseal's own
	registrar *registrar.Registrar // nil: nothing is to be kept
	provider  *clientca.Clients    // who may ask as Gatekeeper; nil: whoever the listener lets in
	webhook   *clientca.Clients    // who may ask as the API server
	bundle    files                // CAs of a certificate from files
}

// files is the content of a file that is read again when it changes.
type files struct {
	mu  sync.Mutex
	pem []byte
}

func (f *files) set(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pem = b
}

func (f *files) get() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pem
}

// NewClient makes a client that can watch single objects.
func NewClient(config *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	rest.AddUserAgent(config, "boltseal")
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	return c, nil
}

// register makes what ties the service to its cluster, and tells the server who
// may ask.
func (s *Service) register(so *server.Options) error {
	o := s.o
	if o.BundleFile != "" && (o.TLS.Cert == "" || o.Cluster == nil) {
		return fmt.Errorf("%w: --tls-ca is for a cluster, and for a certificate from --tls-cert", boltseal.ErrConfiguration)
	}
	if o.AdmissionCA != "" {
		switch {
		case o.TLS.ClientCA != "":
			return fmt.Errorf("%w: --client-ca is for whoever asks, --admission-client-ca for the API server alone: choose one", boltseal.ErrConfiguration)
		case o.InsecureHTTP:
			return fmt.Errorf("%w: without TLS nobody can show a client certificate", boltseal.ErrConfiguration)
		}
		s.reg.webhook = clientca.New(clientca.Options{Source: "--admission-client-ca", Clock: o.Clock})
		so.Webhook = s.reg.webhook
	}
	// Whoever has a certificate of --client-ca is somebody the operator named.
	named := o.TLS.ClientCA != "" && !o.InsecureHTTP
	so.TrustProvider, so.TrustWebhook = named, named || o.TrustNetwork
	defer func() { s.unproven = unprovenEndpoints(so) }()
	c := o.Cluster
	if c == nil || o.InsecureHTTP {
		return nil
	}
	var err error
	if s.reg.client, err = NewClient(c.Config); err != nil {
		return err
	}
	if c.GatekeeperCA.Name != "" {
		if o.TLS.ClientCA != "" {
			return fmt.Errorf("%w: --client-ca is for whoever asks, --gatekeeper-ca-secret for Gatekeeper alone: choose one", boltseal.ErrConfiguration)
		}
		s.reg.provider = clientca.New(clientca.Options{Source: "Secret " + c.GatekeeperCA.String() + " (" + gatekeeperCAKey + ")", Clock: o.Clock})
		so.Provider = s.reg.provider
	}
	names := slices.Concat(servingcert.ServiceNames(c.Namespace, c.Webhook.Service), o.Names)
	if c.Serving != nil {
		if s.tls, err = tlsfiles.Held(o.TLS.ClientCA); err != nil {
			return err
		}
		s.reg.keeper, err = servingcert.New(servingcert.Options{Client: s.reg.client, Namespace: c.Namespace, Secret: c.Serving.Secret, Names: names,
			Lifetimes: c.Serving.Lifetimes, Announced: s.announced, Use: s.use, Changed: func() { s.reg.registrar.Poke() }, Log: o.Log, Clock: o.Clock})
		if err != nil {
			return fmt.Errorf("%w: %w", boltseal.ErrConfiguration, err)
		}
		so.Checks = append(so.Checks, server.Check{Name: "serving certificate", Run: s.reg.keeper.Ready})
		s.metrics.Register(s.reg.keeper.Metrics()...)
	}
	providers := c.Webhook.makes(o.Server)
	if c.Serving == nil && o.BundleFile == "" {
		if len(providers) > 0 {
			return fmt.Errorf("%w: a Provider needs the CA of the server's certificate: leave the certificate to Boltseal, or name --tls-ca", boltseal.ErrConfiguration)
		}
		if c.Webhook.Mode != registrar.Enforce && c.Webhook.Owner == (registrar.Owner{}) {
			return nil
		}
	}
	s.reg.registrar, err = registrar.New(registrar.Options{Client: s.reg.client, Mode: c.Webhook.Mode, Webhooks: c.Webhook.Webhooks(c.Namespace, o.Exempt, o.Advised),
		Owner: c.Webhook.Owner, Providers: c.Webhook.Providers, Make: providers, Names: names, Bundle: s.trusted, Ready: s.answers, Changed: s.reg.poke, Log: o.Log, Clock: o.Clock})
	if err != nil {
		return fmt.Errorf("%w: %w", boltseal.ErrConfiguration, err)
	}
	return nil
}

// unprovenEndpoints names the endpoints where nothing proves who asks.
func unprovenEndpoints(so *server.Options) string {
	var at []string
	if so.Webhook == nil && !so.TrustWebhook {
		at = append(at, "the admission webhook")
	}
	if so.Provider == nil && !so.TrustProvider {
		at = append(at, "Gatekeeper's provider")
	}
	return strings.Join(at, " and ")
}

func (r *registration) poke() {
	if r.keeper != nil {
		r.keeper.Poke()
	}
}

// use serves a certificate.
func (s *Service) use(c tls.Certificate) {
	if err := s.tls.Use(c); err != nil {
		s.o.Log.Error("the TLS files do not work; the last good ones go on serving", "error", err.Error())
	}
}

// announced is the registrar's answer, which the keeper waits for.
func (s *Service) announced(ca *x509.Certificate) (time.Time, bool) {
	return s.reg.registrar.Announced(ca)
}

// trusted is what callers are to trust, nil where that is not known.
func (s *Service) trusted() []byte {
	if s.reg.keeper != nil {
		return s.reg.keeper.Bundle()
	}
	return s.reg.bundle.get()
}

// answers reports whether this replica could answer a request.
func (s *Service) answers() bool {
	if s.reg.keeper != nil {
		if ok, _ := s.reg.keeper.Ready(); !ok {
			return false
		}
	}
	return s.live.Load() != nil
}

// lead does what is for one replica alone.
func (s *Service) lead(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.reg.registrar != nil {
		wg.Go(func() { s.reg.registrar.Lead(ctx) })
	}
	if s.auditor != nil {
		wg.Go(func() { s.auditor.Run(ctx) })
	}
	if s.o.Cluster != nil {
		for name, a := range s.o.Cluster.Alone {
			wg.Go(func() { s.runAlone(ctx, name, a) })
		}
	}
}

// runRegistration follows the certificates and what leads to them until ctx ends,
// and keeps them as they should be until standing ends.
func (s *Service) runRegistration(ctx, standing context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.reg.keeper != nil {
		wg.Go(func() { s.reg.keeper.Run(ctx, standing) })
	}
	if s.reg.registrar != nil {
		wg.Go(func() { s.reg.registrar.Run(ctx) })
	}
	if s.reg.provider != nil {
		wg.Go(func() { s.watchGatekeeper(ctx, s.o.Cluster.GatekeeperCA) })
	}
}

// gatekeeperCAKey is where Gatekeeper keeps the CA of its certificate.
const gatekeeperCAKey = "ca.crt"

// watchGatekeeper follows the CA of Gatekeeper's client certificate. Where it goes,
// the last one stays good: Gatekeeper may still be showing a certificate of it.
func (s *Service) watchGatekeeper(ctx context.Context, secret types.NamespacedName) {
	onewatch.Run(ctx, onewatch.Options{Client: s.reg.client, Object: &corev1.Secret{}, List: &corev1.SecretList{}, Namespace: secret.Namespace, Name: secret.Name, Log: s.o.Log,
		// Gatekeeper's private keys are in it too.
		Keep: func(o client.Object) {
			if in, ok := o.(*corev1.Secret); ok {
				in.Annotations = nil // kubectl's may hold all the data
				in.Data = map[string][]byte{gatekeeperCAKey: in.Data[gatekeeperCAKey]}
			}
		},
		Changed: func(o client.Object) {
			var ca []byte
			if in, ok := o.(*corev1.Secret); ok {
				ca = in.Data[gatekeeperCAKey]
			}
			if len(ca) == 0 {
				s.o.Log.Info("Gatekeeper's CA does not exist; what was read of it before still applies", "secret", secret.String())
				return
			}
			changed, err := s.reg.provider.Set(ca)
			if err != nil {
				s.o.Log.Error("Gatekeeper's CA cannot be read; what was read of it before still applies", "error", err.Error())
			} else if changed {
				s.o.Log.Info("Gatekeeper's CA is applied", "secret", secret.String())
			}
		}})
}

// loadClientFiles reads what is in files besides the server's certificate.
func (s *Service) loadClientFiles() error {
	var errs []error
	if s.o.AdmissionCA != "" {
		errs = append(errs, s.loadAdmissionCA())
	}
	if s.o.BundleFile != "" {
		errs = append(errs, s.loadBundle())
	}
	return errors.Join(errs...)
}

func (s *Service) loadAdmissionCA() error {
	b, err := readFile(s.o.AdmissionCA)
	if err == nil {
		_, err = s.reg.webhook.Set(b)
	}
	return err
}

// loadBundle reads the CAs of a certificate from files.
func (s *Service) loadBundle() error {
	b, err := readFile(s.o.BundleFile)
	if err != nil {
		return err
	}
	n := 0
	for rest := b; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		// What is read here is published in the cluster.
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%s: it must contain certificates only", s.o.BundleFile)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%s: certificate %d cannot be read", s.o.BundleFile, n+1)
		}
	}
	if n == 0 {
		return fmt.Errorf("%s: it contains no certificate in PEM", s.o.BundleFile)
	}
	s.reg.bundle.set(b)
	if s.reg.registrar != nil {
		s.reg.registrar.Poke()
	}
	return nil
}
