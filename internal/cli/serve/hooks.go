package serve

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/kube/registrar"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/serve/servingcert"
)

// Values of flags that leave something out or to Boltseal.
const (
	valueNone = "none"
	valueAuto = "auto"
)

// defaultGatekeeperCA is where Gatekeeper's own installation keeps its certificate.
const defaultGatekeeperCA = "gatekeeper-system/gatekeeper-webhook-server-cert"

// webhookFlags say what the webhook configurations are to be.
type webhookFlags struct {
	service, failurePolicy string
	timeout                int32
	exempt                 []string
}

func (f *webhookFlags) register(fl *pflag.FlagSet) {
	// One flag: BOLTSEAL_SERVICE_PORT is what Kubernetes itself puts into Pods beside
	// a Service of this name.
	fl.StringVar(&f.service, "service", "boltseal:6001", "`NAME:PORT` of the Service, in Boltseal's namespace, that leads here")
	fl.StringVar(&f.failurePolicy, "webhook-failure-policy", "Fail", "`POLICY`: what becomes of requests that are not answered: Fail refuses, Ignore admits them")
	fl.Int32Var(&f.timeout, "webhook-timeout-seconds", 10, "`SECONDS`: how long the API server waits for an answer, 1 to 30")
	fl.StringSliceVar(&f.exempt, "exempt-namespaces", []string{input.DefaultNamespace}, "`NAMESPACES` that the webhook never checks, in addition to kube-system: Boltseal's own")
}

func (f *webhookFlags) options() (service.WebhookOptions, error) {
	name, text, _ := strings.Cut(f.service, ":")
	port, err := strconv.ParseInt(text, 10, 32)
	o := service.WebhookOptions{Service: name, Port: int32(port), FailurePolicy: admissionregistrationv1.FailurePolicyType(f.failurePolicy), TimeoutSeconds: f.timeout}
	if !slices.Contains([]string{"Fail", "Ignore"}, f.failurePolicy) {
		return o, fmt.Errorf("--webhook-failure-policy %q: choose Fail or Ignore", f.failurePolicy)
	}
	if f.timeout < 1 || f.timeout > 30 {
		return o, fmt.Errorf("--webhook-timeout-seconds %d: choose 1 to 30", f.timeout)
	}
	if name == "" || err != nil || port < 1 || port > 65535 {
		return o, fmt.Errorf("--service %q: write NAME:PORT", f.service)
	}
	return o, nil
}

// hookFlags say what leads a cluster to this server, and who may ask.
type hookFlags struct {
	webhook      webhookFlags
	mode, owner  string
	secret       string
	lifetimes    servingcert.Lifetimes
	providers    []string
	verify       string
	mutate       string
	gatekeeperCA string
}

// The flags are in two parts, so that the help has them where they belong.

func (f *hookFlags) registerTLS(fl *pflag.FlagSet, o *service.Options) {
	fl.StringVar(&o.AdmissionCA, "admission-client-ca", "", "PEM `FILE` with CAs: whoever asks as the API server must show a certificate of one; watched")
	fl.BoolVar(&o.TrustNetwork, "admission-trust-network", false, "the network lets only the API server reach this server: what is asked at the webhook is then answered with the credentials of namespaces and Pods, as with --admission-client-ca")
	fl.StringVar(&f.gatekeeperCA, "gatekeeper-ca-secret", valueAuto, "`NAMESPACE/NAME` of the Secret with the CA of Gatekeeper's certificate, which whoever asks as Gatekeeper must show then; "+
		valueNone+"; or "+valueAuto+", Gatekeeper's own Secret where Boltseal keeps its certificate itself and --client-ca is not set")
	fl.StringVar(&f.secret, "tls-secret", "boltseal-serving", "`NAME` of the Secret that the server's certificate is kept in, and renewed, where no other is configured in a cluster")
	fl.DurationVar(&f.lifetimes.Certificate, "tls-lifetime", servingcert.DefaultCertificate, "`DURATION`: how long that certificate is valid; it is renewed when two thirds have passed")
	fl.DurationVar(&f.lifetimes.Authority, "tls-ca-lifetime", servingcert.DefaultAuthority, "`DURATION`: how long its CA is valid; at least three times as long")
	fl.DurationVar(&f.lifetimes.Announce, "tls-ca-announce", servingcert.DefaultAnnounce, "`DURATION`: how long a new CA is in all caBundles before a certificate of it is served")
	fl.StringVar(&o.BundleFile, "tls-ca", "", "PEM `FILE` with the CAs of --tls-cert, for the caBundle of all that points here in a cluster; watched")
}

