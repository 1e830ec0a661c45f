package boltseal

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestMayRun: what containerd's and CRI-O's choice of a manifest comes to is among
// what is looked at, and so is what is not understood.
func TestMayRun(t *testing.T) {
	t.Parallel()
	for node, want := range map[string]struct{ yes, no string }{
		"linux/amd64": {"linux/amd64 linux/amd64/v1 linux/amd64/v3 linux/386 LINUX/AMD64 linux/x86_64 linux/x86-64 linux/i386 /amd64 linux/ unknown/unknown linux/amd65 linuks/amd64 linux/armada",
			"linux/arm64 linux/arm/v7 windows/amd64 linux/s390x darwin/amd64 macos/x86_64 linux/aarch64 wasip1/wasm freebsd/amd64"},
		"linux/amd64/v2": {"linux/amd64 linux/amd64/v1 linux/amd64/v2 linux/386 linux/amd64/2 linux/amd64/new", "linux/amd64/v3 linux/x86_64/V4"},
		"linux/arm64":    {"linux/arm64 linux/arm64/v8 linux/arm64/v9 linux/aarch64 linux/arm linux/arm/v7 linux/arm/v5 linux/armhf linux/armel", "linux/amd64 linux/386 linux/ppc64le"},
		"linux/arm64/v8": {"linux/arm64 linux/arm64/v8 linux/arm64/8 linux/arm/v8 linux/arm/v6", "linux/arm64/v9 linux/arm64/v8.1 linux/amd64"},
		"linux/arm64/v9": {"linux/arm64 linux/arm64/v8.5 linux/arm64/v9", "linux/arm64/v9.1"},
		"linux/arm/v6":   {"linux/arm/v6 linux/arm/v5 linux/armel linux/armel/v9 linux/arm/6", "linux/arm linux/arm/v7 linux/armhf linux/armhf/v5 linux/arm64"},
		"linux/arm/v7":   {"linux/arm linux/arm/v7 linux/arm/v6 linux/armhf/v9 linux/armel/v9", "linux/arm/v8 linux/arm64"},
		"linux/386":      {"linux/386 linux/i386", "linux/amd64"},
		"windows/amd64":  {"windows/amd64 Windows/amd64 windows(10.0.17763)/amd64 windows/386", "linux/amd64 windows/arm64"},
		"freebsd/amd64":  {"freebsd/amd64 linux/amd64 linux/386", "linux/arm64 windows/amd64"},
		"darwin/arm64":   {"darwin/arm64 macos/arm64 linux/arm64", "linux/amd64"},
	} {
		p, err := ParsePlatform(node)
		if err != nil {
			t.Fatal(err)
		}
		for text, may := range map[string]bool{want.yes: true, want.no: false} {
			for _, entry := range strings.Fields(text) {
				parts := append(strings.Split(entry, "/"), "")
				if got := p.mayRun(&ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2], OSVersion: "1"}); got != may {
					t.Errorf("%s may run %s: %v", node, entry, got)
				}
			}
		}
		if !p.mayRun(nil) || !p.mayRun(&ocispec.Platform{}) {
			t.Errorf("%s: no platform fits all", node)
		}
	}
	if got := platformName(&ocispec.Platform{OS: "li\nnux", Architecture: strings.Repeat("a", 99), Variant: "\x1b[31m", OSVersion: "é"}); got != "li?nux/"+strings.Repeat("a", 32)+"/??31m ?" {
		t.Errorf("%q", got)
	}
}
