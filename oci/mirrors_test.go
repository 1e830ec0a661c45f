package oci_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const below = "cache/" + repo // where the mirror keeps it

// mirrored is an image at its origin and at a mirror.
type mirrored struct {
	origin image
	mirror *testregistry.Registry
	store  *oci.Mirrors
	now    time.Time
}

// newMirrored makes an image that has signatures at its origin, and at a mirror.
func newMirrored(t *testing.T, atOrigin, atMirror int, only bool) *mirrored {
	t.Helper()
	m := &mirrored{origin: newImage(t, testregistry.Options{}, atOrigin), mirror: testregistry.New(t, testregistry.Options{}), now: time.Now()}
	content, err := newRegistry(t, oci.Options{}).Manifest(testContext(t), m.origin.byDigest(), m.origin.desc)
	if err != nil {
		t.Fatal(err)
	}
	if d := m.mirror.PushManifest(below, "v1", m.origin.desc.MediaType, content); d.Digest != m.origin.desc.Digest {
		t.Fatal(d)
	}
	for n := range atMirror {
		m.mirror.PushReferrer(below, m.origin.desc, notation, []byte{'m', byte(n)})
	}
	m.mirror.ResetLog()
	m.origin.reg.ResetLog()
	m.start(t, testwait.Patience, only)
	return m
}

