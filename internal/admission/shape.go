package admission

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// maxDepth is how deep objects of others' kinds may be.
const maxDepth = 100

// readOther reads an object of a kind that others have defined: its images are found
// by the shape of what is around them.
func (q *Request) readOther(r *request, o Options) error {
	if r.SubResource != "" {
		q.Exempt = "the subresource " + r.SubResource + " contains no image"
		return nil
	}
	if len(r.Object) == 0 || r.Object.Kind() != '{' {
		return fmt.Errorf("%w: request.object is not there", ErrMalformed)
	}
	var obj struct {
		Metadata metadata `json:"metadata"`
	}
	if err := json.Unmarshal(r.Object, &obj, jsontext.AllowDuplicateNames(true)); err != nil {
		return unreadableText("request.object: ", err)
	}
	q.Labels, q.Owner = obj.Metadata.Labels, obj.Metadata.Owners.controller()
	q.named(obj.Metadata)
	now, err := findImages(r.Object, o.Drivers)
	if err != nil {
		return unreadableText("request.object: ", err)
	}
	q.Images, q.PullSecrets, q.ServiceAccount = now.images, now.secrets, now.account
	if r.Operation == "UPDATE" && len(r.OldObject) > 0 && r.OldObject.Kind() == '{' {
		before, err := findImages(r.OldObject, o.Drivers)
		if err != nil {
			return unreadableText("request.oldObject: ", err)
		}
		q.Images = changedImages(q.Images, before.images)
	}
	// What a parameter stands for is known when something is made of the object.
	judged := q.Images[:0:0]
	for _, i := range q.Images {
		if isParameter(i.Image) {
			q.Parameters = append(q.Parameters, i)
		} else {
			judged = append(judged, i)
		}
	}
	if q.Images = judged; len(q.Images) == 0 && len(q.Parameters) == 0 {
		q.Exempt = "no image was added or changed"
	}
	return nil
}

// isParameter reports whether an image is still to be filled in: {{…}} as in Argo's
// Workflows, $(…) as in Tekton's Tasks.
func isParameter(image string) bool {
	return strings.Contains(image, "{{") || strings.Contains(image, "$(")
}

// finder finds images in an object whose type is not known.
type finder struct {
	d       *jsontext.Decoder
	drivers integrity.Drivers
	images  []Image
	secrets []string // names in imagePullSecrets
	account string   // the first serviceAccountName
}

// role is what an object is, by where it stands.
type role uint8

const (
	anything  role = iota
	whole          // the object itself, whose metadata and status are not looked at
	volumeOf       // a volume
	sourceOf       // the image of an image volume
	csiOf          // the inline volume of a CSI driver
	secretsOf      // imagePullSecrets
	imagesOf       // a list that is called image: its texts are images
)

// findImages reads an object. Every text that is called image is an image, wherever it
// stands, and every text in a list that is; so are the references of image volumes, and what CSI drivers mount.
func findImages(object []byte, drivers integrity.Drivers) (*finder, error) {
	f := &finder{d: jsontext.NewDecoder(bytes.NewReader(object), jsontext.AllowDuplicateNames(true)), drivers: drivers}
	return f, f.walk(whole, 0)
}

// text is a text in an object, with its place.
type text struct {
	value   string
	pointer string
}

// walk reads the next value.
func (f *finder) walk(in role, depth int) error {
	if depth > maxDepth {
		return &limitError{maxDepth, "objects within each other"}
	}
	switch f.d.PeekKind() {
	case '[':
		if _, err := f.d.ReadToken(); err != nil {
			return err
		}
		for f.d.PeekKind() != ']' {
			var err error
			if in == imagesOf && f.d.PeekKind() == '"' {
				err = f.listed()
			} else {
				err = f.walk(in, depth+1)
			}
			if err != nil {
				return err
			}
		}
		_, err := f.d.ReadToken()
		return err
	case '{':
		return f.object(in, depth)
	}
	return f.d.SkipValue()
}

// listed reads a text in a list of images.
func (f *finder) listed() error {
	token, err := f.d.ReadToken()
	if err != nil || strings.TrimSpace(token.String()) == "" {
		return err
	}
	return f.add("", "", "", text{token.String(), string(f.d.StackPointer())})
}

