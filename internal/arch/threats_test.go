package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestThreatModelIsShown: each test that docs/threat-model.md names is there, and each
// row names one or says that there is none.
func TestThreatModelIsShown(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	testsAreThere(t, root, string(text), 50)
	for _, row := range regexp.MustCompile(`(?m)^\| .*$`).FindAllString(string(text), -1) {
		if !regexp.MustCompile("\\| (–|shown by|`[^|]*`) \\|$").MatchString(row) {
			t.Errorf("a row names no test: %s", row)
		}
	}
}

// TestCachesHaveTests: each test that the decision on the keys of caches names is there.
func TestCachesHaveTests(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "adr", "0013-keys-of-caches.md"))
	if err != nil {
		t.Fatal(err)
	}
	testsAreThere(t, root, string(text), 7)
}

// testsAreThere looks for the tests that a text names as FOLDER.TestName, of which there
// are at least so many.
func testsAreThere(t *testing.T, root, text string, least int) {
	t.Helper()
	bodies := map[string]map[string]string{}
	named := regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1)
	for _, n := range named {
		folder, name := n[1], n[2]
		if bodies[folder] == nil {
			bodies[folder] = testBodies(t, filepath.Join(root, folder))
		}
		if _, ok := bodies[folder][name]; !ok {
			t.Errorf("there is no test %s.%s", folder, name)
		}
	}
	if len(named) < least {
		t.Errorf("it names %d tests", len(named))
	}
}
