// Package servingcert keeps the server's certificate and its CA in a Secret, and renews both so that no caller ever meets one that it does not trust.
package servingcert

import (
	"errors"
	"fmt"
	"time"
)

// Defaults of Lifetimes.
const (
	DefaultAuthority   = 2 * 365 * 24 * time.Hour
	DefaultCertificate = 60 * 24 * time.Hour
	DefaultAnnounce    = time.Minute
)

const (
	// minCertificate is the shortest life of a certificate: times in X.509 are
	// whole seconds, and two thirds of a life must leave time to renew it.
	minCertificate = 3 * time.Second
	// maxAuthority keeps a mistyped duration from making a CA for ever.
	maxAuthority = 10 * 366 * 24 * time.Hour
	// maxBackdate is how far before its making a certificate begins to be valid,
	// for callers whose clocks are behind.
	maxBackdate = time.Hour
	// maxRetired is how many CAs that are used no more are still trusted. A new
	// one waits when there are as many.
	maxRetired = 8
	// maxNames is how many names a certificate has at most because of others.
	maxNames = 64
)

// ErrLifetimes is wrapped by errors about lifetimes that do not fit together.
var ErrLifetimes = errors.New("lifetimes of certificates")

// Lifetimes say how long things last. They count for what is made from now on.
type Lifetimes struct {
	// Authority is how long a CA is valid, at most ten years; its successor is made
	// when two thirds have passed. 0 means DefaultAuthority.
	Authority time.Duration
	// Certificate is how long a serving certificate is valid; it is renewed when
	// two thirds have passed. At most a third of Authority. 0 means
	// DefaultCertificate.
	Certificate time.Duration
	// Announce is how long a new CA must have stood in every caBundle before a
	// certificate of it is served: time for every API server and for Gatekeeper
	// to notice. Less than a third of Certificate. 0 means DefaultAnnounce.
	Announce time.Duration
}

// complete fills in the defaults and checks that the lifetimes fit together.
func (l Lifetimes) complete() (Lifetimes, error) {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&l.Authority, DefaultAuthority}, {&l.Certificate, DefaultCertificate}, {&l.Announce, DefaultAnnounce}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	switch {
	case l.Certificate < minCertificate:
		return l, fmt.Errorf("%w: a certificate must live for at least %s, not %s", ErrLifetimes, minCertificate, l.Certificate)
	case l.Authority > maxAuthority:
		return l, fmt.Errorf("%w: a CA may live for at most %s, not %s", ErrLifetimes, maxAuthority, l.Authority)
	case l.Authority < 3*l.Certificate:
		return l, fmt.Errorf("%w: a CA must live at least three times as long as a certificate of it, and %s is less than three times %s", ErrLifetimes, l.Authority, l.Certificate)
	case l.Announce < 0 || l.Announce >= l.Certificate/3:
		return l, fmt.Errorf("%w: a new CA must be announced for less than a third of a certificate's life, and %s is not less than a third of %s", ErrLifetimes, l.Announce, l.Certificate)
	}
	return l, nil
}
