package integrity

import (
	"fmt"
	"strings"
)

// Drivers are CSI drivers that mount images into Pods, by name, each with the
// attribute of an inline volume that names the image. Nil means [ImageDrivers].
type Drivers map[string]string

// MaxDrivers bounds Drivers.
const MaxDrivers = 64

// maxDriverText bounds a driver's name (CSIDriver: at most 63 characters) and its
// attribute's.
const maxDriverText = 63

// ImageDrivers are the drivers that are known to mount images: warm-metal's, under
// both of its names, and the one of Kubernetes' SIG Storage that is retired.
func ImageDrivers() Drivers {
	return Drivers{"container-image.csi.k8s.io": "image", "csi-image.warm-metal.tech": "image", "image.csi.k8s.io": "image"}
}

// ParseDrivers reads NAME=ATTRIBUTE, which are added to [ImageDrivers].
func ParseDrivers(list []string) (Drivers, error) {
	d := ImageDrivers()
	for _, text := range list {
		name, attribute, ok := strings.Cut(text, "=")
		if !ok || name == "" || attribute == "" || len(name) > maxDriverText || len(attribute) > maxDriverText {
			return nil, fmt.Errorf("%.150q: write DRIVER=ATTRIBUTE: a CSI driver and the volumeAttribute that names the image, such as container-image.csi.k8s.io=image", text)
		}
		if d[name] = attribute; len(d) > MaxDrivers {
			return nil, fmt.Errorf("more than %d CSI drivers", MaxDrivers)
		}
	}
	return d, nil
}

// Uses reports whether an attribute of that name could name an image.
func (d Drivers) Uses(attribute string) bool {
	if d == nil {
		d = ImageDrivers()
	}
	for _, a := range d {
		if a == attribute {
			return true
		}
	}
	return false
}

// Attribute is the attribute of a driver's volumes that names the image. It reports
// false for a driver that is not known to mount images.
func (d Drivers) Attribute(driver string) (string, bool) {
	if d == nil {
		d = ImageDrivers()
	}
	a, ok := d[driver]
	return a, ok
}
