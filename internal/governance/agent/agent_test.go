package agent

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

func options() Options {
	return Options{Hub: &rest.Config{}, Member: &rest.Config{}, Cluster: "c", Namespace: "ns"}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	a, err := New(options())
	if err != nil {
		t.Fatal(err)
	}
	if 3*a.o.Heartbeat > compliance.StaleAfter || len(a.o.Exempt) != 1 || a.o.Exempt[0] != "ns" || len(a.Metrics()) == 0 {
		t.Errorf("%+v", a.o)
	}
	for what, change := range map[string]func(*Options){
		"no hub":                       func(o *Options) { o.Hub = nil },
		"no member":                    func(o *Options) { o.Member = nil },
		"no cluster":                   func(o *Options) { o.Cluster = "" },
		"no namespace":                 func(o *Options) { o.Namespace = "" },
		"a heartbeat that is too slow": func(o *Options) { o.Heartbeat = compliance.StaleAfter },
	} {
		o := options()
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	var b backOff
	for range 20 {
		if d := b.step(); d < firstBackOff/2 || d > mostBackOff {
			t.Errorf("%s", d)
		}
	}
	if b.next != mostBackOff {
		t.Errorf("%s", b.next)
	}
	if b.reset(); b.step() > firstBackOff {
		t.Error("it does not begin anew")
	}
}

// TestGone has a hub that loses the bundle, is cut off, and answers again.
func TestGone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	o := options()
	o.Clock = func() time.Time { return now }
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{Agent: a, changed: make(chan struct{}, 1), noHub: func(error) {}}
	l.told(nil)
	if b, _ := l.demanded(now); b != nil {
		t.Fatal("what nobody said is required")
	}
	b := &v1alpha1.ClusterBundle{}
	b.UID, b.Generation, b.Spec.Demands = types.UID("u"), 1, []v1alpha1.Demand{{Name: "d"}}
	l.told(b)
	demands := func() int {
		k, _ := l.demanded(now)
		return len(k.Spec.Demands)
	}
	l.told(nil)
	if _, again := l.demanded(now); demands() != 1 || !again.Equal(now.Add(DefaultGoneAfter)) {
		t.Error("a bundle that is gone is not required at once")
	}
	now = now.Add(DefaultGoneAfter - time.Second)
	l.contact(errors.New("away"))
	now = now.Add(time.Hour)
	if demands() != 1 {
		t.Error("a hub that is away has nothing to say")
	}
	l.told(nil)
	now = now.Add(DefaultGoneAfter - time.Second)
	if demands() != 1 {
		t.Error("it has to say so without a break")
	}
	now = now.Add(time.Second)
	if demands() != 0 || !l.unsaved {
		t.Error("it is still required")
	}
	l.told(b)
	if demands() != 1 {
		t.Error("it is not required again")
	}
}

func TestHubsAnswersAreBounded(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range MaxHubResponse/(1<<20) + 2 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}))
	defer srv.Close()
	c := http.Client{Transport: bounded{http.DefaultTransport}}
	resp, err := c.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, buf := 0, make([]byte, 1<<20)
	for {
		k, err := resp.Body.Read(buf)
		if n += k; err != nil {
			break
		}
	}
	if n != MaxHubResponse {
		t.Errorf("%d bytes", n)
	}
}
