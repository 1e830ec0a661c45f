package servingcert

import (
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzDecode: whatever stands in the Secret, something that can be served comes of it, and what is found to be as it
// should be is left as it is.
func FuzzDecode(f *testing.F) {
	life, err := Lifetimes{}.complete()
	if err != nil {
		f.Fatal(err)
	}
	now := facts{now: begin, names: svcNames, life: life, announced: never}
	s, _, _, err := now.plan(state{})
	if err != nil {
		f.Fatal(err)
	}
	for _, renew := range []string{RenewAuthority, RenewCertificate} {
		data, err := s.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[KeyAuthorities], data[KeyCertificate], data[KeyKey], data[KeyBundle])
		f.Add(data[KeyAuthorities], data[KeyKey], data[KeyCertificate], []byte(nil))
		now.renew, now.announced = renew, always(begin.Add(-time.Hour))
		if s, _, _, err = now.plan(s); err != nil {
			f.Fatal(err)
		}
	}
	f.Add([]byte(`{"current":{"certificate":"","key":"","until":"2026-05-01T00:00:00Z"}}`), []byte("x"), []byte("y"), []byte("z"))
	f.Fuzz(func(t *testing.T, authorities, cert, key, bundle []byte) {
		weight.Bound{Floor: 256 << 10, Times: 64}.Check(t, len(authorities)+len(cert)+len(key)+len(bundle), func() {
			_, _ = decodeState(map[string][]byte{KeyAuthorities: authorities, KeyCertificate: cert, KeyKey: key, KeyBundle: bundle}, begin, svcNames)
		})
		in := map[string][]byte{KeyAuthorities: authorities, KeyCertificate: cert, KeyKey: key, KeyBundle: bundle}
		read, problems := decodeState(in, begin, svcNames)
		facts := facts{now: begin, names: svcNames, life: life, announced: never}
		if problems == nil {
			if !read.usable() || read.current.key == nil {
				t.Fatal("nothing is wrong, and nothing can be served")
			}
			if read.next == nil && begin.Before(renewalDue(read.current.cert)) && begin.Before(renewalDue(read.leaf.cert)) && len(read.retired) == 0 {
				if s, did, _, err := facts.plan(read); err != nil || len(did) > 0 || !s.leaf.cert.Equal(read.leaf.cert) {
					t.Fatalf("nothing is wrong, and it is changed: %v, %v", did, err)
				}
			}
		}
		s, _, _, err := facts.plan(read)
		if err != nil || !s.usable() || !begin.Before(s.leaf.cert.NotAfter) || s.leaf.cert.CheckSignatureFrom(s.current.cert) != nil || len(missingNames(s.leaf.cert, svcNames)) > 0 {
			t.Fatalf("what comes of it cannot be served: %v", err)
		}
		data, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeState(data, begin, svcNames); err != nil && again.current.key != nil {
			t.Fatalf("what comes of it is not as it should be: %v", err)
		}
	})
}
