package hub

import (
	"testing"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// TestRemediationsAreFilteredByLocation: clusters elsewhere are left alone, however a
// location is spelt.
func TestRemediationsAreFilteredByLocation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		locations []string
		cluster   string
		want      bool
	}{
		{nil, "westeurope", true}, {[]string{"West Europe"}, "westeurope", true}, {[]string{"westeurope"}, "northeurope", false},
		{[]string{"eastus", "northeurope"}, "North Europe", true}, {[]string{"westeurope"}, "", false},
	} {
		if got := matchesLocation(&v1alpha1.RemediationFilters{Locations: tt.locations}, tt.cluster); got != tt.want {
			t.Errorf("filters.locations %v at %q: %t", tt.locations, tt.cluster, got)
		}
	}
	if !matchesLocation(nil, "anywhere") {
		t.Error("without filters a cluster is left out")
	}
}

// TestRemediationsGiveUpAtAPercentage: as many may fail as the threshold says, and all
// without one.
func TestRemediationsGiveUpAtAPercentage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		threshold     *v1alpha1.FailureThreshold
		failed, total int32
		want          bool
	}{
		{nil, 10, 10, false}, {&v1alpha1.FailureThreshold{Percentage: 0}, 0, 10, false}, {&v1alpha1.FailureThreshold{Percentage: 0}, 1, 10, true},
		{&v1alpha1.FailureThreshold{Percentage: 20}, 2, 10, false}, {&v1alpha1.FailureThreshold{Percentage: 20}, 3, 10, true},
		{&v1alpha1.FailureThreshold{Percentage: 30}, 3, 10, false}, {&v1alpha1.FailureThreshold{Percentage: 100}, 10, 10, false},
	} {
		if _, got := thresholdOf(tt.threshold, tt.failed, tt.total); got != tt.want {
			t.Errorf("%+v, %d of %d failed: %t", tt.threshold, tt.failed, tt.total, got)
		}
	}
}
