package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal"
)

// withRemedy adds what to do next to an error.
func withRemedy(err error, remedy string) error {
	return &boltseal.Advised{Err: err, Remedy: remedy}
}

// isHTML recognises a page for a person, which no registry serves as content.
func isHTML(resp *http.Response) bool {
	t := strings.ToLower(contentType(resp))
	return t == "text/html" || t == "application/xhtml+xml"
}

// unexpectedAnswer is the error of an answer that is not what was asked for.
func unexpectedAnswer(resp *http.Response, wanted string) error {
	if isHTML(resp) {
		return withRemedy(fmt.Errorf("%w: a web page where %s should be", boltseal.ErrUnusable, wanted),
			"a sign-in or error page answers in the registry's place: see what is between it and here (a proxy, a firewall, its own sign-in), and let Boltseal reach the registry's API")
	}
	return fmt.Errorf("%w: something of type %.100q where %s should be", boltseal.ErrUnusable, contentType(resp), wanted)
}

// Limits on what a registry says of itself in an error.
const (
	maxErrorBytes = 16 << 10
	maxErrorText  = 300
)

// failure is what the body of an error says.
type failure struct {
	code, message string
}

// failure reads the body of an error, in the room that all answers share.
func (q *request) failure(ctx context.Context, end context.CancelFunc, resp *http.Response) (f failure) {
	q.r.opts.Room.reading(ctx, q.h.name, end, resp, func(resp *http.Response) { f = readFailure(resp) })
	return f
}

// readFailure reads the body of an error in the forms that registries and token
// servers have (distribution-spec, "Error Codes"; RFC 6749, section 5.2).
func readFailure(resp *http.Response) failure {
	b, err := readBody(resp, maxErrorBytes)
	if err != nil || len(b) == 0 {
		return failure{}
	}
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Error       jsontext.Value `json:"error"` // text, or whatever a server writes there
		Description string         `json:"error_description"`
		Details     jsontext.Value `json:"details"`
		Message     string         `json:"message"`
	}
	if json.Unmarshal(b, &doc) != nil {
		return failure{}
	}
	if len(doc.Errors) > 0 {
		return failure{doc.Errors[0].Code, doc.Errors[0].Message}
	}
	code := textOf(doc.Error)
	for _, text := range []string{doc.Description, doc.Message, textOf(doc.Details)} {
		if text != "" {
			return failure{code, text}
		}
	}
	return failure{code, ""}
}

// textOf is a JSON string's text, "" where it is something else.
func textOf(v jsontext.Value) (s string) {
	if json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// add adds a stranger's words to an error, where there are any.
func (f failure) add(err error, secrets ...string) error {
	text := cleanText(f.code, secrets)
	if m := cleanText(f.message, secrets); m != "" && m != text {
		text = strings.TrimPrefix(text+": "+m, ": ")
	}
	if text == "" {
		return err
	}
	return fmt.Errorf("%w: it says %q", err, text)
}

// secretive are what a token or a key may look like: the parts of a JWT, what follows
// the name of a scheme, a query, and anything long without a blank that is no digest.
var secretive = regexp.MustCompile(`eyJ[A-Za-z0-9_=-]*(\.[A-Za-z0-9_=-]*)*|(?i:bearer|basic) +[^ ]+|(?i:password|token|secret)[=: ]+[A-Za-z0-9+/_=.~-]{12,}|\?[^ ]{12,}|[A-Za-z0-9+/_=~-]{72,}`)

// cleanText is a stranger's text as an error may show it: one line, short, without
// what could be a secret.
func cleanText(text string, secrets []string) string {
	for _, s := range secrets {
		if len(s) > 2 {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r):
			return -1
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	text = strings.Join(strings.Fields(secretive.ReplaceAllString(text, "…")), " ")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}

// Codes of 404 answers (distribution-spec, "Error Codes").
var (
	errNameUnknown     = errors.New("the registry does not have this repository")
	errManifestUnknown = errors.New("the registry does not have this manifest")
)

// notFound tells a repository that is not there from content that is not.
func (f failure) notFound() error {
	switch f.code {
	case "NAME_UNKNOWN":
		return fmt.Errorf("%w: %w", boltseal.ErrNotFound, errNameUnknown)
	case "MANIFEST_UNKNOWN":
		return fmt.Errorf("%w: %w", boltseal.ErrNotFound, errManifestUnknown)
	}
	return boltseal.ErrNotFound
}
