package verify

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// spentWords say what the parts of a decision's time are.
var spentWords = map[string]string{
	"body":          "the request took to arrive",
	"decode":        "to read it",
	"podSecrets":    "to read the Pod's pull Secrets",
	"images":        "to verify images",
	"memory":        "to verify with earlier answers of registries",
	"resolve":       "to ask which image it is",
	"referrers":     "to list signatures",
	"fetch":         "to fetch signatures",
	"verify":        "to verify signatures, with all that they need",
	"revocation":    "to ask whether certificates are revoked",
	"token":         "to get a token for the registry",
	"credentials":   "to get credentials for the registry",
	"registryQueue": "to wait until the registry may be asked",
	"processor":     "to wait for a processor",
	"shared":        "to wait for the same work that another request had begun",
}

// spentParts is what stands after a total: each part with its words.
func spentParts(parts []audit.Part) string {
	var texts []string
	for _, p := range parts {
		texts = append(texts, fmt.Sprintf("%s %s", roundTime(p.Took), spentWords[p.Name]))
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, ", ")
}

// writeSpent writes where the time of an image's verification went.
func writeSpent(w io.Writer, s *audit.ImageSpent) {
	parts := s.Parts()
	if len(parts) == 0 {
		return
	}
	if parts[0].Name == "waited" {
		parts = parts[1:]
	}
	joined := ""
	if s.Joined {
		joined = " for a verification that another request had begun"
	}
	fmt.Fprintf(w, "  waited %s%s%s\n", roundTime(s.Waited), joined, spentParts(parts))
	if r := s.Slowest; r != nil {
		answer := frame.SafeText(r.Host) + " did not answer"
		if r.Status != 0 {
			answer = fmt.Sprintf("%s answered %d", frame.SafeText(r.Host), r.Status)
		}
		fmt.Fprintf(w, "  the slowest request took %s: %s\n", roundTime(r.Took), answer)
	}
}

// roundTime is a duration as people read it.
func roundTime(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
