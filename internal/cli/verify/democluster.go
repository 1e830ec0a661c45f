package verify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/demo"
	"github.com/boltseal/boltseal/internal/kube/registrar"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
)

// demoCluster asks a server of the demo's own what a cluster would ask.
type demoCluster struct {
	url         string
	client      *http.Client
	certificate []byte // PEM
	auditFile   string
	stop        func()
}

func startDemoCluster(ctx context.Context, env frame.Env, file string) (*demoCluster, error) {
	c := &demoCluster{auditFile: filepath.Join(filepath.Dir(file), "audit.jsonl")}
	audit, err := os.OpenFile(c.auditFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s, err := service.New(service.Options{Files: []string{file}, Deps: input.CompileDeps(env), Listen: "127.0.0.1:0", SelfSigned: true, Names: []string{"localhost", "127.0.0.1"}, Audit: audit})
	if err != nil {
		_ = audit.Close()
		return nil, err
	}
	leaf, err := s.TLS().Leaf()
	if err != nil {
		_ = audit.Close()
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	c.url = "https://" + s.Addr()
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}}
	c.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(running) // the questions below find out where it fails
	}()
	c.stop = func() {
		c.client.CloseIdleConnections()
		cancel()
		<-ended
		_ = audit.Close()
	}
	return c, nil
}

// show asks both questions about a signed and an unsigned image.
func (c *demoCluster) show(ctx context.Context, env frame.Env, d *demo.Demo) error {
	st := frame.Style(env.Colour(env.Stdout))
	fmt.Fprint(env.Stdout, "\nThe server, asked as a Kubernetes API server asks it:\n")
	for _, p := range []struct {
		name, image string
		want        bool
	}{{"demo-signed", d.Image("signed"), true}, {"demo-unsigned", d.Image("unsigned"), false}} {
		fmt.Fprintf(env.Stdout, "\n  $ kubectl run %s --image=%s\n", p.name, p.image)
		pinned, denial, err := c.admit(ctx, p.name, p.image)
		switch {
		case err != nil:
			return err
		case (denial == nil) != p.want:
			return fmt.Errorf("the pod %s is not treated as it should be: %v", p.name, denial)
		case denial == nil:
			fmt.Fprintf(env.Stdout, "  pod/%s created\n  %s\n", p.name, st.Paint(frame.Faint, "with the image "+pinned))
		default:
			// As the API server words a webhook's denial, and kubectl prints it with the status' reason.
			text := fmt.Sprintf("Error from server (%s): admission webhook %q denied the request: %s", denial.Reason, registrar.ValidateWebhook, denial.Message)
			fmt.Fprintf(env.Stdout, "  %s\n", st.Paint(frame.Red, strings.ReplaceAll(text, "\n", "\n  ")))
		}
	}
	fmt.Fprint(env.Stdout, "\nThe same, asked as Gatekeeper asks its provider:\n\n")
	answers, err := c.gatekeeper(ctx, d.Image("signed"), d.Image("unsigned"))
	if err != nil {
		return err
	}
	for i, a := range answers {
		if a.Value.IsSuccess != (i == 0) || len(a.Value.VerifierReports) == 0 {
			return fmt.Errorf("the report on %s is not as it should be", a.Key)
		}
		fmt.Fprintf(env.Stdout, "  %s\n    isSuccess: %t, %q\n", a.Key, a.Value.IsSuccess, a.Value.VerifierReports[0].Message)
	}
	return nil
}

// admit sends a Pod through mutation and validation, and returns the image that
// it would run with, or why it may not.
func (c *demoCluster) admit(ctx context.Context, name, image string) (pinned string, denial *metav1.Status, err error) {
	pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: image}}}}
	mutated, err := c.review(ctx, server.PathPin, &pod)
	if err != nil {
		return "", nil, err
	}
	var ops []struct{ Op, Path, Value string }
	if len(mutated.Patch) > 0 {
		if err := json.Unmarshal(mutated.Patch, &ops); err != nil {
			return "", nil, err
		}
	}
	for _, op := range ops {
		if op.Op == "replace" && op.Path == "/spec/containers/0/image" {
			pod.Spec.Containers[0].Image = op.Value
		}
	}
	validated, err := c.review(ctx, server.PathValidate, &pod)
	switch {
	case err != nil:
		return "", nil, err
	case validated.Allowed:
		return pod.Spec.Containers[0].Image, nil, nil
	case validated.Result == nil:
		return "", nil, fmt.Errorf("%s: a denial without a reason", server.PathValidate)
	}
	return "", validated.Result, nil
}

func (c *demoCluster) review(ctx context.Context, path string, pod *corev1.Pod) (*admissionv1.AdmissionResponse, error) {
	raw, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	q := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
		UID: "demo", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Name: pod.Name, Namespace: pod.Namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw}}}
	q.Request.UserInfo.Username = "you"
	var a admissionv1.AdmissionReview
	if err := c.post(ctx, path+"?timeout=10s", q, &a); err != nil {
		return nil, err
	}
	if a.Response == nil {
		return nil, fmt.Errorf("%s: an answer without a response", path)
	}
	return a.Response, nil
}

type demoAnswer struct {
	Key   string
	Value struct {
		IsSuccess       bool
		VerifierReports []struct{ Message string }
	}
}

func (c *demoCluster) gatekeeper(ctx context.Context, keys ...string) ([]demoAnswer, error) {
	q := map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": keys}}
	var a struct{ Response struct{ Items []demoAnswer } }
	if err := c.post(ctx, server.PathVerify, q, &a); err != nil {
		return nil, err
	}
	if len(a.Response.Items) != len(keys) {
		return nil, fmt.Errorf("%d answers to %d keys", len(a.Response.Items), len(keys))
	}
	return a.Response.Items, nil
}

func (c *demoCluster) post(ctx context.Context, path string, question, answer any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP %d: %s", path, resp.StatusCode, b)
	}
	return json.Unmarshal(b, answer)
}
