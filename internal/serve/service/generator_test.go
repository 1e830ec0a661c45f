package service_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// generatedSteps is how many steps the generator makes where BOLTSEAL_GENERATOR, a
// duration, does not say for how long; BOLTSEAL_SEED repeats one that went wrong.
const generatedSteps = 150

// TestNothingWrongIsAdmittedWhateverHappens mixes tenants with policies and resources
// of their own, tags that move, registries that fail and hang, signers that are
// rotated, configurations that are broken and servers that restart, and holds every
// image that is admitted against a list of who signed what and who is trusted now. Where
// nothing fails, what is trusted is admitted, too.
func TestNothingWrongIsAdmittedWhateverHappens(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("BOLTSEAL_SEED"); text != "" {
		seed = testhouse.Need(strconv.ParseUint(text, 10, 64))(t)
	}
	var length time.Duration
	if text := os.Getenv("BOLTSEAL_GENERATOR"); text != "" {
		length = testhouse.Need(time.ParseDuration(text))(t)
	}
	t.Logf("BOLTSEAL_SEED=%d", seed)
	g := newGenerator(t, seed)
	began := time.Now()
	for i := 0; length > 0 && time.Since(began) < length || length == 0 && i < generatedSteps; i++ {
		g.step()
		if t.Failed() {
			t.Fatalf("step %d, after: %s", i, strings.Join(g.history[max(0, len(g.history)-12):], "; "))
		}
	}
	t.Logf("after %v: %d steps, %v, %v", time.Since(began).Round(time.Second), len(g.history), g.counts, g.spent)
	for _, what := range []string{"admitted", "refused", "rotate", "restart", "fault", "move", "edit", "break", "calm"} {
		if g.counts[what] == 0 && what != "admitted" && what != "refused" { // it is rare: then now
			g.do(what)
		}
		if g.counts[what] == 0 {
			t.Errorf("it never came to: %s", what)
		}
	}
}

// generator is a service in a world that changes, and what is known of that world
// besides what the service says.
type generator struct {
	*running
	t       *testing.T
	rng     *rand.Rand
	house   *testhouse.House
	signers []*testca.Chain
	probes  []string // an image of each signer alone
	secrets *changingSecret
	log     *lockedBuffer
	history []string
	counts  map[string]int
	spent   map[string]time.Duration

	// What is so, whatever the service believes.
	signed  map[digest.Digest]map[int]bool // who signed an image
	images  []digest.Digest
	tags    map[string]digest.Digest
	trusted map[int]bool // by the cluster
	memory  bool         // the cluster's policy falls back on what was known
	tenants map[string]*tenant
	broken  bool // the configuration file cannot be read now
	edits   int

	live *world // as it was when the file could be read last; nil = nothing is in force
	mu   sync.Mutex
}

// tenant is what a namespace demands beside the cluster, nil trust = by the cluster's
// signers.
type tenant struct {
	trust  map[int]bool
	action string
}

// world is what is in force.
type world struct{ tenants map[string]*tenant }

var namespaces = []string{"team-a", "team-b", "team-c"}

// changingSecret is a Secret that somebody edits.
type changingSecret struct {
	mu      sync.Mutex
	pem     []byte
	changed map[int]func()
	next    int
}

func (s *changingSecret) Get(_ context.Context, _, _, name string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "roots" {
		return nil, boltseal.ErrNotFound
	}
	if len(s.pem) == 0 {
		return map[string][]byte{}, nil // text that is no certificate says nothing; that there is none says all
	}
	return map[string][]byte{"ca.crt": s.pem}, nil
}

func (*changingSecret) PullSecrets(context.Context, string, string) ([]string, error) {
	return nil, boltseal.ErrNotFound
}

func (s *changingSecret) Watch(ctx context.Context, _, _, _ string, changed func()) {
	s.mu.Lock()
	id := s.next
	s.next++
	s.changed[id] = changed
	s.mu.Unlock()
	changed()
	<-ctx.Done()
	s.mu.Lock()
	delete(s.changed, id)
	s.mu.Unlock()
}

func (s *changingSecret) set(pem []byte) {
	s.mu.Lock()
	s.pem = pem
	all := slices.Collect(maps.Values(s.changed))
	s.mu.Unlock()
	for _, f := range all {
		f()
	}
}

