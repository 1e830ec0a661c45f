package servingcert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Keys of the Secret's data. Authorities is what is read back; the others are what
// is served, and what callers are to trust, in the usual places.
const (
	KeyAuthorities = "authorities.json"
	KeyCertificate = "tls.crt"
	KeyKey         = "tls.key"
	KeyBundle      = "ca.crt"
)

// maxState bounds authorities.json: the most there can be takes about a fifth.
const maxState = 128 << 10

// state is what is in the Secret.
type state struct {
	current *authority // nil: nothing usable is there
	next    *authority // announced, and not served yet
	retired []*authority
	leaf    *leaf // of current; nil: none that is usable
	// also are the names of a certificate that is unusable only because it lacks others.
	also []string
}

// stored is authorities.json. What a later version writes beside it is passed over.
type stored struct {
	Current *storedAuthority  `json:"current"`
	Next    *storedAuthority  `json:"next,omitempty"`
	Retired []storedAuthority `json:"retired,omitempty"`
}

type storedAuthority struct {
	Certificate string    `json:"certificate"`
	Key         string    `json:"key,omitempty"`
	Until       time.Time `json:"until"`
}

func storeAuthority(a *authority, key bool) (*storedAuthority, error) {
	if a == nil {
		return nil, nil
	}
	s := &storedAuthority{Certificate: string(certPEM(a.cert)), Until: a.until.UTC()}
	if key && a.key != nil {
		b, err := keyPEM(a.key)
		if err != nil {
			return nil, err
		}
		s.Key = string(b)
	}
	return s, nil
}

// encode is the Secret's data. A retired CA's key is not in it: nothing may be
// issued by it any more.
func (s state) encode() (map[string][]byte, error) {
	var out stored
	var err error
	if out.Current, err = storeAuthority(s.current, true); err != nil {
		return nil, err
	}
	if out.Next, err = storeAuthority(s.next, true); err != nil {
		return nil, err
	}
	for _, a := range s.retired {
		r, err := storeAuthority(a, false)
		if err != nil {
			return nil, err
		}
		out.Retired = append(out.Retired, *r)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{KeyAuthorities: b, KeyCertificate: s.leaf.certPEM, KeyKey: s.leaf.raw, KeyBundle: s.bundle()}, nil
}

// bundle is what callers are to trust, in PEM.
func (s state) bundle() []byte {
	var out []byte
	for _, a := range append([]*authority{s.current, s.next}, s.retired...) {
		if a != nil {
			out = append(out, certPEM(a.cert)...)
		}
	}
	return out
}

// decodeState reads what is usable in the Secret's data, and says what is not.
func decodeState(data map[string][]byte, now time.Time, names []string) (s state, problems error) {
	var errs []error
	bad := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	var in stored
	b := data[KeyAuthorities]
	switch {
	case len(b) == 0:
		return s, fmt.Errorf("%s is missing", KeyAuthorities)
	case len(b) > maxState:
		return s, fmt.Errorf("%s has more than %d bytes", KeyAuthorities, maxState)
	case json.Unmarshal(b, &in) != nil || in.Current == nil:
		return s, fmt.Errorf("%s cannot be read", KeyAuthorities)
	}
	read := func(what string, in *storedAuthority) *authority {
		if in == nil {
			return nil
		}
		a, err := readAuthority([]byte(in.Certificate), []byte(in.Key), now)
		bad(what, err)
		if a != nil {
			a.until = in.Until
		}
		return a
	}
	s.current, s.next = read("the CA", in.Current), read("the next CA", in.Next)
	if s.next != nil && s.next.key == nil {
		s.next = nil // it can never be used
	}
	for _, r := range in.Retired[:min(len(in.Retired), maxRetired)] {
		c, err := readCert([]byte(r.Certificate))
		bad("a retired CA", err)
		if err == nil {
			s.retired = append(s.retired, &authority{cert: c, until: r.Until})
		}
	}
	if s.current == nil {
		return s, errors.Join(errs...)
	}
	var err error
	s.leaf, err = readLeaf(data[KeyCertificate], data[KeyKey], s.current, now, names)
	bad(KeyCertificate, err)
	if s.leaf == nil {
		if other, err := readLeaf(data[KeyCertificate], data[KeyKey], s.current, now, nil); err == nil {
			s.also = certNames(other.cert)
		}
	}
	if !bytes.Equal(data[KeyBundle], s.bundle()) {
		bad(KeyBundle, errors.New("it is not the CAs of "+KeyAuthorities))
	}
	return s, errors.Join(errs...)
}

// mend fills in from what was last known to be good what the Secret has lost.
func (s state) mend(good state, now time.Time, names []string) state {
	switch {
	case good.current == nil || !now.Before(good.current.cert.NotAfter):
		return s
	case s.current == nil:
		s = good
	case !s.current.cert.Equal(good.current.cert):
		return s
	case s.current.key == nil:
		current := *s.current
		current.key = good.current.key
		s.current = &current
	}
	if s.leaf == nil && good.leaf != nil {
		// What was good may have expired since.
		s.leaf, _ = readLeaf(good.leaf.certPEM, good.leaf.raw, s.current, now, names)
	}
	return s
}

// usable reports whether a certificate of the state can be served.
func (s state) usable() bool { return s.current != nil && s.leaf != nil }

// sameData reports whether two Secrets say the same.
func sameData(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, slices.Equal[[]byte]) }
