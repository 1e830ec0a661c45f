package compile

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/boltseal/boltseal/internal/base/strict"
)

// Wherever the limit falls, a verdict holds whole characters only.
func TestVerdictOfABrokenResourceIsCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for shift := range utf8.UTFMax {
		why := strings.Repeat("x", shift) + strings.Repeat("é", maxTold)
		text := broken(Key{Kind: "Store", Name: "oras"}, strict.Problems{{Message: why}}).Error()
		if !utf8.ValidString(text) || !strings.HasSuffix(text, "é…") {
			t.Errorf("with %d bytes before: %q", shift, text)
		}
	}
}
