package govern

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/pflag"

	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/agent/addon"
	governhub "github.com/boltseal/boltseal/internal/governance/hub"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/own"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/pageserver"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/trust"
)

// ownCluster is what a cluster that is its own hub is called, unless it is told.
const ownCluster = "local"

// maxNotifyHeader bounds the file with the header of notifications, in bytes.
const maxNotifyHeader = 64 << 10

// governFlags say who governs a cluster.
type governFlags struct {
	govern               bool
	hub, hubSecret       string
	cluster              string
	notify               []string
	notifyHeader, caFile string
	page                 string
}

// Register adds the flags.
func (f *governFlags) Register(fl *pflag.FlagSet) {
	fl.BoolVar(&f.govern, "govern", true, "apply what the assignments (policy.boltseal.dev) require of this cluster; in a cluster only")
	fl.StringVar(&f.hub, "hub-kubeconfig", "", "`FILE` that names the hub cluster with the assignments; without it, this cluster is its own hub, and that of others")
	registerHubSecret(fl, &f.hubSecret)
	fl.StringVar(&f.cluster, "cluster", "", "`NAME` of this cluster at its hub (default "+ownCluster+", for its own hub)")
	fl.StringArrayVar(&f.notify, "notify", nil, "https `URL` that receives CloudEvents about changes of compliance; at the hub; may be repeated")
	fl.StringVar(&f.notifyHeader, "notify-header-file", "", "`FILE` with the header that is sent along, such as a line 'Authorization: Bearer …'")
	fl.StringVar(&f.caFile, "notify-ca", "", "PEM `FILE` with the CAs of those URLs (default those of the system)")
	fl.StringVar(&f.page, "page-listen", "", "`ADDRESS` of the compliance page, for whoever has a token of this cluster and may list what it shows; at the hub; empty for none")
}

// Apply adds the work that the flags ask for to a cluster's server. set tells whether a flag was set, version is Boltseal's.
func (f *governFlags) Apply(o *service.Options, set func(flag string) bool, version string) error {
	if o.Cluster == nil || !f.govern {
		for _, name := range []string{"hub-kubeconfig", "hub-kubeconfig-secret", "cluster", "notify", "page-listen"} {
			if set(name) {
				return fmt.Errorf("--%s is for a cluster that is governed: name one with --kubeconfig, and leave --govern", name)
			}
		}
		return nil
	}
	if f.hub != "" && f.cluster == "" {
		return errors.New("--hub-kubeconfig needs --cluster: the name of this cluster at the hub")
	}
	if f.hub != "" && len(f.notify) > 0 {
		return errors.New("--notify is for the hub, and with --hub-kubeconfig the hub is elsewhere")
	}
	if f.hub != "" && f.page != "" {
		return errors.New("--page-listen is for the hub, and with --hub-kubeconfig the hub is elsewhere")
	}
	name := cmp.Or(f.cluster, ownCluster)
	if err := checkName("--cluster", name); err != nil {
		return err
	}
	o.Cluster.Alone = map[string]service.Alone{}
	at := o.Cluster.Config
	if f.hub != "" {
		way, renewal, err := renewedHub(f.hub, f.hubSecret, o.Cluster.Namespace, o.Cluster.Config, o.Log)
		if err != nil {
			return err
		}
		if at = way; renewal != nil {
			o.Cluster.Alone["the renewal of the credential for the hub"] = renewal
		}
	} else if err := f.setHub(o, name, version); err != nil {
		return err
	}
	a, err := agent.New(agent.Options{Hub: at, Member: o.Cluster.Config, Cluster: name, Namespace: o.Cluster.Namespace, Version: version, Exempt: o.Exempt, Log: o.Log, Clock: o.Clock})
	if err != nil {
		return err
	}
	o.Cluster.Alone["the agent of the hub"] = a
	return nil
}

func (f *governFlags) setHub(o *service.Options, name, version string) error {
	sinks, err := f.sinks()
	if err != nil {
		return err
	}
	h, err := governhub.New(governhub.Options{Config: o.Cluster.Config, Namespace: o.Cluster.Namespace, Version: version, Notify: sinks, Log: o.Log, Clock: o.Clock})
	if err != nil {
		return err
	}
	r, err := own.New(own.Options{Config: o.Cluster.Config, Name: name, Log: o.Log})
	if err != nil {
		return err
	}
	if err := f.setPage(o); err != nil {
		return err
	}
	o.Cluster.Alone["the hub"], o.Cluster.Alone["the registration with the hub"] = h, r
	return nil
}

// setPage adds the page for readers who show a token.
func (f *governFlags) setPage(o *service.Options) error {
	if f.page == "" {
		return nil
	}
	if _, ok := service.OnLoopback(f.page); o.InsecureHTTP && !ok {
		return errors.New("--page-listen needs TLS, for tokens are sent there: leave --insecure-http, or choose 127.0.0.1:PORT")
	}
	h, err := hubOf(o.Cluster.Config)
	if err != nil {
		return err
	}
	readers, err := pageserver.NewReviewed(o.Cluster.Config, o.Clock)
	if err != nil {
		return err
	}
	read := func(ctx context.Context) (page.Input, error) {
		in, _, err := h.pageInput(ctx, overview.Filter{})
		return in, err
	}
	o.Page, o.PageListen = pageserver.New(pageserver.Options{Source: read, Readers: readers, Clock: o.Clock, Log: o.Log}), f.page
	return nil
}

// sinks are who is notified. No error holds a URL: there may be a secret in it.
func (f *governFlags) sinks() ([]governhub.Sink, error) {
	if len(f.notify) == 0 {
		return nil, nil
	}
	var roots *x509.CertPool
	if f.caFile != "" {
		text, err := input.ReadLimited(f.caFile, trust.MaxPEMBytes)
		if err != nil {
			return nil, fmt.Errorf("--notify-ca: %w", err)
		}
		certs, err := trust.ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("--notify-ca %s: %w", f.caFile, err)
		}
		roots = x509.NewCertPool()
		for _, c := range certs {
			roots.AddCert(c)
		}
	}
	header := http.Header{}
	if f.notifyHeader != "" {
		text, err := input.ReadLimited(f.notifyHeader, maxNotifyHeader)
		if err != nil {
			return nil, fmt.Errorf("--notify-header-file: %w", err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			name, value, ok := strings.Cut(line, ":")
			if !ok || strings.TrimSpace(name) == "" {
				return nil, fmt.Errorf("--notify-header-file %s: line %d is not NAME: VALUE", f.notifyHeader, i+1)
			}
			header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	var out []governhub.Sink
	for _, url := range f.notify {
		out = append(out, governhub.Sink{URL: url, Header: header, Roots: roots})
	}
	return out, nil
}

// readAddOn reads the manifests that an agent installs where the hub says so.
func readAddOn(path, version string) (addon.Set, error) {
	if path == "" {
		return addon.Set{}, nil
	}
	text, err := input.ReadLimited(path, addon.MaxManifests)
	if err != nil {
		return addon.Set{}, fmt.Errorf("--add-on: %w", err)
	}
	s, err := addon.Parse(text, version, nil)
	if err != nil {
		return addon.Set{}, fmt.Errorf("--add-on %s: %w", path, err)
	}
	return s, nil
}
