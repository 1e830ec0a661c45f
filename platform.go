package boltseal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is what a node runs: an operating system and an architecture by Go's
// names, as the field platform of an index has them (OCI image-spec 1.1,
// image-index.md). Without Variant it stands for every variant.
type Platform struct{ OS, Architecture, Variant string }

// knownOS and knownArchitectures are the names of GOOS and GOARCH that image-spec
// refers to. What is not among them is not understood.
var (
	knownOS = []string{"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd",
		"plan9", "solaris", "wasi", "wasip1", "windows", "zos"}
	knownArchitectures = []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
		"riscv64", "s390x", "sparc64", "wasm"}
)

// ParsePlatform reads OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT in lower case:
// "linux/amd64", "linux/arm64/v8". Errors wrap [ErrConfiguration].
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, fmt.Errorf("%w: the platform %.80q is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm64/v8", ErrConfiguration, s)
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if !slices.Contains(knownOS, p.OS) {
		return Platform{}, fmt.Errorf("%w: the platform %.80q: no operating system is called %q; known: %s", ErrConfiguration, s, p.OS, strings.Join(knownOS, ", "))
	}
	if !slices.Contains(knownArchitectures, p.Architecture) {
		return Platform{}, fmt.Errorf("%w: the platform %.80q: no architecture is called %q; known: %s", ErrConfiguration, s, p.Architecture, strings.Join(knownArchitectures, ", "))
	}
	if len(parts) == 3 {
		p.Variant = parts[2]
		if _, ok := variantVersion(p.Variant); !ok {
			return Platform{}, fmt.Errorf("%w: the platform %.80q: the variant %q is not v and a number, such as v8", ErrConfiguration, s, p.Variant)
		}
	}
	return p, nil
}

// String is the platform as ParsePlatform reads it.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// MarshalText encodes the platform as String does.
func (p Platform) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePlatform reads.
func (p *Platform) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePlatform(string(b))
	return err
}

// mayRun reports whether a runtime on a node of platform p could choose an entry
// of an index. It errs on the side of yes: no is said only of an entry whose
// platform is understood and is another one. Runtimes differ, so that is the union
// of what they do: no platform fits all, an architecture runs its predecessor
// (amd64 runs 386, arm64 runs arm), a variant runs the lower ones, and darwin and
// freebsd run linux. A version of the operating system excludes nothing.
func (p Platform) mayRun(entry *ocispec.Platform) bool {
	if entry == nil {
		return true
	}
	system, arch := normalOS(entry.OS), normalArchitecture(entry.Architecture)
	switch {
	case slices.Contains(knownOS, system) && system != p.OS && !(system == "linux" && (p.OS == "darwin" || p.OS == "freebsd")):
		return false
	case !slices.Contains(knownArchitectures, arch):
		return true
	case arch != p.Architecture:
		return p.Architecture == "amd64" && arch == "386" || p.Architecture == "arm64" && arch == "arm"
	case p.Variant == "":
		return true
	}
	most, ok := variantVersion(p.Variant)
	needs, understood := variantVersion(normalVariant(arch, entry))
	return !ok || !understood || needs <= most
}

func normalOS(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "macos" {
		return "darwin"
	}
	return s
}

// normalArchitecture knows the other names that runtimes know.
func normalArchitecture(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	switch s {
	case "i386":
		return "386"
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "armhf", "armel":
		return "arm"
	}
	return s
}

// normalVariant is the variant that an entry without one has; "" where there is
// no such convention.
func normalVariant(arch string, entry *ocispec.Platform) string {
	switch strings.ToLower(strings.TrimSpace(entry.Architecture)) { // names that say the variant, whatever else says one
	case "armhf":
		return "v7"
	case "armel":
		return "v6"
	case "i386":
		return ""
	}
	v := strings.ToLower(strings.TrimSpace(entry.Variant))
	if v != "" {
		if v[0] != 'v' {
			v = "v" + v
		}
		return v
	}
	switch {
	case arch == "arm":
		return "v7"
	case arch == "arm64":
		return "v8"
	case arch == "amd64":
		return "v1"
	}
	return ""
}

// variantVersion reads "v8" and "v8.2" as numbers that can be compared.
func variantVersion(variant string) (n int, ok bool) {
	const most = 999
	rest, ok := strings.CutPrefix(variant, "v")
	major, minor, dotted := strings.Cut(rest, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	if !ok || err != nil || a > most {
		return 0, false
	}
	if !dotted {
		return int(a) * (most + 1), true
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	if err != nil || b > most {
		return 0, false
	}
	return int(a)*(most+1) + int(b), true
}

// platformName is how an entry's platform is told: what a stranger wrote, in the
// characters that platforms have.
func platformName(p *ocispec.Platform) string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return "without a platform"
	}
	const most = 32 // bytes of each part
	part := func(s string) string {
		s = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
				return r
			}
			return '?'
		}, s)
		return s[:min(len(s), most)]
	}
	name := part(p.OS) + "/" + part(p.Architecture)
	if p.Variant != "" {
		name += "/" + part(p.Variant)
	}
	if p.OSVersion != "" {
		name += " " + part(p.OSVersion)
	}
	return name
}
