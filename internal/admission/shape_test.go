package admission_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// others reads all kinds of others.
func others() admission.Options {
	return admission.Options{Other: func(string, string) bool { return true }, Drivers: integrity.Drivers{"csi.example": "ref"}}
}

// otherReview is a review of an object of a kind of others, in YAML; old is what it
// was before, "" for a new one.
func otherReview(t testing.TB, object, old string) []byte {
	t.Helper()
	raw := func(text string) json.RawMessage {
		b, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	q := map[string]any{"uid": "u", "operation": "CREATE", "namespace": "team", "kind": map[string]string{"group": "example.org", "version": "v7", "kind": "Thing"}, "object": raw(object)}
	if old != "" {
		q["operation"], q["oldObject"] = "UPDATE", raw(old)
	}
	b, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": q})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestImagesInKindsOfOthers: whoever has defined a kind, the images in its objects
// are found by the shape of what is around them.
func TestImagesInKindsOfOthers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		object string
		want   []string // WHERE=IMAGE
	}{
		"a Rollout": {`{metadata: {name: web}, spec: {replicas: 1, strategy: {canary: {steps: [{setWeight: 20}, {pause: {}}]}}, template: {spec: {initContainers: [{name: i, image: a:1}], containers: [{name: app, image: b:1, env: [{name: image, value: none}], ports: [{name: image}]}]}}}}`,
			[]string{`container "i" at spec.template.spec.initContainers[0].image=a:1`, `container "app" at spec.template.spec.containers[0].image=b:1`}},
		"a Knative Service without a name":  {`{spec: {template: {spec: {containerConcurrency: 0, containers: [{image: a:1}]}}}}`, []string{"spec.template.spec.containers[0].image=a:1"}},
		"a DeploymentConfig":                {`{spec: {triggers: [{type: ImageChange, imageChangeParams: {from: {kind: ImageStreamTag, name: "x:latest"}, lastTriggeredImage: "r/x@sha256:1"}}], template: {spec: {containers: [{name: app, image: " "}, {name: b, image: ""}, {name: c, image: c:1}]}}}}`, []string{`container "c" at spec.template.spec.containers[2].image=c:1`}},
		"a list of jobs":                    {`{spec: {replicatedJobs: [{template: {spec: {template: {spec: {containers: [{name: x, image: a:1}]}}}}}, {template: {spec: {template: {spec: {containers: [{name: x, image: a:2}]}}}}}]}}`, []string{`container "x" at spec.replicatedJobs[0].template.spec.template.spec.containers[0].image=a:1`, `container "x" at spec.replicatedJobs[1].template.spec.template.spec.containers[0].image=a:2`}},
		"by roles":                          {`{spec: {pytorchReplicaSpecs: {Master: {template: {spec: {containers: [{name: m, image: a:1}]}}}}}}`, []string{`container "m" at spec.pytorchReplicaSpecs.Master.template.spec.containers[0].image=a:1`}},
		"a Workflow":                        {`{spec: {templates: [{name: t, container: {image: a:1}}, {name: s, script: {image: b:1, source: x}}, {name: c, containerSet: {containers: [{name: c1, image: c:1}]}, sidecars: [{name: sc, image: d:1}]}]}}`, []string{"spec.templates[0].container.image=a:1", "spec.templates[1].script.image=b:1", `container "c1" at spec.templates[2].containerSet.containers[0].image=c:1`, `container "sc" at spec.templates[2].sidecars[0].image=d:1`}},
		"a Task":                            {`{spec: {stepTemplate: {image: a:1}, steps: [{name: s, image: b:1, script: "image: no"}], sidecars: [{name: d, image: c:1}]}}`, []string{"spec.stepTemplate.image=a:1", `container "s" at spec.steps[0].image=b:1`, `container "d" at spec.sidecars[0].image=c:1`}},
		"a PipelineRun":                     {`{spec: {pipelineSpec: {tasks: [{name: t, taskSpec: {steps: [{name: s, image: b:1}]}}]}}}`, []string{`container "s" at spec.pipelineSpec.tasks[0].taskSpec.steps[0].image=b:1`}},
		"a virtual machine":                 {`{spec: {template: {spec: {domain: {firmware: {kernelBoot: {container: {image: k:1}}}}, volumes: [{name: root, containerDisk: {image: disk:1}}, {name: c, cloudInitNoCloud: {userData: x}}]}}}}`, []string{"spec.template.spec.domain.firmware.kernelBoot.container.image=k:1", "spec.template.spec.volumes[0].containerDisk.image=disk:1"}},
		"one image at the top":              {`{spec: {image: a:1, version: 3}}`, []string{"spec.image=a:1"}},
		"outside of spec":                   {`{template: {spec: {containers: [{name: x, image: a:1}]}}, objects: [{kind: Pod, spec: {containers: [{name: z, image: b:1}]}}]}`, []string{`container "x" at template.spec.containers[0].image=a:1`, `container "z" at objects[0].spec.containers[0].image=b:1`}},
		"volumes":                           {`{spec: {template: {spec: {containers: [], volumes: [{name: v, image: {reference: a:1, pullPolicy: Always}}, {name: d, csi: {driver: csi.example, volumeAttributes: {ref: b:1, image: none}}}, {name: o, csi: {driver: other, volumeAttributes: {ref: none, image: none}}}, {name: r, rbd: {image: none, monitors: [m]}}, {image: {reference: c:1}, name: late}]}}}}`, []string{`image volume "v" at spec.template.spec.volumes[0].image.reference=a:1`, `image volume "d" (CSI driver csi.example) at spec.template.spec.volumes[1].csi.volumeAttributes.ref=b:1`, `image volume "late" at spec.template.spec.volumes[4].image.reference=c:1`}},
		"two templates, and a list of them": {`{spec: {leaderWorkerTemplate: {leaderTemplate: {spec: {containers: [{name: l, image: a:1}]}}, workerTemplate: {spec: {containers: [{name: w, image: b:1}], ephemeralContainers: [{name: e, image: c:1}]}}}, podTemplates: [[{spec: {containers: [{name: x, image: d:1}]}}]]}}`, []string{`container "l" at spec.leaderWorkerTemplate.leaderTemplate.spec.containers[0].image=a:1`, `container "w" at spec.leaderWorkerTemplate.workerTemplate.spec.containers[0].image=b:1`, `container "e" at spec.leaderWorkerTemplate.workerTemplate.spec.ephemeralContainers[0].image=c:1`, `container "x" at spec.podTemplates[0][0].spec.containers[0].image=d:1`}},
		"a CronWorkflow":                    {`{spec: {schedule: "* * * * *", workflowSpec: {templates: [{name: t, script: {image: a:1}}]}}}`, []string{"spec.workflowSpec.templates[0].script.image=a:1"}},
		"a list of images called image":     {`{spec: {image: [a:1, {image: b:1}, [c:1]]}}`, []string{"spec.image[0]=a:1", "spec.image[1].image=b:1", "spec.image[2][0]=c:1"}},
		"a block device beside an image":    {`{spec: {volumes: [{name: r, rbd: {image: none}}, {name: d, dataVolume: {name: x}}], rbd: {image: a:1}}}`, []string{"spec.rbd.image=a:1"}},
		"a volume group snapshot":           {`{spec: {volumeGroupSnapshotClassName: c, source: {selector: {matchLabels: {image: none}}}}}`, []string{"spec.source.selector.matchLabels.image=none"}},
		"status below":                      {`{spec: {template: {metadata: {image: a:1}, status: {image: b:1}}}}`, []string{"spec.template.metadata.image=a:1", "spec.template.status.image=b:1"}},
		"what is no image":                  {`{metadata: {annotations: {image: none}, labels: {image: none}}, status: {containers: [{image: none}]}, spec: {image: {repository: none, tag: none}, images: [none], other: {image: 7}, more: {image: null}, text: image}}`, nil},
		"volumes of another shape":          {`{spec: {volumes: {a: {image: x:1}, b: [1, {csi: 3}], c: text}, containers: 3, imagePullSecrets: {a: b}}}`, []string{"spec.volumes.a.image=x:1"}},
	} {
		q, err := others().Decode(otherReview(t, tt.object, ""))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, i := range q.Images {
			got = append(got, i.Where()+"="+i.Image)
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) || q.Kind != "example.org/Thing" || q.Unknown {
			t.Errorf("%s: %+v\n%s\nwant\n%s", name, q, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
	if q, err := (admission.Options{}).Decode(otherReview(t, "{spec: {image: x}}", "")); err != nil || !q.Unknown || len(q.Images) > 0 {
		t.Errorf("a kind that nobody names: %+v, %v", q, err)
	}
}

// TestImagesThatAreNotFoundInKindsOfOthers: docs/webhook.md lists these. What comes of
// them is judged as Pods.
func TestImagesThatAreNotFoundInKindsOfOthers(t *testing.T) {
	t.Parallel()
	for name, object := range map[string]string{
		"in parts":                  "{spec: {image: {repository: r, tag: t}}}",
		"under another name":        "{spec: {imageName: a:1, baseImage: a:1, containerImage: a:1, images: [a:1]}}",
		"in a text that is JSON":    `{spec: {template: "{\"spec\":{\"containers\":[{\"image\":\"a:1\"}]}}", data: {"pod.yaml": "image: a:1"}}}`,
		"in annotations and status": "{metadata: {annotations: {image: a:1}}, status: {image: a:1}}",
		"by a reference":            "{spec: {workflowTemplateRef: {name: t}, taskRef: {resolver: bundles, params: [{name: bundle, value: a:1}]}}}",
	} {
		q, err := others().Decode(otherReview(t, object, ""))
		if err != nil || len(q.Images) > 0 || q.Exempt == "" {
			t.Errorf("%s: %+v, %v", name, q, err)
		}
	}
}

// TestKindsOfOthersHaveOwnersAndSecrets: all else that is judged by is read as well.
func TestKindsOfOthersHaveOwnersAndSecrets(t *testing.T) {
	t.Parallel()
	q, err := others().Decode(otherReview(t, `{metadata: {generateName: web-, labels: {a: b}, ownerReferences: [{apiVersion: x/v1, kind: App, name: o, uid: u, controller: true}]}, spec: {template: {spec: {serviceAccountName: puller, imagePullSecrets: [{name: one}, {name: two}], containers: [{name: c, image: a:1}]}}}}`, ""))
	if err != nil || q.Name != "web-*" || q.Labels["a"] != "b" || q.Owner == nil || q.Owner.Name != "o" || q.ServiceAccount != "puller" || !slices.Equal(q.PullSecrets, []string{"one", "two"}) {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestChangesInKindsOfOthers: what was there before is left alone, where it was.
func TestChangesInKindsOfOthers(t *testing.T) {
	t.Parallel()
	of := func(images ...string) string {
		var b strings.Builder
		for _, i := range images {
			fmt.Fprintf(&b, "{name: same, image: %q},", i)
		}
		return "{spec: {containers: [" + b.String() + "]}}"
	}
	for _, tt := range []struct {
		old, now, want []string
	}{
		{[]string{"a"}, []string{"a"}, nil},
		{[]string{"a"}, []string{"b"}, []string{"b"}},
		{[]string{"a", "b"}, []string{"a", "c"}, []string{"c"}},
		{[]string{"a"}, []string{"a", "a"}, []string{"a"}},
		{[]string{"evil", "a"}, []string{"a", "evil"}, []string{"a", "evil"}}, // one that is moved is judged again
	} {
		q, err := others().Decode(otherReview(t, of(tt.now...), of(tt.old...)))
		if err != nil || !slices.Equal(images(q), tt.want) || (q.Exempt == "") != (len(tt.want) > 0) {
			t.Errorf("%v to %v: %+v, %v", tt.old, tt.now, q, err)
		}
	}
}

// TestParametersAreNotImagesYet: what is filled in later is told of, and the others
// are judged.
func TestParametersAreNotImagesYet(t *testing.T) {
	t.Parallel()
	q, err := others().Decode(otherReview(t, `{spec: {steps: [{name: a, image: "$(params.image)"}, {name: b, image: "r/x:{{inputs.parameters.tag}}"}, {name: c, image: c:1}]}}`, ""))
	if err != nil || !slices.Equal(images(q), []string{"c:1"}) || len(q.Parameters) != 2 || q.Exempt != "" {
		t.Errorf("%+v, %v", q, err)
	}
	q, err = others().Decode(otherReview(t, `{spec: {steps: [{name: a, image: "$(params.image)"}]}}`, ""))
	if err != nil || len(q.Images) != 0 || len(q.Parameters) != 1 || q.Exempt != "" {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestKindsOfOthersAreBounded: an object that is deeper or has more than may be is
// not admitted unread.
func TestKindsOfOthersAreBounded(t *testing.T) {
	t.Parallel()
	many := "{spec: {containers: [" + strings.Repeat("{image: a},", admission.MaxImages+1) + "]}}"
	secrets := "{spec: {imagePullSecrets: [" + strings.Repeat("{name: a},", admission.MaxImages+1) + "]}}"
	for name, object := range map[string]string{"deep": `{"a":` + strings.Repeat(`{"a":[`, 60) + strings.Repeat("]}", 60) + "}", "many": many, "secrets": secrets} {
		if _, err := others().Decode(otherReview(t, object, "")); !errors.Is(err, admission.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := others().Decode(otherReview(t, "{}", object)); !errors.Is(err, admission.ErrLimit) {
			t.Errorf("%s, before: %v", name, err)
		}
	}
	if _, err := others().Decode([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"group":"x.y","kind":"Z"}}}`)); err == nil {
		t.Error("a review without an object is read")
	}
}

// every collects the texts called image in what encoding/json reads, but for
// metadata, status and volumes.
func every(v any, top bool, out *[]string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			every(e, false, out)
		}
	case map[string]any:
		for k, e := range v {
			if top && (k == "metadata" || k == "status") {
				continue
			}
			if s, ok := e.(string); ok && k == "image" && strings.TrimSpace(s) != "" {
				*out = append(*out, s)
			}
			if l, ok := e.([]any); ok && k == "image" {
				listed(l, out)
			}
			every(e, false, out)
		}
	}
}

// listed collects the texts in a list that is called image, and in lists in it.
func listed(l []any, out *[]string) {
	for _, e := range l {
		switch e := e.(type) {
		case string:
			if strings.TrimSpace(e) != "" {
				*out = append(*out, e)
			}
		case []any:
			listed(e, out)
		}
	}
}

// FuzzKindsOfOthers holds what is found against a plain reading of the same object.
func FuzzKindsOfOthers(f *testing.F) {
	f.Add(`{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"x:1"}]}}}}`)
	f.Add(`{"spec":{"image":["a",["b",{"image":["c"]}]],"volumes":[{"image":["d"]}]}}`)
	f.Add(`{"spec":{"image":"a","steps":[{"image":"b"},3,"image",{"image":{"image":"c"}}]},"status":{"image":"d"}}`)
	f.Fuzz(func(t *testing.T, object string) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(object), func() {
			_, _ = others().Decode([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"group":"example.org","kind":"Thing"},"object":` + object + `}}`))
		})
		if strings.Contains(object, `"volumes"`) || strings.Contains(object, `\`) || !json.Valid([]byte(object)) {
			return
		}
		body := []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"group":"x.y","kind":"Z"},"object":` + object + `}}`)
		q, err := others().Decode(body)
		if err != nil || q.Unknown {
			return
		}
		var want []string
		var v any
		if err := json.Unmarshal([]byte(object), &v); err != nil {
			t.Fatal(err)
		}
		every(v, true, &want)
		got := images(q)
		for _, i := range q.Parameters {
			got = append(got, i.Image)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q, and %q in %s", got, want, object)
		}
	})
}
