package definition

import (
	"fmt"
	"strconv"
	"strings"
)

// unversioned is the version of a definition that tells none, as in Azure.
const unversioned = "1.0.0"

// CheckVersionPattern tells what is wrong with a definitionVersion: it has a
// major number, then minor and patch, which may be *, and may end in -preview.
// Empty is any version.
func CheckVersionPattern(pattern string) error {
	if pattern == "" {
		return nil
	}
	if len(pattern) > maxVersion {
		return fmt.Errorf("has more than %d characters", maxVersion)
	}
	numbers, _, ok := splitVersion(pattern)
	if ok && numbers[0] != "*" && (numbers[1] != "*" || numbers[2] == "*") {
		return nil
	}
	return fmt.Errorf("%q is no version to look for; write it as 1.*.*, 1.2.*, 1.2.3 or with -preview at the end", truncateText(pattern))
}

// MatchVersion tells whether a version is one that a definitionVersion asks for,
// in any case. 1.*.* does not match previews; 1.*.*-preview matches nothing
// else. An empty pattern matches everything; an empty version is 1.0.0.
func MatchVersion(pattern, version string) bool {
	if pattern == "" {
		return true
	}
	if version == "" {
		version = unversioned
	}
	if CheckVersionPattern(pattern) != nil {
		return false
	}
	want, wantSuffix, _ := splitVersion(pattern)
	have, suffix, ok := splitVersion(version)
	if !ok || !strings.EqualFold(wantSuffix, suffix) {
		return false
	}
	for i := range want {
		if have[i] == "*" || want[i] != "*" && want[i] != have[i] {
			return false
		}
	}
	return true
}

// splitVersion takes 1.2.3-suffix apart; a number may be *.
func splitVersion(v string) (numbers [3]string, suffix string, ok bool) {
	v, suffix, dash := strings.Cut(v, "-")
	if dash && suffix == "" {
		return numbers, "", false
	}
	for _, c := range suffix {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return numbers, "", false
		}
	}
	parts := strings.Split(v, ".")
	if len(parts) != 3 {
		return numbers, "", false
	}
	for i, p := range parts {
		if p != "*" {
			n, err := strconv.ParseUint(p, 10, 31)
			if err != nil || strconv.FormatUint(n, 10) != p {
				return numbers, "", false
			}
		}
		numbers[i] = p
	}
	return numbers, suffix, true
}
