package externaldata

import (
	"strings"

	"github.com/boltseal/boltseal/internal/base/plain"
)

// decodeFast reads the requests that Gatekeeper writes: the three members, each once,
// in any order, and texts without escapes. It reports false for everything else,
// which is then left to the strict decoder; what it reads, that one reads alike.
// The keys are parts of one copy of the body.
func decodeFast(body []byte) (w wireRequest, ok bool) {
	p := parser{s: string(body)}
	seen := 0
	ok = p.object(func(name string) bool {
		switch name {
		case "apiVersion":
			seen |= 1
			return p.text(&w.APIVersion)
		case "kind":
			seen |= 2
			return p.text(&w.Kind)
		case "request":
			seen |= 4
			w.Request = &struct {
				Keys keyList `json:"keys"`
			}{}
			once := false
			return p.object(func(name string) bool {
				if name != "keys" || once {
					return false
				}
				once = true
				return p.texts(&w.Request.Keys)
			}) && once
		}
		return false
	}) && p.end() && seen == 7 && p.members == 4
	return w, ok
}

type parser struct {
	s       string
	i       int
	members int
}

func (p *parser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\n' || p.s[p.i] == '\t' || p.s[p.i] == '\r') {
		p.i++
	}
}

func (p *parser) take(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) end() bool {
	p.space()
	return p.i == len(p.s)
}

// text reads a string of ASCII without escapes.
func (p *parser) text(into *string) bool {
	if !p.take('"') {
		return false
	}
	n := strings.IndexByte(p.s[p.i:], '"')
	if n < 0 || !plain.JSON(p.s[p.i:p.i+n]) {
		return false
	}
	*into = p.s[p.i : p.i+n]
	p.i += n + 1
	return true
}

func (p *parser) object(member func(name string) bool) bool {
	if !p.take('{') {
		return false
	}
	for {
		var name string
		if !p.text(&name) || !p.take(':') {
			return false
		}
		p.members++
		if !member(name) {
			return false
		}
		if p.take('}') {
			return true
		}
		if !p.take(',') {
			return false
		}
	}
}

// texts reads an array of texts, as keyList does.
func (p *parser) texts(into *keyList) bool {
	if !p.take('[') {
		return false
	}
	if p.take(']') {
		*into = keyList{}
		return true
	}
	*into = make(keyList, 0, min(strings.Count(p.s[p.i:], ",")+1, MaxKeys+1))
	for {
		var s string
		if !p.text(&s) {
			return false
		}
		if len(*into) <= MaxKeys {
			*into = append(*into, s)
		}
		if p.take(']') {
			return true
		}
		if !p.take(',') {
			return false
		}
	}
}
