package compile

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// maxTold bounds what a verdict tells of a broken resource; its status has it all.
const maxTold = 300

// broken says which resource denies, and why. It is a certain no, never an
// outage: an outage could be passed over by a policy that says so.
func broken(key Key, ps strict.Problems) error {
	why := ""
	if len(ps) > 0 {
		why = ": " + ps[0].Error()
	}
	return fmt.Errorf("%w: the %s does not work%s", boltseal.ErrConfiguration, key, truncateReason(why))
}

// truncateReason shortens a reason to maxTold bytes, at the end of a character, and shows that there was more.
func truncateReason(why string) string {
	if len(why) <= maxTold {
		return why
	}
	return strings.ToValidUTF8(why[:maxTold], "") + "…"
}

// denyStore stands in for a Store, and reads nothing.
type denyStore struct{ err error }

func (s denyStore) Resolve(context.Context, boltseal.Reference) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, s.err
}

func (s denyStore) Referrers(context.Context, boltseal.Reference, digest.Digest, []string) (boltseal.Listing, error) {
	return boltseal.Listing{}, s.err
}

func (s denyStore) Manifest(context.Context, boltseal.Reference, ocispec.Descriptor) ([]byte, error) {
	return nil, s.err
}

func (s denyStore) Blob(context.Context, boltseal.Reference, ocispec.Descriptor) ([]byte, error) {
	return nil, s.err
}

// denyStore puts a stand-in where the Store's scopes are; where they cannot be
// read, it serves what no other Store does.
func (x *clusterCompiler) denyStore(e Entry, ps strict.Problems) {
	key := e.Current.key
	var scopes []string
	if n, ok := e.Current.doc.Get("spec", "parameters", "scopes"); ok && n.Decode(&scopes) != nil {
		scopes = nil
	}
	x.stores[key.Namespace] = append(x.stores[key.Namespace], boltseal.ScopedStore{Name: key.Name, Scopes: scopes, Store: denyStore{broken(key, ps)}})
}

// denyVerifier stands in for a Verifier, and rejects every signature.
type denyVerifier struct {
	name  string
	types []string
	err   error
}

func (v *denyVerifier) Name() string            { return v.name }
func (v *denyVerifier) Type() string            { return "" }
func (v *denyVerifier) ArtifactTypes() []string { return v.types }

func (v *denyVerifier) Verify(context.Context, boltseal.Subject, boltseal.Candidate) (boltseal.Evidence, error) {
	return boltseal.Evidence{}, v.err
}

// denyVerifier puts a stand-in in the Verifier's place, for the artifact types
// that it judges; where they are not known, for all.
func (x *clusterCompiler) denyVerifier(e Entry, ps strict.Problems) {
	key := e.Current.key
	v := &denyVerifier{name: key.Name, types: artifactTypes(e.Current.doc.Text("spec", "artifactTypes")), err: broken(key, ps)}
	if len(v.types) == 0 {
		v.types = []string{"*"}
	}
	x.verifiers[key.Namespace] = append(x.verifiers[key.Namespace], v)
}

// denyPolicy stands in for a Policy, and allows nothing.
type denyPolicy struct{ err error }

func (p denyPolicy) Decide(*boltseal.Findings) (boltseal.Decision, boltseal.Reason) {
	return boltseal.Deny, boltseal.ReasonOf(p.err)
}
