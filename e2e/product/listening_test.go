package product

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestListeners reads addresses out of logs as Boltseal writes them.
func TestListeners(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	before := `time=2026-01-01T00:00:00Z level=INFO msg=listening what=health address=127.0.0.1:1 tls=false` + "\n"
	text := before + `time=2026-01-01T00:00:00Z level=INFO msg=listening what="provider and webhook" address=127.0.0.1:4001 tls=true
time=2026-01-01T00:00:00Z level=INFO msg=listening what=health address=127.0.0.1:4002 tls=false
{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"listening","what":"metrics","address":"[::]:4003","tls":false}
{"msg":"active configuration","what":"none"}
time=2026-01-01T00:00:00Z level=INFO msg=listening what=half address=127.0.0.1:40`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := listeners(file, int64(len(before)))
	want := map[string]string{Main: "127.0.0.1:4001", Health: "127.0.0.1:4002", Metrics: "[::]:4003"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if LogSize(file) != int64(len(text)) || LogSize(file+"x") != 0 {
		t.Error("the size of the log is wrong")
	}
}
