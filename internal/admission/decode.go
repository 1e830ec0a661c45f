// Package admission reads Kubernetes' AdmissionReviews, finds the images in their objects, and writes the answers.
package admission

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// Version is the one version of AdmissionReview that is answered.
const Version = "admission.k8s.io/v1"

// Limits on one review.
const (
	// MaxBytes is the largest review: the API server takes objects of 3 MiB, and
	// a review may carry two of them.
	MaxBytes = 7 << 20
	// MaxImages is how many images one object may name.
	MaxImages = 1000
	// MaxTexts is how many labels an object and how many groups a user may have.
	MaxTexts = 10_000
	// MaxOwners is how many ownerReferences an object may have.
	MaxOwners = 1000
	maxUID    = 256
)

// Errors of Decode.
var (
	ErrMalformed = errors.New("not an AdmissionReview")
	ErrLimit     = errors.New("over a limit")
)

// Request is what a review asks, as far as it matters here.
type Request struct {
	UID, Operation        string
	Group, Kind           string
	Namespace, Name, User string
	DryRun                bool
	Labels                map[string]string
	// Owner is the ownerReference with controller: true, as whoever sent the object
	// wrote it; nil where there is none, or more than one.
	Owner *integrity.Owner
	// Exempt says why nothing needs to be judged, "" where Images do.
	Exempt string
	// Unknown is set where the kind of object is none that Boltseal reads.
	Unknown bool
	// Images are those to be judged: all of a new object, and of a changed one
	// those that were added or changed.
	Images []Image
	// Parameters are images in an object of others' kinds that are to be filled in
	// later, and cannot be judged before.
	Parameters []Image
	// PullSecrets and ServiceAccount are those of the Pod, or of the Pods to come.
	PullSecrets    []string
	ServiceAccount string
}

// Image is one image in an object.
type Image struct {
	Container string // name of the container or volume
	List      string // "containers", "initContainers", "ephemeralContainers", "volumes"
	Driver    string // of an image volume, where a CSI driver mounts it
	Image     string
	pointer   string // JSON Pointer (RFC 6901) to the value, or to the Pod's spec where number is set
	number    int    // of the container in List, from 1; 0 = it is none
	other     bool   // in an object of a kind of others, whose path people need
}

// Where names the place for people.
func (i Image) Where() string {
	if !i.other {
		return i.what()
	}
	if i.Container == "" {
		return placePath(i.pointer)
	}
	return i.what() + " at " + placePath(i.pointer)
}

// place is the JSON Pointer to the value. It is made when it is needed, which is seldom.
func (i Image) place() string {
	if i.number == 0 {
		return i.pointer
	}
	return i.pointer + "/" + i.List + "/" + strconv.Itoa(i.number-1) + "/image"
}

func (i Image) what() string {
	switch i.List {
	case "initContainers":
		return `init container "` + i.Container + `"`
	case "ephemeralContainers":
		return `ephemeral container "` + i.Container + `"`
	case "volumes":
		if i.Driver != "" {
			return `image volume "` + i.Container + `" (CSI driver ` + i.Driver + `)`
		}
		return `image volume "` + i.Container + `"`
	}
	return `container "` + i.Container + `"`
}

type review struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Request    *request `json:"request"`
}

type request struct {
	UID         string         `json:"uid"`
	Kind        kind           `json:"kind"`
	SubResource string         `json:"subResource"`
	Namespace   string         `json:"namespace"`
	Name        string         `json:"name"`
	Operation   string         `json:"operation"`
	UserInfo    user           `json:"userInfo"`
	Object      jsontext.Value `json:"object"`
	OldObject   jsontext.Value `json:"oldObject"`
	DryRun      bool           `json:"dryRun"`
}

type kind struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
}

type user struct {
	Username string `json:"username"`
	Groups   texts  `json:"groups"`
}

// object is the part that all kinds with containers share: a Pod has its
// containers in spec, the others in a template at their own depth.
type object struct {
	Metadata metadata  `json:"metadata"`
	Spec     spec      `json:"spec"`
	Template *template `json:"template"` // PodTemplate
}

type metadata struct {
	Name         string `json:"name"`
	GenerateName string `json:"generateName"`
	Labels       labels `json:"labels"`
	Owners       owners `json:"ownerReferences"`
	// Annotations can be many and long; whether one is there is all that matters.
	Annotations struct {
		Mirror jsontext.Value `json:"kubernetes.io/config.mirror"`
	} `json:"annotations"`
}

type spec struct {
	podSpec
	Template    *template    `json:"template"`
	JobTemplate *jobTemplate `json:"jobTemplate"`
}

type template struct {
	Spec podSpec `json:"spec"`
}

type jobTemplate struct {
	Spec struct {
		Template template `json:"template"`
	} `json:"spec"`
}

