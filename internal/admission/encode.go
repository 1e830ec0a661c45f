package admission

import (
	"strings"

	"github.com/go-json-experiment/json"
)

// Answer is what a review is answered with. The zero value denies.
type Answer struct {
	Allowed  bool
	Message  string // why not
	Warnings []string
	Audit    map[string]string
	// Pins are the images to be replaced, with their new text.
	Pins []Pin
}

// Pin replaces the image at a place in the object.
type Pin struct {
	Image Image
	New   string
}

// PinnedTo is the image's text with its digest after it; without a tag it gets
// the one that it stands for, so that people still see one.
func PinnedTo(image, digest string) string {
	if !strings.Contains(image[strings.LastIndexByte(image, '/')+1:], ":") {
		image += ":latest"
	}
	return image + "@" + digest
}

type wireReview struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Response   response `json:"response"`
}

type response struct {
	UID              string            `json:"uid"`
	Allowed          bool              `json:"allowed"`
	Status           *status           `json:"status,omitempty"`
	Patch            []byte            `json:"patch,omitempty"`
	PatchType        string            `json:"patchType,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
	Warnings         []string          `json:"warnings,omitempty"`
}

type status struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

// Encode writes the answer to the review with the given uid. The same answer is
// always the same bytes.
func Encode(uid string, a Answer) ([]byte, error) {
	r := wireReview{APIVersion: Version, Kind: "AdmissionReview", Response: response{UID: uid, Allowed: a.Allowed, Warnings: a.Warnings, AuditAnnotations: a.Audit}}
	if !a.Allowed {
		r.Response.Status = &status{Code: 403, Reason: "Forbidden", Message: a.Message}
	}
	if len(a.Pins) > 0 && a.Allowed {
		// "test" first: the patch applies to the text that was verified, or not at all.
		ops := make([]operation, 0, 2*len(a.Pins))
		for _, p := range a.Pins {
			ops = append(ops, operation{"test", p.Image.place(), p.Image.Image}, operation{"replace", p.Image.place(), p.New})
		}
		patch, err := json.Marshal(ops)
		if err != nil {
			return nil, err
		}
		r.Response.Patch, r.Response.PatchType = patch, "JSONPatch"
	}
	return json.Marshal(r, json.Deterministic(true))
}
