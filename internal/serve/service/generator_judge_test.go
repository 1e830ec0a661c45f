package service_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// asked is a Pod in a namespace, with the way it is asked about.
type asked struct {
	namespace, timeout string
	images             []string
	pin                bool
}

func (g *generator) image() string {
	if g.rng.IntN(2) == 0 {
		return g.house.Registry.Ref(testhouse.Repo, fmt.Sprint("v", g.rng.IntN(6)))
	}
	d := g.images[g.rng.IntN(len(g.images))]
	if g.rng.IntN(3) == 0 {
		return g.house.Registry.Ref(testhouse.Repo, fmt.Sprint("v", g.rng.IntN(6))) + "@" + d.String()
	}
	return g.house.Registry.Pinned(testhouse.Repo, d)
}

// ask asks about some Pods side by side.
func (g *generator) ask() {
	var wg sync.WaitGroup
	for range 1 + g.rng.IntN(4) {
		q := asked{namespace: append(namespaces, "elsewhere")[g.rng.IntN(4)], pin: g.rng.IntN(3) > 0, timeout: []string{"?timeout=300ms", "?timeout=1s", "?timeout=20ms"}[g.rng.IntN(3)]}
		for range 1 + g.rng.IntN(2) {
			q.images = append(q.images, g.image())
		}
		key := ""
		if g.rng.IntN(3) == 0 {
			key = g.house.Registry.Pinned(testhouse.Repo, g.images[g.rng.IntN(len(g.images))])
		}
		wg.Go(func() { g.judge(q, key) })
	}
	wg.Wait()
}

// calm ends all faults. As soon as an image that is trusted was admitted once, it is
// admitted whenever somebody asks: nothing that was kept of worse times denies it.
func (g *generator) calm() {
	if g.live == nil {
		return
	}
	g.house.Registry.ClearFaults()
	for range 4 {
		namespace := append(namespaces, "elsewhere")[g.rng.IntN(4)]
		image := g.probes[g.rng.IntN(len(g.probes))]
		if g.rng.IntN(3) > 0 {
			image = g.house.Registry.Pinned(testhouse.Repo, g.images[g.rng.IntN(len(g.images))])
		}
		if g.wrongly(g.trusted, image) != "" {
			continue
		}
		if own := g.live.tenants[namespace]; own != nil && own.action == "deny" && g.wrongly(g.signersOf(namespace), image) != "" {
			continue
		}
		g.await("nothing fails any more, and "+image+" is admitted in "+namespace, func() bool {
			a := g.review(server.PathValidate, namespace, []string{image})
			return a != nil && a.Allowed
		})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				a := g.review(server.PathValidate, namespace, []string{image})
				if a == nil || !a.Allowed {
					g.t.Errorf("WRONG DENY in %s: %s, signed by %v, trusted are %v: %+v", namespace, image, g.signed[digest.Digest(image[strings.Index(image, "@")+1:])], g.trusted, a)
				}
			})
		}
		wg.Wait()
		g.counts["admitted as they should be"]++
	}
}

// flood is a tenant who asks about much that nobody has.
func (g *generator) flood() {
	q := asked{namespace: namespaces[g.rng.IntN(3)], timeout: "?timeout=300ms"}
	for i := range 60 {
		q.images = append(q.images, g.house.Registry.Ref(testhouse.Repo, fmt.Sprint("none", g.edits, "-", i)))
	}
	g.judge(q, "")
}

// judge asks as the API server does: what pins first, then what judges. Then it holds
// what was admitted against what is so.
func (g *generator) judge(q asked, key string) {
	if q.pin {
		if a := g.review(server.PathPin+q.timeout, q.namespace, q.images); a != nil && len(a.Patch) > 0 {
			var ops []struct{ Op, Path, Value string }
			if err := json.Unmarshal(a.Patch, &ops); err != nil {
				g.t.Error(err)
			}
			for _, op := range ops {
				var i int
				if _, err := fmt.Sscanf(op.Path, "/spec/containers/%d/image", &i); err == nil && op.Op == "replace" {
					q.images[i] = op.Value
				}
			}
		}
	}
	a := g.review(server.PathValidate+q.timeout, q.namespace, q.images)
	admitted := a != nil && a.Allowed
	g.mu.Lock()
	if admitted {
		g.counts["admitted"]++
	} else {
		g.counts["refused"]++
	}
	g.mu.Unlock()
	if admitted {
		for _, image := range q.images {
			if why := g.wrong(q.namespace, image); why != "" {
				g.t.Errorf("WRONG ALLOW in %s: %s: %s", q.namespace, image, why)
			}
		}
	}
	if key != "" && g.trustedByGatekeeper("["+q.namespace+"]"+key) {
		if why := g.wrongly(g.signersOf(q.namespace), key); why != "" {
			g.t.Errorf("WRONG REPORT for %s: %s: %s", q.namespace, key, why)
		}
	}
}

// wrong says why an image must not have been admitted, "" where it may.
func (g *generator) wrong(namespace, image string) string {
	if why := g.wrongly(g.trusted, image); why != "" {
		return "for the cluster: " + why
	}
	if g.live == nil {
		return "nothing is in force"
	}
	if own := g.live.tenants[namespace]; own != nil && own.action == "deny" {
		if why := g.wrongly(g.signersOf(namespace), image); why != "" && len(own.trust)%3 != 1 { // 1: its own policy admits what cannot be judged
			return "for the namespace: " + why
		}
	}
	return ""
}

// signersOf are those whom a namespace's own resources trust, else the cluster's.
func (g *generator) signersOf(namespace string) map[int]bool {
	if g.live != nil && g.live.tenants[namespace] != nil && g.live.tenants[namespace].trust != nil {
		return g.live.tenants[namespace].trust
	}
	return g.trusted
}

func (g *generator) wrongly(trusted map[int]bool, image string) string {
	_, d, pinned := strings.Cut(image, "@")
	if !pinned {
		return "it carries no digest, and a node may pull anything"
	}
	for i := range g.signed[digest.Digest(d)] {
		if trusted[i] {
			return ""
		}
	}
	return fmt.Sprintf("signed by %v, trusted are %v", slices.Sorted(maps.Keys(g.signed[digest.Digest(d)])), slices.Sorted(maps.Keys(trusted)))
}

// review asks, and returns nil where there was no answer.
func (g *generator) review(path, namespace string, images []string) *admissionv1.AdmissionResponse {
	q := pod(namespace, images...)
	resp, err := g.client.Post(g.base+path, "application/json", bytes.NewReader(reviewOf(q)))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var rv admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&rv); err != nil || resp.StatusCode != http.StatusOK || rv.Response == nil || rv.Response.UID != q.UID {
		return nil
	}
	return rv.Response
}

func (g *generator) trustedByGatekeeper(key string) bool {
	body, _ := json.Marshal(map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": []string{key}}})
	resp, err := g.client.Post(g.base+server.PathVerify, "application/json", bytes.NewReader(body))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var out struct{ Response struct{ Items []item } }
	return json.NewDecoder(resp.Body).Decode(&out) == nil && len(out.Response.Items) == 1 && out.Response.Items[0].trusted()
}