type podSpec struct {
	Containers          list[container] `json:"containers"`
	InitContainers      list[container] `json:"initContainers"`
	EphemeralContainers list[container] `json:"ephemeralContainers"`
	Volumes             list[volume]    `json:"volumes"`
	PullSecrets         list[named]     `json:"imagePullSecrets"`
	ServiceAccount      string          `json:"serviceAccountName"`
}

type named struct {
	Name string `json:"name"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

type volume struct {
	Name  string `json:"name"`
	Image *struct {
		Reference string `json:"reference"`
	} `json:"image"`
	CSI *csiVolume `json:"csi"`
}

type csiVolume struct {
	Driver     string `json:"driver"`
	Attributes labels `json:"volumeAttributes"`
}

// image is what the volume mounts, with the JSON Pointer to it from the volume. It
// reports false where it is no image. A driver that mounts images and is not told
// which is asked for an image without a name: it can be none that is trusted.
func (v volume) image(drivers integrity.Drivers) (image, pointer, driver string, ok bool) {
	switch {
	case v.Image != nil && v.Image.Reference != "":
		return v.Image.Reference, "/image/reference", "", true
	case v.CSI != nil:
		if attribute, ok := drivers.Attribute(v.CSI.Driver); ok {
			return v.CSI.Attributes[attribute], "/csi/volumeAttributes/" + escapePointer(attribute), v.CSI.Driver, true
		}
	}
	return "", "", "", false
}

// escapePointer is a name as a part of a JSON Pointer (RFC 6901 section 3).
func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// place says where the pod spec of a kind stands.
type place uint8

const (
	inSpec place = iota + 1
	inSpecTemplate
	inTemplate
	inJobTemplate
)

func placeOf(group, kind string) (place, string) {
	switch group + "/" + kind {
	case "/Pod":
		return inSpec, "/spec"
	case "/PodTemplate":
		return inTemplate, "/template/spec"
	case "/ReplicationController", "apps/Deployment", "apps/ReplicaSet", "apps/StatefulSet", "apps/DaemonSet", "batch/Job":
		return inSpecTemplate, "/spec/template/spec"
	case "batch/CronJob":
		return inJobTemplate, "/spec/jobTemplate/spec/template/spec"
	}
	return 0, ""
}

// Options say what is read of objects beside the containers of Kubernetes' own kinds.
// The zero value reads what is known to everybody.
type Options struct {
	// Drivers are the CSI drivers that mount images.
	Drivers integrity.Drivers
	// Other reports whether a kind of others is read, too. Nil means none.
	Other func(group, kind string) bool
}

// Decode reads a review. On an error the Request is to be denied, unless its
// Namespace is never judged: its UID is set where it could be read, so that the
// answer finds its question, and its Namespace where all but the object could.
func (o Options) Decode(body []byte) (Request, error) {
	if len(body) > MaxBytes {
		return Request{}, fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, len(body), MaxBytes)
	}
	var rv review
	err := json.Unmarshal(body, &rv)
	if rv.Request == nil {
		rv.Request = &request{}
	}
	r := rv.Request
	if len(r.UID) > maxUID {
		r.UID = ""
	}
	q := Request{UID: r.UID, Operation: r.Operation, Group: r.Kind.Group, Kind: integrity.KindName(r.Kind.Group, r.Kind.Kind), Namespace: r.Namespace, Name: r.Name, User: r.UserInfo.Username, DryRun: r.DryRun}
	switch {
	case err != nil:
		q.Namespace = "" // a second one may have followed
		return q, unreadableText("", err)
	case rv.Kind != "AdmissionReview" || rv.APIVersion != Version:
		q.Namespace = "" // it may mean something else there
		return q, fmt.Errorf("%w of %s: kind %.60q, apiVersion %.60q", ErrMalformed, Version, rv.Kind, rv.APIVersion)
	case r.UID == "":
		return q, fmt.Errorf("%w: no usable request.uid", ErrMalformed)
	}
	return q, q.read(r, o)
}

// read finds out what is to be judged.
func (q *Request) read(r *request, o Options) error {
	at, pointer := placeOf(r.Kind.Group, r.Kind.Kind)
	switch {
	case r.Operation == "DELETE" || r.Operation == "CONNECT":
		q.Exempt = "nothing is run by " + r.Operation
		return nil
	case r.Operation != "CREATE" && r.Operation != "UPDATE":
		return fmt.Errorf("%w: operation %.60q", ErrMalformed, r.Operation)
	case at == 0 && o.Other != nil && o.Other(r.Kind.Group, r.Kind.Kind):
		return q.readOther(r, o)
	case at == 0:
		q.Exempt, q.Unknown = "Boltseal does not read the kind "+r.Kind.Kind, r.SubResource == ""
		return nil
	case r.SubResource != "" && r.SubResource != "ephemeralcontainers" && r.SubResource != "resize":
		q.Exempt = "the subresource " + r.SubResource + " contains no image"
		return nil
	}
	obj, err := decodeObject(r.Object, "object")
	if err != nil {
		return err
	}
	q.Labels, q.Owner = obj.Metadata.Labels, obj.Metadata.Owners.controller()
	q.named(obj.Metadata)
	if q.Kind == "Pod" && isMirrorPod(obj, r.UserInfo) {
		q.Exempt = "a mirror of a Pod that the node runs already"
		return nil
	}
	if q.Images, err = obj.images(at, pointer, o.Drivers); err != nil {
		return err
	}
	if p := obj.pod(at); p != nil {
		q.ServiceAccount = p.ServiceAccount
		for _, s := range p.PullSecrets {
			q.PullSecrets = append(q.PullSecrets, s.Name)
		}
	}
	if r.Operation == "UPDATE" && len(r.OldObject) > 0 && r.OldObject.Kind() == '{' {
		old, err := decodeObject(r.OldObject, "oldObject")
		if err != nil {
			return err
		}
		before, err := old.images(at, pointer, o.Drivers)
		if err != nil {
			return err
		}
		q.Images = changedImages(q.Images, before)
	}
	if len(q.Images) == 0 {
		q.Exempt = "no image was added or changed"
	}
	return nil
}

// named takes an object's name from it, where the review has none.
func (q *Request) named(m metadata) {
	if q.Name == "" {
		q.Name = m.Name
	}
	if q.Name == "" && m.GenerateName != "" {
		q.Name = m.GenerateName + "*"
	}
}

func decodeObject(b jsontext.Value, name string) (*object, error) {
	if len(b) == 0 || b.Kind() != '{' {
		return nil, fmt.Errorf("%w: request.%s is not there", ErrMalformed, name)
	}
	var o object
	// That no name stands twice was seen to when the whole review was read.
	if err := json.Unmarshal(b, &o, jsontext.AllowDuplicateNames(true)); err != nil {
		return nil, unreadableText("request."+name+": ", err)
	}
	return &o, nil
}

// isMirrorPod reports whether the Pod stands for one that a node has started from a
// file of its own. Only a node may say so: anybody could write the annotation.
func isMirrorPod(o *object, u user) bool {
	return len(o.Metadata.Annotations.Mirror) > 0 && strings.HasPrefix(u.Username, "system:node:") && slices.Contains(u.Groups, "system:nodes")
}

// pod is where the containers are, nil where a template is not there.
func (o *object) pod(at place) *podSpec {
	switch {
	case at == inSpec:
		return &o.Spec.podSpec
	case at == inSpecTemplate && o.Spec.Template != nil: // a ReplicationController may come without one
		return &o.Spec.Template.Spec
	case at == inTemplate && o.Template != nil:
		return &o.Template.Spec
	case at == inJobTemplate && o.Spec.JobTemplate != nil:
		return &o.Spec.JobTemplate.Spec.Template.Spec
	}
	return nil
}

func (o *object) images(at place, pointer string, drivers integrity.Drivers) ([]Image, error) {
	p := o.pod(at)
	if p == nil {
		return nil, nil
	}
	n := len(p.Containers) + len(p.InitContainers) + len(p.EphemeralContainers)
	if n > MaxImages {
		return nil, &limitError{MaxImages, "containers, volumes or imagePullSecrets"}
	}
	out := make([]Image, 0, n)
	add := func(list string, cs []container) {
		for i, c := range cs {
			if c.Image != "" || list == "ephemeralContainers" || at == inSpec {
				out = append(out, Image{Container: c.Name, List: list, Image: c.Image, pointer: pointer, number: i + 1})
			}
		}
	}
	add("containers", p.Containers)
	add("initContainers", p.InitContainers)
	add("ephemeralContainers", p.EphemeralContainers)
	for i, v := range p.Volumes {
		if image, at, driver, ok := v.image(drivers); ok {
			out = append(out, Image{Container: v.Name, List: "volumes", Driver: driver, Image: image, pointer: pointer + "/volumes/" + strconv.Itoa(i) + at})
		}
	}
	return out, nil
}

// changedImages leaves the images that the object did not have before in the same
// container.
func changedImages(now, before []Image) []Image {
	type key struct{ list, container, pointer string }
	of := func(i Image) key {
		if i.other {
			return key{pointer: i.pointer} // names may stand more than once
		}
		return key{list: i.List, container: i.Container}
	}
	had := make(map[key]string, len(before))
	for _, i := range before {
		had[of(i)] = i.Image
	}
	out := now[:0]
	for _, i := range now {
		if image, ok := had[of(i)]; !ok || image != i.Image {
			out = append(out, i)
		}
	}
	return out
}

// unreadableText says why a text could not be read, and whether for a limit.
func unreadableText(where string, err error) error {
	if limit, ok := errors.AsType[*limitError](err); ok {
		return fmt.Errorf("%s%w", where, limit)
	}
	return fmt.Errorf("%w: %s%s", ErrMalformed, where, cleanError(err))
}

// cleanError is the error without the input that it may quote.
func cleanError(err error) string {
	s := err.Error()
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
