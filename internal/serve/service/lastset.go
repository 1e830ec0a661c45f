package service

import (
	"slices"

	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
)

// wanted are the providers of a configuration that is tried, and of the one in force:
// where the first turns out not to work, the second goes on with what is fetched for it.
func (s *Service) wanted(set *compile.Set) []keys.Want {
	wants := set.Wants()
	if s.good == nil {
		return wants
	}
	for _, w := range s.good.Wants() {
		if !slices.ContainsFunc(wants, func(o keys.Want) bool { return o.ID == w.ID }) {
			wants = append(wants, w)
		}
	}
	return wants
}

// filesOf are the files that a configuration that is tried names, and the one in force,
// each once.
func (s *Service) filesOf(set *compile.Set) []string {
	files := slices.Clone(set.Files())
	if s.good != nil {
		files = append(files, s.good.Files()...)
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// enforce puts a set of resources in force with the certificates as they are now.
func (s *Service) enforce(set *compile.Set) error {
	policies := integrity.NewSet(set.Integrity(), s.o.Exempt...)
	compiled, err := set.Compile(s.deps(policies.Recalls()))
	if err != nil {
		return err
	}
	s.swap(compiled, policies, s.newMemo())
	s.good = set
	return nil
}

// loadKeys puts certificates that were fetched, and files that resources name, in force. Where the files do not work
// now, what is in force gets them all the same: a signer that was rotated away must not
// stay trusted for as long as somebody's edit is broken.
func (s *Service) loadKeys() {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.loadFiles() || s.good == nil {
		return
	}
	if err := s.enforce(s.good); err != nil {
		s.o.Log.Error("the certificates that were fetched are not used", "error", err.Error())
	}
}
