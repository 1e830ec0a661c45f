package definition

import (
	"fmt"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func readTexts(n node) ([]string, error) {
	if n.kind != arrayKind {
		return nil, fmt.Errorf("must be a list, and is %s", n.what())
	}
	if len(n.items) > MaxList {
		return nil, fmt.Errorf("has more than %d entries", MaxList)
	}
	out := make([]string, 0, len(n.items))
	for i, item := range n.items {
		if item.kind != stringKind {
			return nil, fmt.Errorf("entry %d must be a text, and is %s", i+1, item.what())
		}
		out = append(out, item.text)
	}
	return out, nil
}

func readBoolean(n node) (bool, error) {
	if n.kind != boolKind {
		return false, fmt.Errorf("must be true or false, and is %s", n.what())
	}
	return n.yes, nil
}

// Sources are the values of source: what constraints look at.
var sources = []string{"All", "Generated", "Original"}

func readSource(n node) (string, error) {
	if n.kind != stringKind || !containsFold(sources, n.text) {
		return "", fmt.Errorf("must be one of %s, and is %s", joinWords(sources), n.what())
	}
	return n.text, nil
}

var namespacePattern = regexp.MustCompile(`^\*?[a-z0-9-]+\*?$`)

func readNamespaces(n node) ([]string, error) {
	out, err := readTexts(n)
	if err != nil {
		return nil, err
	}
	for _, s := range out {
		if len(s) > maxNamespace || !namespacePattern.MatchString(s) {
			return nil, fmt.Errorf("%q is no namespace; names have small letters, digits and -, and may begin or end with * for anything", truncateText(s))
		}
	}
	return out, nil
}

func readImages(n node) ([]string, error) {
	out, err := readTexts(n)
	if err != nil {
		return nil, err
	}
	for _, s := range out {
		switch {
		case s == "" || len(s) > maxImage || strings.ContainsAny(s, " \t\r\n"):
			return nil, fmt.Errorf("%q is no image; write it as REGISTRY/REPOSITORY:TAG, or its beginning with * after it", truncateText(s))
		case strings.Trim(s, "*") == "":
			return nil, fmt.Errorf("%q would exclude every image; set effect to Disabled for that", truncateText(s))
		case strings.Contains(s[:len(s)-1], "*"):
			return nil, fmt.Errorf("%q has a * that is not at the end; only an ending can be left open", truncateText(s))
		}
	}
	return out, nil
}

// readSelector reads a label selector; one without conditions is nil.
func readSelector(n node) (*metav1.LabelSelector, error) {
	if n.kind != objectKind {
		return nil, fmt.Errorf("must be an object, and is %s", n.what())
	}
	s := &metav1.LabelSelector{}
	for _, m := range n.members {
		switch m.name {
		case "matchLabels":
			if m.value.kind != objectKind {
				return nil, fmt.Errorf("matchLabels must be an object, and is %s", m.value.what())
			}
			s.MatchLabels = make(map[string]string, len(m.value.members))
			for _, l := range m.value.members {
				if l.value.kind != stringKind {
					return nil, fmt.Errorf("matchLabels: %s must be a text, and is %s", truncateText(l.name), l.value.what())
				}
				s.MatchLabels[l.name] = l.value.text
			}
		case "matchExpressions":
			if m.value.kind != arrayKind || len(m.value.items) > MaxList {
				return nil, fmt.Errorf("matchExpressions must be a list of at most %d, and is %s", MaxList, m.value.what())
			}
			for _, item := range m.value.items {
				e, err := readRequirement(item)
				if err != nil {
					return nil, fmt.Errorf("matchExpressions: %w", err)
				}
				s.MatchExpressions = append(s.MatchExpressions, e)
			}
		default:
			return nil, fmt.Errorf("unknown field %q%s", truncateText(m.name), nearestHint(m.name, []string{"matchLabels", "matchExpressions"}))
		}
	}
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		return nil, err
	}
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return nil, nil
	}
	return s, nil
}

func readRequirement(n node) (metav1.LabelSelectorRequirement, error) {
	var out metav1.LabelSelectorRequirement
	if n.kind != objectKind {
		return out, fmt.Errorf("must be an object, and is %s", n.what())
	}
	for _, m := range n.members {
		var err error
		switch {
		case m.name == "values":
			out.Values, err = readTexts(m.value)
		case m.name != "key" && m.name != "operator":
			err = fmt.Errorf("unknown field %q%s", truncateText(m.name), nearestHint(m.name, []string{"key", "operator", "values"}))
		case m.value.kind != stringKind:
			err = fmt.Errorf("%s must be a text, and is %s", m.name, m.value.what())
		case m.name == "key":
			out.Key = m.value.text
		default:
			out.Operator = metav1.LabelSelectorOperator(m.value.text)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}
