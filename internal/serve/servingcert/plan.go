package servingcert

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Values of AnnotationRenew.
const (
	RenewCertificate = "certificate"
	RenewAuthority   = "authority"
)

// facts are all that a plan depends on besides the state.
type facts struct {
	now   time.Time
	names []string
	life  Lifetimes
	// announced is since when a CA stands in every caBundle that there is.
	announced func(*x509.Certificate) (since time.Time, ok bool)
	// renew is what somebody wants renewed before its time.
	renew string
}

// plan is what the state should be now, what was done to get there, and when to
// look again. A plan never takes away what somebody may be using: a CA is served
// only after it was announced, and is announced until the last of its
// certificates has expired.
func (f facts) plan(s state) (_ state, did []string, look time.Time, err error) {
	s.retired = slices.Clone(s.retired)
	note := func(format string, a ...any) { did = append(did, fmt.Sprintf(format, a...)) }
	look = f.now.Add(f.life.Authority)
	at := func(t time.Time) { look = earlierOf(look, t) }

	// Nothing to go on with: nobody can be served anyway, so the first CA needs no announcement.
	if s.current == nil || s.current.key == nil && s.leaf == nil {
		was := s.current
		if s.current, s.next = s.next, nil; s.current == nil {
			if s.current, err = newAuthority(f.now, f.life.Authority); err != nil {
				return s, nil, look, err
			}
		}
		s.leaf = nil
		s.retire(was, f.now)
		note("a CA was put in use: %s", s.current.cert.Subject.CommonName)
	}
	s.retired = slices.DeleteFunc(s.retired, func(a *authority) bool {
		gone := !f.now.Before(earlierOf(a.until, a.cert.NotAfter))
		if gone {
			note("a CA is trusted no more, for all its certificates have expired: %s", a.cert.Subject.CommonName)
		}
		return gone
	})
	// The order of a bundle must not depend on who wrote it.
	slices.SortFunc(s.retired, func(a, b *authority) int { return bytes.Compare(a.cert.Raw, b.cert.Raw) })
	for _, a := range s.retired {
		at(earlierOf(a.until, a.cert.NotAfter))
	}

	if s.next == nil && len(s.retired) < maxRetired {
		when := renewalDue(s.current.cert)
		if !f.now.Before(when) || s.current.key == nil || f.renew == RenewAuthority {
			if s.next, err = newAuthority(f.now, f.life.Authority); err != nil {
				return s, nil, look, err
			}
			note("a new CA is announced: %s", s.next.cert.Subject.CommonName)
		} else {
			at(when)
		}
	}
	if s.next != nil {
		since, ok := f.announced(s.next.cert)
		// Callers that could not be told of the new CA are lost with the old
		// certificate; those that were told need not be lost with them.
		last := s.current.cert.NotAfter.Add(-f.life.Certificate / 6)
		if s.leaf != nil && s.current.key == nil {
			last = earlierOf(last, s.leaf.cert.NotAfter.Add(-f.life.Certificate/6))
		}
		switch {
		case ok && !f.now.Before(since.Add(f.life.Announce)):
			f.promote(&s)
			note("a new CA is in use: %s", s.current.cert.Subject.CommonName)
		case !f.now.Before(last):
			f.promote(&s)
			note("a new CA is in use although it could not be put into every caBundle, for the old one is about to expire: %s", s.current.cert.Subject.CommonName)
		default:
			if ok {
				at(since.Add(f.life.Announce))
			}
			at(last)
		}
	}

	if f.certificateDue(s) {
		if s.leaf, err = s.current.issue(f.now, f.life.Certificate, unionNames(f.names, s.also)); err != nil {
			return s, nil, look, err
		}
		current := *s.current
		current.until = laterOf(current.until, s.leaf.cert.NotAfter)
		s.current = &current
		note("a certificate was issued, valid until %s", s.leaf.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	if s.renewable() {
		at(renewalDue(s.leaf.cert))
	}
	if !look.After(f.now) {
		look = f.now.Add(time.Second) // what is due cannot be done yet
	}
	return s, did, look, nil
}

// certificateDue reports whether a certificate is to be issued, and can be.
func (f facts) certificateDue(s state) bool {
	switch {
	case s.leaf == nil:
		return true
	case f.renew == RenewCertificate:
		return s.current.key != nil
	}
	return s.renewable() && !f.now.Before(renewalDue(s.leaf.cert))
}

// renewable reports whether another certificate of the CA would be of use. One
// that would end no later, for the CA ends, is not worth the change.
func (s state) renewable() bool {
	return s.current.key != nil && s.leaf.cert.NotAfter.Before(s.current.cert.NotAfter)
}

// promote puts the next CA in the place of the current one.
func (f facts) promote(s *state) {
	was := s.current
	s.current, s.next, s.leaf = s.next, nil, nil
	s.retire(was, f.now)
}

// retire keeps a CA trusted for as long as a certificate of it may be in use.
func (s *state) retire(a *authority, now time.Time) {
	if a == nil || !now.Before(earlierOf(a.until, a.cert.NotAfter)) {
		return
	}
	s.retired = append(s.retired, &authority{cert: a.cert, until: a.until})
}

// unionNames are the names of a new certificate where the one before lacked some: those
// of a replica that runs with other names stay, or the two would renew for ever.
func unionNames(want, also []string) []string {
	out := slices.Clone(want)
	for _, n := range also {
		if len(out) >= maxNames {
			return out
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
