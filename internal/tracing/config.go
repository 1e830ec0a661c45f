package tracing

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// Limits of what the environment says.
const (
	defaultTimeout  = 10 * time.Second // OpenTelemetry's
	maxTimeout      = time.Minute
	maxPairs        = 64
	maxValueBytes   = 4 << 10
	maxTLSFileBytes = 1 << 20
)

// Config is where traces go. It is made by [FromEnvironment].
type Config struct {
	// Endpoint is the collector's address for traces.
	Endpoint *url.URL
	// Headers are shown to the collector. They are secret.
	Headers map[string]string
	// TLS are the files for connections to the collector. Zero: the system's CAs.
	TLS TLSFiles
	// Timeout bounds one export with all its tries.
	Timeout time.Duration
	Gzip    bool
	// Resource are attributes of this process, by name.
	Resource map[string]string
	// Sampler is OpenTelemetry's name for it, and Ratio the part that one by ratio records.
	Sampler string
	Ratio   float64
}

// Samplers.
const (
	alwaysOn    = "always_on"
	alwaysOff   = "always_off"
	byRatio     = "traceidratio"
	parentBased = "parentbased_"
)

var samplers = []string{alwaysOn, alwaysOff, byRatio, parentBased + alwaysOn, parentBased + alwaysOff, parentBased + byRatio}

// FromEnvironment reads the variables that OpenTelemetry names (specification, "SDK
// environment variables" and "OTLP exporter configuration"). It returns nil where no
// collector is named, or tracing is switched off. Errors name the variable and never
// what is in it.
func FromEnvironment(getenv func(string) string) (*Config, error) {
	e := environment{getenv: getenv}
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); {
	case strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true"), exporter == "none":
		return nil, nil
	case exporter != "" && exporter != "otlp":
		e.wrong("OTEL_TRACES_EXPORTER", "choose otlp or none")
	case exporter == "" && getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "":
		return nil, nil
	}
	c := &Config{Endpoint: e.endpoint(), Headers: e.headers(), Timeout: e.timeout(), Resource: e.resource()}
	if name, v := e.either("PROTOCOL"); v != "" && v != "http/protobuf" {
		e.wrong(name, "Boltseal speaks http/protobuf only")
	}
	switch name, v := e.either("COMPRESSION"); v {
	case "", "none":
	case "gzip":
		c.Gzip = true
	default:
		e.wrong(name, "choose gzip or none")
	}
	c.Sampler, c.Ratio = e.sampler()
	c.TLS = e.tls()
	if err := errors.Join(e.errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// environment reads variables, and collects what is wrong with them.
type environment struct {
	getenv func(string) string
	errs   []error
}

func (e *environment) wrong(name, what string) {
	e.errs = append(e.errs, fmt.Errorf("environment variable %s: %s", name, what))
}

// either is the variable for traces, or else the one for all signals.
func (e *environment) either(what string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + what
	if v := e.getenv(name); v != "" {
		return name, v
	}
	name = "OTEL_EXPORTER_OTLP_" + what
	return name, e.getenv(name)
}

func (e *environment) endpoint() *url.URL {
	name, v := e.either("ENDPOINT")
	if v == "" {
		v = "http://localhost:4318"
	}
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		e.wrong(name, "it is no address such as https://collector.example:4318")
		return nil
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		e.wrong(name, "an address has no user, query or fragment: what the collector is to be shown goes into OTEL_EXPORTER_OTLP_HEADERS")
		return nil
	}
	if name == "OTEL_EXPORTER_OTLP_ENDPOINT" { // the other one is used as it is
		return u.JoinPath("v1", "traces")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u
}

// pairs reads a list key=value,…, with values in percent-encoding (W3C Baggage).
func (e *environment) pairs(name string) map[string]string {
	out := map[string]string{}
	for i, pair := range strings.Split(e.getenv(name), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		k = strings.TrimSpace(k)
		value, err := url.PathUnescape(strings.TrimSpace(v))
		switch {
		case !ok || k == "" || err != nil:
			e.wrong(name, fmt.Sprintf("entry %d is not name=value with the value in percent-encoding", i+1))
		case len(out) == maxPairs || len(k)+len(value) > maxValueBytes:
			e.wrong(name, fmt.Sprintf("more than %d entries, or one of more than %d bytes", maxPairs, maxValueBytes))
			return out
		default:
			out[k] = value
		}
	}
	return out
}

func (e *environment) headers() map[string]string {
	out := map[string]string{}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		pairs := e.pairs(name)
		for k, v := range pairs {
			if !httpguts.ValidHeaderFieldName(k) || !httpguts.ValidHeaderFieldValue(v) {
				e.wrong(name, "an entry is no header of HTTP")
			}
		}
		maps.Copy(out, pairs)
	}
	return out
}

func (e *environment) resource() map[string]string {
	out := e.pairs("OTEL_RESOURCE_ATTRIBUTES")
	if v := e.getenv("OTEL_SERVICE_NAME"); v != "" {
		out["service.name"] = v
	}
	if out["service.name"] == "" {
		out["service.name"] = "boltseal"
	}
	return out
}

func (e *environment) timeout() time.Duration {
	name, v := e.either("TIMEOUT")
	if v == "" {
		return defaultTimeout
	}
	ms, err := strconv.ParseUint(v, 10, 31)
	if d := time.Duration(ms) * time.Millisecond; err == nil && d > 0 && d <= maxTimeout {
		return d
	}
	e.wrong(name, fmt.Sprintf("choose milliseconds from 1 to %d", maxTimeout.Milliseconds()))
	return 0
}

func (e *environment) sampler() (name string, ratio float64) {
	name = e.getenv("OTEL_TRACES_SAMPLER")
	if name == "" {
		name = parentBased + alwaysOn
	}
	if !slices.Contains(samplers, name) {
		e.wrong("OTEL_TRACES_SAMPLER", "choose one of "+strings.Join(samplers, ", ")+nearest.Hint(name, samplers))
	}
	ratio = 1
	if v := e.getenv("OTEL_TRACES_SAMPLER_ARG"); v != "" && strings.HasSuffix(name, byRatio) {
		r, err := strconv.ParseFloat(v, 64)
		if err != nil || !(r >= 0 && r <= 1) {
			e.wrong("OTEL_TRACES_SAMPLER_ARG", "choose a number from 0 to 1")
		}
		ratio = r
	}
	return name, ratio
}

func (e *environment) tls() TLSFiles {
	var f TLSFiles
	var caName, certName, keyName string
	caName, f.CA = e.either("CERTIFICATE")
	certName, f.Cert = e.either("CLIENT_CERTIFICATE")
	keyName, f.Key = e.either("CLIENT_KEY")
	_, _, err := f.read()
	if errors.Is(err, errNoCA) {
		e.wrong(caName, errNoCA.Error())
	}
	if errors.Is(err, errNoPair) {
		e.wrong(certName+" and "+keyName, errNoPair.Error())
	}
	return f
}