func newGenerator(t *testing.T, seed uint64) *generator {
	t.Helper()
	g := &generator{t: t, rng: rand.New(rand.NewPCG(seed, 1)), house: testhouse.New(t, testhouse.Options{Registry: testregistry.Options{MaxLog: -1}}), //nolint:gosec // a test's
		secrets: &changingSecret{changed: map[int]func(){}}, counts: map[string]int{}, spent: map[string]time.Duration{}, signed: map[digest.Digest]map[int]bool{}, tags: map[string]digest.Digest{},
		trusted: map[int]bool{0: true}, tenants: map[string]*tenant{}}
	for range 4 {
		g.signers = append(g.signers, testca.Test(t, testca.Options{}))
	}
	for i, c := range g.signers {
		image := g.house.Registry.PushImage(testhouse.Repo, fmt.Sprint("probe", i), 0)
		g.house.Registry.Sign(testhouse.Repo, image, c, testca.SignOptions{})
		g.signed[image.Digest] = map[int]bool{i: true}
		g.probes = append(g.probes, g.house.Registry.Pinned(testhouse.Repo, image.Digest))
	}
	g.secrets.pem = g.pem(g.trusted)
	for i := range 6 {
		g.push(fmt.Sprint("v", i), i%3 == 0)
	}
	g.start()
	return g
}

func (g *generator) pem(trusted map[int]bool) []byte {
	var out []byte
	for _, i := range slices.Sorted(maps.Keys(trusted)) {
		out = append(out, g.signers[i].Root().PEM()...)
	}
	return out
}

// push makes an image, signed by some, and moves the tag to it.
func (g *generator) push(tag string, nobody bool) {
	image := g.house.Registry.PushImage(testhouse.Repo, tag, 64+g.rng.IntN(1<<20))
	by := map[int]bool{}
	for i, c := range g.signers {
		if !nobody && g.rng.IntN(2) == 0 {
			g.house.Registry.Sign(testhouse.Repo, image, c, testca.SignOptions{})
			by[i] = true
		}
	}
	if g.signed[image.Digest] == nil {
		g.signed[image.Digest] = map[int]bool{}
		g.images = append(g.images, image.Digest)
	}
	maps.Copy(g.signed[image.Digest], by)
	g.tags[tag] = image.Digest
}

// text is the configuration as it is meant to be.
func (g *generator) text() string {
	g.edits++
	memory := ""
	if g.memory {
		memory = "onUnavailable: {action: lastKnownGood}"
	}
	out := strings.Replace(config([]byte("x"), policy("all", memory), policy(fmt.Sprint("edit-", g.edits), "enforcementAction: warn")), "  type: inline\n  parameters:\n    value: |\n      x\n", "  type: secret\n  parameters: {name: roots, namespace: boltseal-system}\n", 1)
	for _, ns := range slices.Sorted(maps.Keys(g.tenants)) {
		own := g.tenants[ns]
		out += "---\napiVersion: boltseal.dev/v1alpha1\nkind: NamespacedImageIntegrityPolicy\nmetadata: {name: own, namespace: " + ns + "}\nspec: {enforcementAction: " + own.action + ", onUnavailable: {action: " + []string{"deny", "allow", "lastKnownGood"}[len(own.trust)%3] + "}}\n"
		if own.trust == nil {
			continue
		}
		text := config(g.pem(own.trust))
		for _, kind := range []string{"KeyManagementProvider", "Store", "Verifier"} {
			text = strings.Replace(text, "kind: "+kind+"\nmetadata: {name: ", "kind: Namespaced"+kind+"\nmetadata: {namespace: "+ns+", name: ", 1)
		}
		out += "---\n" + text
	}
	if g.broken {
		out += "---\nkind: Nothing\n"
	}
	return out
}

// applied waits until the last edit is in force, which has a policy of its number.
func (g *generator) applied() {
	g.t.Helper()
	g.await("the edit is in force", func() bool {
		a := g.review(server.PathValidate+"?timeout=300ms", "elsewhere", g.probes[:1]) // whatever becomes of the image
		return a != nil && strings.Contains(fmt.Sprint(a.AuditAnnotations), fmt.Sprintf("edit-%d=warn", g.edits))
	})
}

// start starts a server with the configuration as it is.
func (g *generator) start() {
	g.log = &lockedBuffer{}
	kept := shortLived
	if g.rng.IntN(2) == 0 {
		kept = memo.Options{} // what a cache keeps for as long as usual is no excuse
	}
	o := service.Options{Keys: keys.Env{Objects: g.secrets}, Memo: kept, Log: slog.New(slog.NewTextHandler(g.log, nil)), Audit: io.Discard}
	text := g.text()
	g.live = g.world()
	g.running = startWith(g.t, g.house, o, text)
	if g.broken {
		g.live = nil
		return
	}
	g.applied()
	g.settle()
}

// settle waits until the service trusts whom the Secret names now, and nobody else: an
// image of each signer says so.
func (g *generator) settle() {
	g.t.Helper()
	if g.live == nil {
		return
	}
	g.house.Registry.ClearFaults()
	g.await("the Secret is in force", func() bool {
		for i := range g.signers {
			if a := g.review(server.PathValidate, "elsewhere", []string{g.probes[i]}); a == nil || a.Allowed != g.trusted[i] {
				return false
			}
		}
		return true
	})
}

