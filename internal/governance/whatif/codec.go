package whatif

import (
	"encoding/json"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// specOf reads the spec of a rendered ImageIntegrityPolicy.
func specOf(object map[string]any) (integrityv1.ImageIntegrityPolicySpec, error) {
	var p integrityv1.ImageIntegrityPolicy
	b, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p.Spec, err
}

func marshalKey[T *v1alpha1.Demand | *v1alpha1.ExemptionWithin](v T) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

func sameMatch(a, b integrityv1.Match) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
