package serve

import (
	"testing"

	"github.com/boltseal/boltseal/internal/serve/service"
)

// TestHealthAndMetricsStayOnLoopbackWithTheRest: nothing of a server that is kept to
// one machine answers another, unless that is asked for.
func TestHealthAndMetricsStayOnLoopbackWithTheRest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ listen, set, health, metrics string }{
		{"127.0.0.1:6001", "", "127.0.0.1:9099", "127.0.0.1:8888"},
		{"localhost:0", "", "localhost:9099", "localhost:8888"},
		{"[::1]:6001", "", "[::1]:9099", "[::1]:8888"},
		{"127.8.0.1:6001", "health-listen", ":9099", "127.8.0.1:8888"},
		{"127.0.0.1:6001", "metrics-listen", "127.0.0.1:9099", ":8888"},
		{":6001", "", ":9099", ":8888"},
		{"0.0.0.0:6001", "", ":9099", ":8888"},
		{"[::]:6001", "", ":9099", ":8888"},
		{"10.0.0.1:6001", "", ":9099", ":8888"},
		{"nonsense", "", ":9099", ":8888"},
	} {
		o := service.Options{Listen: tt.listen, Health: ":9099", Metrics: ":8888"}
		followLoopback(&o, func(flag string) bool { return flag == tt.set })
		if o.Health != tt.health || o.Metrics != tt.metrics {
			t.Errorf("%+v: %s %s", tt, o.Health, o.Metrics)
		}
	}
	o := service.Options{Listen: "127.0.0.1:1", Health: "", Metrics: ""}
	if followLoopback(&o, func(string) bool { return true }); o.Health != "" || o.Metrics != "" {
		t.Errorf("left out, and there: %+v", o)
	}
}
