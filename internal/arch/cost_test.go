package arch

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// noCost are the fuzz targets that hold no cost against their input's size, each with the
// reason. All others do: what comes from outside costs no more than a stated multiple.
var noCost = map[string]string{
	".FuzzPlace":                                                    "a path within a name that was read already, of at most 1,024 bytes",
	"internal/audit.FuzzFind":                                       "Boltseal's own log, read by a person's command, line by line, each within a limit",
	"internal/cloud/alibaba.FuzzHost":                               "a host that was read already, of at most 255 bytes",
	"internal/cloud/aws/ecr.FuzzHost":                               "a host that was read already, of at most 255 bytes",
	"internal/cloud/aws/ecr.FuzzToken":                              "a part of an answer, whose whole is in FuzzAnswer",
	"internal/cloud/azure/keyvault.FuzzSecret":                      "a part of an answer, whose whole is in FuzzAnswer",
	"internal/cloud/azure/keyvault.FuzzWebKey":                      "a part of an answer, whose whole is in FuzzAnswer",
	"internal/compile.FuzzCompile":                                  "documents are read under FuzzDecode of internal/base/strict; that engines cost in proportion is TestManyResourcesCostTheirNumber",
	"internal/credential/endpoints.FuzzMatch":                       "a pattern of an operator's, and a host that was read already",
	"internal/governance/agent/addon.FuzzExpand":                    "files of Boltseal's own",
	"internal/governance/agent/keep.FuzzUnpack":                     "what the agent packed itself, with its checksum; what is unpacked has a limit",
	"internal/governance/page.FuzzEscapedTextIsWhatATemplateWrites": "texts of reports, which are read whole under FuzzReport of internal/governance/hub",
	"internal/admission/integrity.FuzzExcludes":                     "a pattern, and an image that was read under FuzzParseReference",
	"internal/admission/integrity.FuzzJudge":                        "images that were read already, at most 1,000",
	"internal/keys.FuzzClean":                                       "it makes texts shorter",
	"internal/migrate.FuzzCheck":                                    "documents are read under FuzzDecode of internal/base/strict, by a person's command",
	"internal/base/nearest.FuzzWord":                                "a name that somebody wrote, cut to a length before it is compared",
	"internal/base/plain.FuzzJSON":                                  "it makes nothing",
	"internal/base/strict.FuzzLikeKubectl":                          "the same reading as in FuzzDecode",
	"internal/tracing/tracecontext.FuzzParse":                       "it allows no allocation at all, by a measure of its own",
	"notation.FuzzScope":                                            "a part of a CRL, which is read whole under FuzzSignedByOne",
	"notation.FuzzTrustPolicy":                                      "a document of an operator's, which is read under FuzzDecode of internal/base/strict",
	"notation/internal/dn.FuzzInstead":                              "a part of a name, which is read under FuzzParseDN",
	"notation/internal/envelope.FuzzCOSE":                           "it is one line: the cost is in fuzz, which it calls",
	"notation/internal/envelope.FuzzJWS":                            "it is one line: the cost is in fuzz, which it calls",
	"oci.FuzzLayout":                                                "files that a person names, each read within its limit",
}

// TestFuzzTargetsHaveACost: a target that is added holds what is allocated against the
// size of what comes in, or says here why not.
func TestFuzzTargetsHaveACost(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	targets := map[string]bool{} // whether it has a cost
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		folder, _ := filepath.Rel(root, path)
		folder = filepath.ToSlash(folder)
		if name := d.Name(); name == "testdata" || folder == "tools" || folder == "e2e" || strings.HasPrefix(name, ".") && folder != "." {
			return fs.SkipDir
		}
		for name, body := range fuzzBodies(t, path) {
			targets[strings.TrimPrefix(folder, ".")+"."+name] = strings.Contains(body, "weight.Bound{")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < 50 {
		t.Fatalf("%d targets: they are not found", len(targets))
	}
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if !targets[name] && noCost[name] == "" {
			t.Errorf("%s holds no cost against its input: measure it by internal/test/weight, or say in noCost why not", name)
		}
	}
	for name := range noCost {
		if has, ok := targets[name]; !ok || has {
			t.Errorf("%s is no target without a cost any more", name)
		}
	}
}

// fuzzBodies are the texts of a folder's fuzz targets, by name.
func fuzzBodies(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, text := range testFiles(t, folder) {
		for _, m := range regexp.MustCompile(`(?ms)^func (Fuzz\w+)\(.*?^}`).FindAllStringSubmatch(text, -1) {
			out[m[1]] = m[0]
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(.*\{.*\}$`).FindAllStringSubmatch(text, -1) {
			out[m[1]] = m[0]
		}
	}
	return out
}

// testFiles are the texts of a folder's tests.
func testFiles(t *testing.T, folder string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		out = append(out, fileText(t, file))
	}
	return out
}

func fileText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