// object reads an object's members, and then says what it was.
func (f *finder) object(in role, depth int) error {
	if _, err := f.d.ReadToken(); err != nil {
		return err
	}
	var name, image, driver text
	first := len(f.images)
	attributes := map[string]text{}
	for f.d.PeekKind() != '}' {
		token, err := f.d.ReadToken()
		if err != nil {
			return err
		}
		member := token.String()
		if f.d.PeekKind() == '"' {
			var value text
			if token, err = f.d.ReadToken(); err != nil {
				return err
			}
			value.value = token.String()
			switch {
			case member == "name":
				name = value
			case member == "image" && in != csiOf, member == "reference" && in == sourceOf:
				value.pointer = string(f.d.StackPointer())
				image = value
			case member == "driver" && in == csiOf:
				driver = value
			case member == "serviceAccountName" && f.account == "":
				f.account = value.value
			}
			continue
		}
		if err := f.member(in, member, attributes, depth); err != nil {
			return err
		}
	}
	if _, err := f.d.ReadToken(); err != nil {
		return err
	}
	switch {
	case in == secretsOf && name.value != "":
		if len(f.secrets) == MaxImages {
			return &limitError{MaxImages, "imagePullSecrets"}
		}
		f.secrets = append(f.secrets, name.value)
	case in == csiOf:
		if attribute, ok := f.drivers.Attribute(driver.value); ok {
			a := attributes[attribute]
			return f.add("volumes", "", driver.value, a)
		}
	case in == sourceOf && strings.TrimSpace(image.value) != "":
		return f.add("volumes", "", "", image)
	case in == volumeOf && image.pointer == "":
		for i := first; i < len(f.images); i++ {
			if f.images[i].List == "volumes" && f.images[i].Container == "" {
				f.images[i].Container = name.value
			}
		}
	case strings.TrimSpace(image.value) != "": // "" and " " are for somebody to fill in
		return f.add("", name.value, "", image)
	}
	return nil
}

// member reads a member's value that is no text.
func (f *finder) member(in role, member string, attributes map[string]text, depth int) error {
	as := anything
	switch {
	case in == whole && (member == "metadata" || member == "status"), in == volumeOf && member == "rbd": // a block device's image
		return f.d.SkipValue()
	case in == csiOf && member == "volumeAttributes":
		return f.attributes(attributes)
	case member == "image" && f.d.PeekKind() == '[':
		as = imagesOf
	case in == volumeOf && member == "image":
		as = sourceOf
	case in == volumeOf && member == "csi":
		as = csiOf
	case member == "volumes":
		as = volumeOf
	case member == "imagePullSecrets":
		as = secretsOf
	}
	return f.walk(as, depth+1)
}

// attributes reads those of a CSI volume, as far as they could name an image.
func (f *finder) attributes(into map[string]text) error {
	if f.d.PeekKind() != '{' {
		return f.d.SkipValue()
	}
	if _, err := f.d.ReadToken(); err != nil {
		return err
	}
	for f.d.PeekKind() != '}' {
		token, err := f.d.ReadToken()
		if err != nil {
			return err
		}
		member := token.String()
		if f.d.PeekKind() != '"' || !f.drivers.Uses(member) {
			if err := f.d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if token, err = f.d.ReadToken(); err != nil {
			return err
		}
		into[member] = text{token.String(), string(f.d.StackPointer())}
	}
	_, err := f.d.ReadToken()
	return err
}

func (f *finder) add(list, container, driver string, image text) error {
	if len(f.images) == MaxImages {
		return &limitError{MaxImages, "images"}
	}
	at := image.pointer
	if at == "" {
		at = string(f.d.StackPointer())
	}
	f.images = append(f.images, Image{Container: container, List: list, Driver: driver, Image: image.value, pointer: at, other: true})
	return nil
}

// placePath is a JSON Pointer as people write a place: spec.template.spec.containers[0].
func placePath(pointer string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch {
		case part != "" && strings.Trim(part, "0123456789") == "":
			b.WriteString("[" + part + "]")
		case b.Len() == 0:
			b.WriteString(part)
		default:
			b.WriteString("." + part)
		}
	}
	return b.String()
}
