package compile

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/internal/base/strict"
)

// Validated is what documents are worth by themselves.
type Validated struct {
	Documents int // that were checked
	// Problems are what is wrong whatever else there is, in the order of the text.
	Problems strict.Problems
	// Warnings are what deserves a look, and what must exist elsewhere.
	Warnings []strict.Problem
	// order has the files as they were read.
	order *Set
}

// Validate checks documents that may be a part of a configuration, and fetches
// nothing. What they name and what is not among them may be elsewhere, which is a
// warning: a provider, a file of Boltseal's Pod. mine tells which documents are to be
// checked.
func Validate(sources []Source, mine func(strict.Node) bool, deps Deps) Validated {
	s := decodeThose(sources, mine)
	deps.Keys = nil
	c := newCompiler(deps)
	c.part, c.files.part = true, true
	if err := guarded(func() error { c.each(s); return nil }); err != nil {
		c.fail(err)
	}
	defer c.out.Close()
	v := Validated{Documents: s.count, Problems: c.problems, order: s, Warnings: slices.DeleteFunc(c.out.Warnings, func(p strict.Problem) bool { return p.Message == nothingFetched })}
	v.Warnings = append(v.Warnings, s.advice...)
	v.sort()
	return v
}

// Add puts what somebody else found in the same files in its place.
func (v *Validated) Add(documents int, problems strict.Problems, warnings []strict.Problem) {
	v.Documents += documents
	v.Problems, v.Warnings = append(v.Problems, problems...), append(v.Warnings, warnings...)
	v.sort()
}

func (v *Validated) sort() {
	v.order.sort(v.Problems)
	v.order.sort(v.Warnings)
}

// failRead is fail for a file that could not be read: one that is not here may be where
// Boltseal runs.
func (c *compiler) failRead(p strict.Problem, err error) {
	if !c.part || !errors.Is(err, fs.ErrNotExist) {
		c.fail(p)
		return
	}
	if c.files.none {
		return // nobody has looked
	}
	p.Message += ": it is not on this machine, and must be where Boltseal runs"
	c.out.Warnings = append(c.out.Warnings, p)
}

// elsewhere warns of what a Verifier needs and that is not in these files.
func (c *compiler) elsewhere(lacking strict.Problems) {
	for _, p := range lacking {
		if !strings.HasSuffix(p.Message, nothingFetched) {
			c.out.Warnings = append(c.out.Warnings, p)
		}
	}
}
