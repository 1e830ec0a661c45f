package machine

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probeLimit is how long a probe may take, whatever the Pod says: a slow machine is not what is tested.
const probeLimit = time.Minute

// probe asks as the Pod says until ctx ends. Who is to be ended for an answer is told by dead.
func (c *container) probe(ctx context.Context, dead chan<- string) {
	if p := c.spec.StartupProbe; p != nil && !c.passes(ctx, p) {
		dead <- "its startup probe fails"
		return
	}
	if ctx.Err() != nil {
		return
	}
	c.set(func() { c.started, c.ready = true, c.spec.ReadinessProbe == nil })
	c.pod.report(ctx)
	var wg sync.WaitGroup
	if p := c.spec.ReadinessProbe; p != nil {
		wg.Go(func() {
			c.ask(ctx, p, func(ok bool) bool {
				c.set(func() { c.ready = ok })
				c.pod.report(ctx)
				return true
			})
		})
	}
	if p := c.spec.LivenessProbe; p != nil {
		wg.Go(func() {
			c.ask(ctx, p, func(ok bool) bool {
				if !ok && !c.pod.isEnding() {
					dead <- "its liveness probe fails"
				}
				return ok
			})
		})
	}
	wg.Wait()
}

// passes reports whether a probe succeeds before it has failed. It is true where ctx ends before.
func (c *container) passes(ctx context.Context, p *corev1.Probe) bool {
	passed := true
	c.ask(ctx, p, func(ok bool) bool {
		passed = ok
		return false
	})
	return passed
}

// ask probes with the Pod's times and thresholds and says each change of the outcome, until ctx ends or tell is false.
func (c *container) ask(ctx context.Context, p *corev1.Probe, tell func(ok bool) bool) {
	httpClient := &http.Client{Timeout: probeLimit, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // as a kubelet's
	var outcome *bool
	good, bad := int32(0), int32(0)
	wait := time.Duration(p.InitialDelaySeconds) * time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = time.Duration(max(p.PeriodSeconds, 1)) * time.Second
		var err error
		if p.HTTPGet == nil {
			err = fmt.Errorf("this node knows probes by HTTP only")
			c.pod.m.complain("container %s of Pod %s: %w", c.spec.Name, c.pod, err)
			return
		}
		err = c.get(ctx, httpClient, p.HTTPGet)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		now := err == nil
		if now && good < max(p.SuccessThreshold, 1) || !now && bad < max(p.FailureThreshold, 1) || outcome != nil && *outcome == now {
			continue
		}
		outcome = &now
		if !tell(now) {
			return
		}
	}
}

// get is a request to the container; statuses from 200 to 399 are success.
func (c *container) get(ctx context.Context, httpClient *http.Client, g *corev1.HTTPGetAction) error {
	port, err := c.port(g.Port)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(g.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(c.pod.address, port)+"/"+strings.TrimPrefix(g.Path, "/"), nil)
	if err != nil {
		return err
	}
	for _, h := range g.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

func (c *container) port(p intstr.IntOrString) (string, error) {
	if p.Type == intstr.Int {
		return strconv.Itoa(p.IntValue()), nil
	}
	for _, have := range c.spec.Ports {
		if have.Name == p.StrVal {
			return strconv.Itoa(int(have.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("the container has no port %s", p.StrVal)
}