// start begins anew, with the mirror first; each place may take so long while another is left.
func (m *mirrored) start(t *testing.T, timeout time.Duration, only bool) {
	t.Helper()
	var err error
	m.store, err = oci.NewMirrors(oci.MirrorOptions{
		Store:   newRegistry(t, oci.Options{Limits: oci.Limits{Attempts: 1}}),
		Mirrors: []oci.Mirror{{Source: m.origin.reg.Host, Endpoints: []string{m.mirror.Host + "/cache"}, Only: only}},
		Timeout: timeout,
		Clock:   func() time.Time { return m.now },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (m *mirrored) list(t *testing.T) (int, error) {
	t.Helper()
	l, err := m.store.Referrers(testContext(t), m.origin.byDigest(), m.origin.desc.Digest, []string{notation})
	return len(l.Referrers), err
}

func TestMirrorComesFirst(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, 1, 2, false)
	if d, err := m.store.Resolve(testContext(t), m.origin.byTag()); err != nil || d.Digest != m.origin.desc.Digest {
		t.Fatal(d, err)
	}
	if n, err := m.list(t); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := m.store.Manifest(testContext(t), m.origin.byDigest(), m.origin.desc); err != nil {
		t.Fatal(err)
	}
	if n := len(m.origin.reg.Requests()); n != 0 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// TestMirrorWithoutSignatures: what a pull-through cache does not have is asked
// of the origin.
func TestMirrorWithoutSignatures(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, 3, 0, false)
	if n, err := m.list(t); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	l, err := m.store.Referrers(testContext(t), m.origin.byDigest(), m.origin.desc.Digest, []string{notation})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Manifest(testContext(t), m.origin.byDigest(), l.Referrers[0]); err != nil {
		t.Fatal(err)
	}
	// Nobody has any: that is an answer, but only where everybody answered.
	none := newMirrored(t, 0, 0, false)
	if n, err := none.list(t); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	none.origin.reg.Inject(testregistry.Fault{Kind: testregistry.Status})
	if n, err := none.list(t); n != 0 || !errors.Is(err, boltseal.ErrUnavailable) {
		t.Fatal("an outage of the origin became an answer", n, err)
	}
}

func TestMirrorOutages(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testregistry.Fault{
		"503":   {Kind: testregistry.Status},
		"401":   {Kind: testregistry.Status, Status: http.StatusUnauthorized},
		"hangs": {Kind: testregistry.Hang},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirrored(t, 1, 2, false)
			m.mirror.Inject(fault)
			again := func() {
				if name == "hangs" {
					m.start(t, 100*time.Millisecond, false) // waits: the mirror, which never answers, is asked first, and no time is set for the origin
				}
			}
			again()
			if d, err := m.store.Resolve(testContext(t), m.origin.byTag()); err != nil || d.Digest != m.origin.desc.Digest {
				t.Fatal(d, err)
			}
			again()
			if n, err := m.list(t); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			// Neither the mirror nor the origin without its list: left open.
			m.origin.reg.Inject(testregistry.Fault{Kind: testregistry.Status})
			again()
			if _, err := m.store.Resolve(testContext(t), m.origin.byTag()); !errors.Is(err, boltseal.ErrUnavailable) {
				t.Error(err)
			}
			again()
			if _, err := m.list(t); !errors.Is(err, boltseal.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
}

// TestMirrorDownHasSignatures: that the origin has no signature says nothing as
// long as the mirror, which may have one, does not answer.
func TestMirrorDownHasSignatures(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, 0, 1, false)
	m.mirror.Inject(testregistry.Fault{Kind: testregistry.Status})
	if n, err := m.list(t); n != 0 || !errors.Is(err, boltseal.ErrUnavailable) {
		t.Fatal(n, err)
	}
}

// TestMirrorIsLeftAlone: one that did not answer comes last for a while.
func TestMirrorIsLeftAlone(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, 1, 2, false)
	m.mirror.Inject(testregistry.Fault{Kind: testregistry.Status})
	if n, err := m.list(t); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	m.mirror.ClearFaults()
	m.mirror.ResetLog()
	if n, err := m.list(t); n != 1 || err != nil || len(m.mirror.Requests()) != 0 {
		t.Fatal(n, err, m.mirror.Requests())
	}
	m.now = m.now.Add(oci.DefaultMirrorPause + time.Second)
	if n, err := m.list(t); n != 2 || err != nil {
		t.Fatal(n, err)
	}
}

func TestMirrorOnly(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, 3, 0, true)
	if n, err := m.list(t); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := m.store.Resolve(testContext(t), tagged(m.origin.reg.Host, repo, "elsewhere")); !errors.Is(err, boltseal.ErrNotFound) {
		t.Error(err)
	}
	m.mirror.Inject(testregistry.Fault{Kind: testregistry.Status})
	if _, err := m.store.Resolve(testContext(t), m.origin.byTag()); !errors.Is(err, boltseal.ErrUnavailable) {
		t.Error(err)
	}
	if n := len(m.origin.reg.Requests()); n != 0 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// TestMirrorSource: a source is whole segments of a name, and the longest counts.
func TestMirrorSource(t *testing.T) {
	t.Parallel()
	origin, first, second := newImage(t, testregistry.Options{}, 0), testregistry.New(t, testregistry.Options{}), testregistry.New(t, testregistry.Options{})
	store, err := oci.NewMirrors(oci.MirrorOptions{Store: newRegistry(t, oci.Options{Limits: oci.Limits{Attempts: 1}}), Mirrors: []oci.Mirror{
		{Source: origin.reg.Host + "/te", Endpoints: []string{first.Host}, Only: true},
		{Source: origin.reg.Host, Endpoints: []string{first.Host}, Only: true},
		{Source: origin.reg.Host + "/team", Endpoints: []string{second.Host}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Resolve(testContext(t), origin.byTag()); err != nil {
		t.Fatal(err)
	}
	if a, b := len(first.Requests()), len(second.Requests()); a != 0 || b == 0 {
		t.Errorf("%d and %d requests", a, b)
	}
	if log := second.Requests(); log[0].Path != "/v2/app/manifests/v1" {
		t.Error(log[0].Path)
	}
}

func TestMirrorMessages(t *testing.T) {
	t.Parallel()
	good := []string{"mirror.example"}
	for name, m := range map[string][]oci.Mirror{
		"no source":      {{Endpoints: good}},
		"no endpoint":    {{Source: "ghcr.io"}},
		"URL":            {{Source: "ghcr.io", Endpoints: []string{"https://mirror.example"}}},
		"no host":        {{Source: "library", Endpoints: good}},
		"itself":         {{Source: "mirror.example", Endpoints: good}},
		"twice":          {{Source: "ghcr.io", Endpoints: []string{"mirror.example", "MIRROR.example"}}},
		"two of one":     {{Source: "ghcr.io", Endpoints: good}, {Source: "ghcr.io", Endpoints: []string{"other.example"}}},
		"tag":            {{Source: "ghcr.io/a:v1", Endpoints: good}},
		"digest":         {{Source: "ghcr.io", Endpoints: []string{"mirror.example/a@sha256:0000000000000000000000000000000000000000000000000000000000000000"}}},
		"trailing slash": {{Source: "ghcr.io/", Endpoints: []string{"mirror.example//a"}}},
		"upper case":     {{Source: "ghcr.io/Team", Endpoints: good}},
		"wildcard":       {{Source: "*.example", Endpoints: good}},
	} {
		if _, err := oci.NewMirrors(oci.MirrorOptions{Mirrors: m}); !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := oci.NewMirrors(oci.MirrorOptions{Mirrors: []oci.Mirror{{Source: "docker.io/library", Endpoints: []string{"localhost:5000/hub"}}}}); err != nil {
		t.Error(err)
	}
}
