package oci

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// TestHintsOfAListing: of annotations those that verifiers read are kept, whatever else
// stands there; a hint of another form, or a long one, loses itself and not its entry.
func TestHintsOfAListing(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", boltseal.MaxHintBytes)
	for annotations, want := range map[string]string{
		`{"` + boltseal.HintThumbprints + `":"x"}`:                                  "x",
		`{"other":"y","` + boltseal.HintThumbprints + `":"x","more":"z"}`:           "x",
		`{"other":{"deep":[1]},"` + boltseal.HintThumbprints + `":"x","more":[{}]}`: "x",
		`{"` + boltseal.HintThumbprints + `":"` + long + `"}`:                       long,
		`{"` + boltseal.HintThumbprints + `":"` + long + `a"}`:                      "",
		`{"` + boltseal.HintThumbprints + `":["x"]}`:                                "",
		`{"` + boltseal.HintThumbprints + `":null}`:                                 "",
		`{"` + strings.ToUpper(boltseal.HintThumbprints) + `":"x"}`:                 "",
		`{}`: "", `null`: "", `"text"`: "", `[]`: "", `7`: "",
	} {
		c := &collector{limit: 5}
		entry := `{"mediaType":"a/b","artifactType":"t","digest":"sha256:` + strings.Repeat("0", 64) + `","annotations":` + annotations + `,"size":7}`
		if err := c.add(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+entry+`]}`)); err != nil {
			t.Fatal(annotations, err)
		}
		if len(c.listing.Referrers) != 1 || c.listing.Referrers[0].Size != 7 {
			t.Errorf("%s: %+v", annotations, c.listing.Referrers)
			continue
		}
		if got := c.listing.Referrers[0].Annotations; got[boltseal.HintThumbprints] != want || len(got) > 1 {
			t.Errorf("%s: hints %q, want %q", annotations, got, want)
		}
	}
}