func (f *hookFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.mode, "webhook", string(registrar.Off), "`MODE`: enforce makes and keeps webhook configurations in the cluster, off makes none")
	f.webhook.register(fl)
	fl.StringVar(&f.owner, "webhook-owner", "ClusterRole/boltseal", "`KIND/NAME` that the webhook configurations belong to, and go with: a ClusterRole or a Namespace; or "+valueNone)
	fl.StringSliceVar(&f.providers, "gatekeeper-providers", []string{"ratify-provider", "ratify-mutation-provider"}, "`NAMES` of Gatekeeper's Providers that get the CAs where they point here; or "+valueNone)
	fl.StringVar(&f.verify, "gatekeeper-verify-provider", valueNone, "`NAME` of the Provider that is made and kept in the cluster, for Gatekeeper to verify; or "+valueNone)
	fl.StringVar(&f.mutate, "gatekeeper-mutate-provider", valueNone, "`NAME` of the one that is made and kept for mutation; or "+valueNone)
}

// apply puts the flags into a service's options. set tells whether a flag was set.
func (f *hookFlags) apply(o *service.Options, set func(flag string) bool) error {
	mode := registrar.Mode(f.mode)
	if mode != registrar.Off && mode != registrar.Enforce {
		return fmt.Errorf("--webhook %q: choose off or enforce", f.mode)
	}
	webhook, err := f.webhook.options()
	if err != nil {
		return err
	}
	if f.owner != valueNone {
		if webhook.Owner, err = registrar.ParseOwner(f.owner); err != nil {
			return fmt.Errorf("--webhook-owner %w", err)
		}
	}
	if o.Exempt = f.webhook.exempt; o.Cluster != nil && !set("exempt-namespaces") {
		o.Exempt = nil // Boltseal's own is known, and no other of that name is to be trusted
	}
	managed := o.Cluster != nil && !o.InsecureHTTP && !o.SelfSigned && o.TLS.Cert == ""
	secret, err := f.gatekeeperSecret(managed && o.TLS.ClientCA == "")
	switch {
	case err != nil:
		return err
	case o.Cluster == nil && mode == registrar.Enforce:
		return errors.New("--webhook=enforce is for a cluster: name one with --kubeconfig")
	case o.Cluster == nil && secret != (types.NamespacedName{}):
		return errors.New("--gatekeeper-ca-secret is for a cluster: without one, name a file with --client-ca")
	case o.Cluster == nil && (f.verify != valueNone || f.mutate != valueNone):
		return errors.New("--gatekeeper-verify-provider and --gatekeeper-mutate-provider are for a cluster: name one with --kubeconfig")
	case f.verify == f.mutate && f.verify != valueNone:
		return fmt.Errorf("one Provider, %q, cannot verify and mutate", f.verify)
	case (f.verify != valueNone || f.mutate != valueNone) && (o.InsecureHTTP || o.SelfSigned):
		return errors.New("--gatekeeper-verify-provider and --gatekeeper-mutate-provider need a certificate that Gatekeeper can trust: leave it to Boltseal, or name --tls-cert and --tls-ca")
	case mode == registrar.Enforce && (o.InsecureHTTP || o.SelfSigned):
		return errors.New("--webhook=enforce needs a certificate that the API server can trust: leave it to Boltseal, or name --tls-cert and --tls-ca")
	}
	if o.Cluster == nil {
		return nil
	}
	webhook.Mode, webhook.Providers = mode, f.providers
	if len(f.providers) == 1 && f.providers[0] == valueNone {
		webhook.Providers = nil
	}
	webhook.VerifyProvider, webhook.MutateProvider = unlessNone(f.verify), unlessNone(f.mutate)
	o.Cluster.Webhook, o.Cluster.GatekeeperCA = webhook, secret
	if managed {
		o.Cluster.Serving = &service.ServingOptions{Secret: f.secret, Lifetimes: f.lifetimes}
		if !set("tls-names") {
			o.Names = nil // the default is for a first try on one machine
		}
	}
	return nil
}

func unlessNone(name string) string {
	if name == valueNone {
		return ""
	}
	return name
}

func (f *hookFlags) gatekeeperSecret(auto bool) (types.NamespacedName, error) {
	text := f.gatekeeperCA
	switch {
	case text == valueNone, text == valueAuto && !auto:
		return types.NamespacedName{}, nil
	case text == valueAuto:
		text = defaultGatekeeperCA
	}
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" {
		return types.NamespacedName{}, fmt.Errorf("--gatekeeper-ca-secret %q: write NAMESPACE/NAME, %s or %s", text, valueAuto, valueNone)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

// exemptOwn adds Boltseal's own namespace to those that are never judged.
func exemptOwn(namespaces []string, o *service.ClusterOptions) []string {
	if o == nil || slices.Contains(namespaces, o.Namespace) {
		return namespaces
	}
	return append(slices.Clip(namespaces), o.Namespace)
}
