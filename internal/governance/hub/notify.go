package hub

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

// Limits on notifications.
const (
	maxQueue       = 1000             // for each sink; the oldest goes first
	notifyTimeout  = 10 * time.Second // of one attempt
	maxAttempts    = 12
	firstBackOff   = time.Second
	longestBackOff = 5 * time.Minute
	maxEventText   = 1024 // what the API server takes as an event's message
)

// Types of CloudEvents.
const (
	TypeNonCompliant      = "dev.boltseal.policy.noncompliant.v1"
	TypeCompliant         = "dev.boltseal.policy.compliant.v1"
	TypeExemptionExpiring = "dev.boltseal.policy.exemption.expiring.v1"
	TypeExemptionExpired  = "dev.boltseal.policy.exemption.expired.v1"
)

// Sink is who is notified: each change is one CloudEvent (1.0, structured mode of
// the HTTP binding), sent by POST, again and again for a while until it is taken
// with a status of 2xx.
type Sink struct {
	// URL with the scheme https. It may have secrets in its path and query, which
	// are never logged.
	URL string
	// Header that goes with each request, such as Authorization.
	Header http.Header
	// Roots that the server's certificate is checked against. Nil means the system's.
	Roots *x509.CertPool
	// FirstBackOff is how long the first retry waits; each next one waits twice as
	// long. 0 means a second.
	FirstBackOff time.Duration
}

// CloudEvent is what is sent. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"` // the same for the same change
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            string    `json:"time"` // RFC 3339
	DataContentType string    `json:"datacontenttype"`
	Data            EventData `json:"data"`
}

// EventData says what changed.
type EventData struct {
	Cluster    string `json:"cluster,omitempty"`
	Assignment string `json:"assignment,omitempty"`
	Reference  string `json:"policyDefinitionReferenceId,omitempty"`
	Exemption  string `json:"exemption,omitempty"`
	ExpiresOn  string `json:"expiresOn,omitempty"` // RFC 3339
	From       string `json:"from,omitempty"`
	To         string `json:"to,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
}

func eventType(k compliance.ChangeKind) string {
	switch k {
	case compliance.TurnedNonCompliant:
		return TypeNonCompliant
	case compliance.TurnedCompliant:
		return TypeCompliant
	case compliance.ExemptionExpiring:
		return TypeExemptionExpiring
	}
	return TypeExemptionExpired
}

// tell tells of changes that were stored in an object's status as this version.
func (r *run) tell(about runtime.Object, changes []compliance.Change, version string, now time.Time) {
	for _, c := range changes {
		kind := corev1.EventTypeWarning
		if c.Kind == compliance.TurnedCompliant {
			kind = corev1.EventTypeNormal
		}
		r.events.Event(about, kind, string(c.Kind), printableText(changeSentence(c), maxEventText))
		e := CloudEvent{SpecVersion: "1.0", Source: "/" + cmp.Or(r.o.Namespace, "boltseal") + "/hub", Type: eventType(c.Kind),
			Subject: cmp.Or(c.Exemption, c.Cluster), Time: now.UTC().Format(time.RFC3339), DataContentType: "application/json",
			Data: EventData{Cluster: c.Cluster, Assignment: c.Assignment, Reference: c.Reference, Exemption: c.Exemption,
				From: string(c.From), To: string(c.To), Reason: c.Reason, Message: c.Message}}
		if !c.ExpiresOn.IsZero() {
			e.Data.ExpiresOn = c.ExpiresOn.UTC().Format(time.RFC3339)
		}
		key := c.Key()
		if key == "" {
			key = fmt.Sprintf("%s/%s/%s/%s/%s", c.Kind, c.Cluster, c.Assignment, c.Reference, version)
		}
		sum := sha256.Sum256([]byte(key))
		e.ID = hex.EncodeToString(sum[:16])
		r.notifier.add(e)
	}
}

func changeSentence(c compliance.Change) string {
	switch {
	case c.Assignment != "" && c.Exemption == "":
		return fmt.Sprintf("assignment %s, %s: %s. %s", c.Assignment, c.Reference, c.To, c.Message)
	case c.Exemption == "":
		return fmt.Sprintf("all assignments together: %s. %s", c.To, c.Message)
	}
	return c.Message
}

// notifier sends what is in its queues.
type notifier struct {
	sinks   []*sink
	log     *slog.Logger
	metrics *metrics
}

type sink struct {
	Sink
	host   string
	client *http.Client
	more   chan struct{} // room for one
	mu     sync.Mutex
	queue  []CloudEvent
}

func newNotifier(sinks []Sink, log *slog.Logger, m *metrics) (*notifier, error) {
	n := &notifier{log: log, metrics: m}
	for i, s := range sinks {
		u, err := url.Parse(s.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, fmt.Errorf("%w: notification %d: its URL is to begin with https:// and a host, without a user", boltseal.ErrConfiguration, i+1)
		}
		if s.FirstBackOff <= 0 {
			s.FirstBackOff = firstBackOff
		}
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: notifyTimeout, TLSClientConfig: &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12}}
		n.sinks = append(n.sinks, &sink{Sink: s, host: u.Host, more: make(chan struct{}, 1), client: &http.Client{Timeout: notifyTimeout, Transport: transport,
			// The header is for this host alone.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}})
	}
	return n, nil
}

func (n *notifier) add(e CloudEvent) {
	for _, s := range n.sinks {
		s.mu.Lock()
		if len(s.queue) == maxQueue {
			s.queue = s.queue[1:]
			n.metrics.notifications.WithLabelValues("dropped").Inc()
		}
		s.queue = append(s.queue, e)
		s.mu.Unlock()
		signalChannel(s.more)
	}
}

func (n *notifier) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range n.sinks {
		wg.Go(func() { n.feed(ctx, s) })
	}
	wg.Wait()
}

// next takes the oldest event out of the queue.
func (s *sink) next() (CloudEvent, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return CloudEvent{}, false
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return e, true
}

func (n *notifier) feed(ctx context.Context, s *sink) {
	for ctx.Err() == nil {
		e, ok := s.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-s.more:
			}
			continue
		}
		outcome, wait := "failed", s.FirstBackOff
		for attempt := 1; ctx.Err() == nil; attempt++ {
			err := s.send(ctx, e)
			if err == nil {
				outcome = "sent"
				break
			}
			if attempt == 1 || attempt == maxAttempts {
				n.log.Warn("a notification could not be sent", "host", s.host, "attempt", attempt, "last", attempt == maxAttempts, "error", err.Error())
			}
			if attempt == maxAttempts {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, longestBackOff)
		}
		n.metrics.notifications.WithLabelValues(outcome).Inc()
	}
}

func (s *sink) send(ctx context.Context, e CloudEvent) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	for k, v := range s.Header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=UTF-8")
	resp, err := s.client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // without the URL, which may have secrets
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return nil
}
