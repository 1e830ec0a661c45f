package gatekeeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestAuditListsWhatRuns shows that the audit judges a Pod by the digest that runs.
func TestAuditListsWhatRuns(t *testing.T) {
	ns := namespace(t)
	signed, signedDigest := image("audit-signed", signer)
	unsigned, unsignedDigest := image("audit-unsigned")
	for name, image := range map[string]string{"good": signed, "moved": signed, "pending": unsigned, "rescued": unsigned, "docker": unsigned} {
		if err := cluster.Apply(t.Context(), pod(ns, name, image)); err != nil {
			t.Fatal(err)
		}
	}
	for name, id := range map[string]string{
		"good":    registry.Host + "/" + repo + "@" + signedDigest,
		"moved":   registry.Host + "/" + repo + "@" + unsignedDigest, // the tag meant something else when it was pulled
		"rescued": "docker-pullable://mirror.example/" + repo + "@" + signedDigest,
		"docker":  unsignedDigest, // the id of a configuration, which says nothing about the manifest
	} {
		if err := cluster.SetRunning(t.Context(), ns, name, map[string]string{"app": id}); err != nil {
			t.Fatal(err)
		}
	}
	demand(t, ns, "deny", "")
	eventually(t, "the audit", func() error {
		v := violations(t, "BoltsealTrustedImages", ns)
		for name, listed := range map[string]bool{"good": false, "moved": true, "pending": true, "rescued": false, "docker": true} {
			if strings.Contains(v, "name:"+name+" ") != listed {
				return fmt.Errorf("%s should be listed: %t; violations %s", name, listed, v)
			}
		}
		return nil
	})
}

// TestRegistryOutage shows that an outage denies with the host's name, and heals by itself.
func TestRegistryOutage(t *testing.T) {
	ns := namespace(t)
	demand(t, ns, "deny", "")
	signed, _ := image("outage", signer)
	remove := registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})
	t.Cleanup(remove)
	err := cluster.Apply(t.Context(), pod(ns, "during", signed))
	denied(t, "while the registry answers 503", err, registry.Host, "503")
	t.Logf("an outage reads: %v", err)
	remove()
	eventually(t, "admission after the outage", func() error { return cluster.Apply(t.Context(), pod(ns, "after", signed)) })
}

// TestBoltsealOutage shows that nothing is admitted that nobody judged.
func TestBoltsealOutage(t *testing.T) {
	ns := namespace(t)
	demand(t, ns, "deny", "")
	signed, _ := image("boltseal-outage", signer)
	if err := boltseal.Process.Stop(0); err != nil {
		t.Fatal(err)
	}
	err := cluster.Apply(t.Context(), pod(ns, "during", signed))
	denied(t, "without Boltseal", err, "Boltseal did not answer")
	t.Logf("a denial without Boltseal reads: %v", err)
	next, err := product.Start(t.Context(), cluster, binary, product.Options{ClientCA: gk.ClientCA(), Name: "boltseal-again"})
	if err != nil {
		t.Fatal(err)
	}
	boltseal = next
	if err := boltseal.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := gk.Apply(t.Context(), provider(boltseal)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "admission when it is back", func() error { return cluster.Apply(t.Context(), pod(ns, "after", signed)) })
}

// TestManyAtOnce creates Pods of many images as fast as the API server takes them.
func TestManyAtOnce(t *testing.T) {
	const n = 60
	ns := namespace(t)
	demand(t, ns, "deny", "")
	type made struct {
		image string
		err   error
		trust bool
	}
	images := make([]made, n)
	for i := range images {
		if i%3 == 0 {
			images[i].image, _ = image(fmt.Sprint("many-", i))
		} else {
			images[i].image, _ = image(fmt.Sprint("many-", i), signer)
			images[i].trust = true
		}
	}
	begin := time.Now()
	done := make(chan struct{})
	for i := range images {
		go func() {
			images[i].err = cluster.Apply(t.Context(), pod(ns, fmt.Sprint("p", i), images[i].image))
			done <- struct{}{}
		}()
	}
	for range images {
		<-done
	}
	t.Logf("%d Pods of %d images in %s", n, n, time.Since(begin).Round(time.Millisecond))
	for _, m := range images {
		if m.trust {
			admitted(t, m.image, m.err)
		} else {
			denied(t, m.image, m.err, m.image, "nothing signed")
		}
	}
}
