package integrity_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

func TestDriversThatMountImages(t *testing.T) {
	t.Parallel()
	d, err := integrity.ParseDrivers([]string{"csi.example=imageRef", "image.csi.k8s.io=ref"})
	if err != nil {
		t.Fatal(err)
	}
	for driver, want := range map[string]string{"container-image.csi.k8s.io": "image", "csi-image.warm-metal.tech": "image", "image.csi.k8s.io": "ref", "csi.example": "imageRef", "ebs.csi.aws.com": ""} {
		if a, ok := d.Attribute(driver); a != want || ok != (want != "") {
			t.Errorf("%s: %q %t", driver, a, ok)
		}
		if a, ok := integrity.Drivers(nil).Attribute(driver); ok != strings.Contains(driver, "image") || ok && a != "image" {
			t.Errorf("%s, by default: %q %t", driver, a, ok)
		}
	}
	var many []string
	for i := range integrity.MaxDrivers {
		many = append(many, fmt.Sprintf("d%d=a", i))
	}
	for _, bad := range [][]string{{"csi.example"}, {"=image"}, {"csi.example="}, {strings.Repeat("x", 64) + "=a"}, many} {
		if _, err := integrity.ParseDrivers(bad); err == nil {
			t.Errorf("%.80q were taken", bad)
		}
	}
}