func (g *generator) world() *world {
	w := &world{tenants: map[string]*tenant{}}
	for ns, own := range g.tenants {
		w.tenants[ns] = &tenant{maps.Clone(own.trust), own.action}
	}
	return w
}

// await waits for what the service is to have noticed; only a hang reaches the end.
func (g *generator) await(what string, f func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !f(); time.Sleep(2 * time.Millisecond) { // waits: it polls; only a hang reaches the deadline
		if time.Now().After(deadline) {
			g.t.Fatalf("%s: did not happen; the log:\n%s", what, g.log.String())
		}
	}
}

type action struct {
	name   string
	weight int
	do     func()
}

func (g *generator) actions() []action {
	return []action{
		{"ask", 20, g.ask}, {"flood", 1, g.flood}, {"move", 3, func() { g.push(fmt.Sprint("v", g.rng.IntN(6)), g.rng.IntN(3) == 0) }},
		{"retag", 2, g.retag}, {"rotate", 4, g.rotate}, {"edit", 2, g.edit}, {"break", 1, g.breaks}, {"fault", 3, g.fault}, {"calm", 2, g.calm}, {"restart", 1, g.restart},
	}
}

// do does what has a name.
func (g *generator) do(name string) {
	for _, a := range g.actions() {
		if a.name == name {
			g.counts[name]++
			g.history = append(g.history, name)
			began := time.Now()
			a.do()
			g.spent[name] += time.Since(began)
		}
	}
}

// step does something, or asks.
func (g *generator) step() {
	actions, total := g.actions(), 0
	for _, a := range actions {
		total += a.weight
	}
	n := g.rng.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			g.do(a.name)
			return
		}
	}
}

// retag moves a tag to an image that is there already.
func (g *generator) retag() {
	tag := fmt.Sprint("v", g.rng.IntN(6))
	d := g.images[g.rng.IntN(len(g.images))]
	g.house.Registry.Tag(testhouse.Repo, tag, d)
	g.tags[tag] = d
}

// rotate puts other roots into the Secret; while the file is broken, too.
func (g *generator) rotate() {
	before := g.pem(g.trusted)
	i := g.rng.IntN(len(g.signers))
	if g.trusted[i] && g.rng.IntN(4) > 0 {
		delete(g.trusted, i)
	} else {
		g.trusted[i] = true
	}
	if after := g.pem(g.trusted); !bytes.Equal(before, after) {
		g.secrets.set(after)
		g.settle()
	}
}

// edit changes what a tenant, or the cluster, demands, and mends what was broken.
func (g *generator) edit() {
	ns := namespaces[g.rng.IntN(len(namespaces))]
	switch g.rng.IntN(4) {
	case 0:
		delete(g.tenants, ns)
	case 1:
		g.memory = !g.memory
	default:
		own := &tenant{action: []string{"deny", "warn", "dryrun"}[g.rng.IntN(3)]}
		if g.rng.IntN(3) > 0 {
			own.trust = map[int]bool{g.rng.IntN(len(g.signers)): true, g.rng.IntN(len(g.signers)): true}
		}
		g.tenants[ns] = own
	}
	g.broken = false
	g.write(g.text())
	g.applied()
	g.live = g.world()
	g.settle()
}

// breaks makes the file one that cannot be read: what was in force stays.
func (g *generator) breaks() {
	if g.broken {
		return
	}
	g.broken = true
	const said = "the configuration does not work"
	n := strings.Count(g.log.String(), said)
	g.write(g.text())
	g.await("the broken edit is noticed", func() bool { return strings.Count(g.log.String(), said) > n })
}

// fault has the registry fail, hang or lie for a while, or stop doing so.
func (g *generator) fault() {
	g.house.Registry.ClearFaults()
	if g.rng.IntN(2) == 0 {
		return
	}
	kinds := []testregistry.Fault{{Kind: testregistry.Status}, {Kind: testregistry.Status, Status: 401}, {Kind: testregistry.Status, Status: 404}, {Kind: testregistry.Status, Status: 429, RetryAfter: "1"},
		{Kind: testregistry.Reset}, {Kind: testregistry.Hang, Times: 3}, {Kind: testregistry.WrongBody}, {Kind: testregistry.TruncatedBody}, {Kind: testregistry.ShortBody}, {Kind: testregistry.WrongDigest},
		{Kind: testregistry.NoHeaders}, {Kind: testregistry.FalseFilter}, {Kind: testregistry.WrongContentType, Value: "text/html"}}
	f := kinds[g.rng.IntN(len(kinds))]
	f.Probability = []float64{0.3, 0.7, 1}[g.rng.IntN(3)]
	g.house.Registry.Inject(f)
}

func (g *generator) restart() {
	if err := g.stop(); err != nil {
		g.t.Logf("stopping: %v", err)
	}
	g.start()
}
