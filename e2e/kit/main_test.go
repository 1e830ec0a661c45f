package kit

import (
	"os"
	"testing"
)

var cluster *Cluster

func TestMain(m *testing.M) { os.Exit(Main(m.Run, Options{}, &cluster)) }

// namespace makes a namespace for one test.
func namespace(t *testing.T) string {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}
