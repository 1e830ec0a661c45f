package rego

import (
	"slices"
	"strings"
)

// Known is what reports can say, as far as the configuration decides about it.
type Known struct {
	Verifiers     []string // by their configured names
	ArtifactTypes []string // that one of them judges
}

// paths of an answer; see package externaldata.
const (
	atAnswer    = "answer"
	atResponses = "responses"
	atResponse  = "responses[]"
	atKey       = "responses[][0]"
	atValue     = "responses[][1]"
	atReports   = "verifierReports"
	atReport    = "verifierReports[]"
	atExtension = "verifierReports[].extensions"
	atErrors    = "errors"
	atSystem    = "system_error"
	isSuccess   = "isSuccess"
)

// fields that each part of an answer has.
var fields = map[string][]string{
	atAnswer:    {atResponses, atErrors, atSystem, "status_code"},
	atValue:     {"version", isSuccess, "traceID", "timestamp", atReports},
	atReport:    {"subject", isSuccess, "name", "verifierName", "type", "verifierType", "referenceDigest", "artifactType", "message", "errorReason", "remediation", "extensions", "nestedResults"},
	atExtension: {"Issuer", "SN"},
}

// Fields that reports of rego-policy, and of what is attached to attachments, have.
const (
	nestedReports = "nestedReports"
	nestedResults = "nestedResults"
)

// stepInto is what stands below a path; "" where nobody knows. missing is the field that
// no answer has.
func stepInto(at string, field *term) (below, missing string) {
	if rest, ok := strings.CutPrefix(at, listOf); ok {
		return rest, ""
	}
	key := ""
	if field.kind == textTerm {
		key = field.s
	}
	switch at {
	case atResponses:
		return atResponse, ""
	case atResponse:
		if field.kind == numberTerm && field.s == "0" {
			return atKey, ""
		}
		return atValue, ""
	case atReports:
		return atReport, ""
	}
	known := fields[at]
	if known == nil || key == "" {
		return "", ""
	}
	if !slices.Contains(known, key) {
		return "", key
	}
	switch {
	case at == atAnswer, key == atReports:
		return key, ""
	}
	return at + "." + key, ""
}

// impossible reports whether what stands at a path is never the literal, and how to
// say it.
func (k Known) impossible(at string, literal *term) (demand string, never bool) {
	field := at[strings.LastIndexByte(at, '.')+1:]
	in := func(values ...string) (string, bool) {
		if literal.kind != textTerm {
			return "", false
		}
		return at + ` "` + literal.s + `"`, !slices.Contains(values, literal.s)
	}
	switch {
	case field == isSuccess && strings.Contains(at, "."):
		if literal.kind == textTerm || literal.kind == numberTerm {
			return at + ` "` + literal.s + `" (it is true or false, and no text)`, true
		}
	case at == atReport+".name", at == atReport+".type", at == atReport+".verifierType":
		return in("notation")
	case at == atReport+".verifierName":
		if len(k.Verifiers) > 0 {
			return in(k.Verifiers...)
		}
	case at == atReport+".artifactType":
		if len(k.ArtifactTypes) > 0 && !slices.Contains(k.ArtifactTypes, "*") {
			return in(k.ArtifactTypes...)
		}
	case at == atValue+".version":
		return in("0.1.0", "0.2.0")
	}
	return "", false
}
