package boltseal

import "context"

// Stage is a part of the work on an image that an [Observer] is told of.
type Stage uint8

// Stages. They overlap: a verification contains fetches, and a fetch contains requests.
const (
	StageResolve     Stage = iota // learning the image's descriptor
	StageReferrers                // listing what refers to it
	StageFetch                    // reading an index, or a signature's manifest or blob
	StageVerify                   // a verifier's work on one signature, with what it fetches
	StageRevocation               // one answer of an OCSP or CRL server
	StageToken                    // getting a token from a registry's token server
	StageCredentials              // asking for a registry's credentials
	StageQueue                    // waiting for one of a registry's places, or as long as it asked to wait
	StageTurn                     // waiting for a processor
	StageShared                   // waiting for work of others on the same image
	StageRequest                  // one HTTP request to a registry, or where that redirects
	Stages                        // how many there are
)

var stageNames = [Stages]string{"resolve", "referrers", "fetch", "verify", "revocation", "token", "credentials", "registryQueue", "processor", "shared", "request"}

// String returns the stage's name, such as "resolve".
func (s Stage) String() string { return enumString(stageNames[:], int(s)) }

// Step is one piece of work of a stage.
type Step struct {
	Stage Stage
	// Host is who is asked, or waited for; "" where that is nobody in particular. A
	// stranger may have chosen it.
	Host string
	// Method is the HTTP method of a StageRequest.
	Method string
}

// Ending is how a step ended.
type Ending struct {
	// Status is the HTTP status of a StageRequest, 0 where no answer came.
	Status int
	// Err is why the step failed, nil where it did not.
	Err error
}

// Observer is told where the work on an image spends its time. It has no bearing on
// what is found. It is called from several goroutines at a time, and may be called
// after whoever asked has left.
type Observer interface {
	// Begin is told that a step begins. It returns the context of the step, and what
	// is called once when the step ends; neither is nil.
	Begin(ctx context.Context, s Step) (context.Context, func(Ending))
}

type observerKey struct{}

// WithObserver returns a context of work that o is told of.
func WithObserver(ctx context.Context, o Observer) context.Context {
	return context.WithValue(ctx, observerKey{}, o)
}

// ObserverOf is what [WithObserver] gave, nil where nothing was given.
func ObserverOf(ctx context.Context) Observer {
	o, _ := ctx.Value(observerKey{}).(Observer)
	return o
}

// BeginStep tells ctx's observer, if there is one, that a step begins; end is to be
// called once when it ends. Stores and verifiers call it.
func BeginStep(ctx context.Context, s Step) (_ context.Context, end func(Ending)) {
	o := ObserverOf(ctx)
	if o == nil {
		return ctx, endUnobserved
	}
	return o.Begin(ctx, s)
}

func endUnobserved(Ending) {}

type traceParentKey struct{}

// WithTraceParent returns a context of work whose requests to registries bear this
// header traceparent (W3C Trace Context, section 3.2).
func WithTraceParent(ctx context.Context, value string) context.Context {
	return context.WithValue(ctx, traceParentKey{}, value)
}

// TraceParentOf is the value that [WithTraceParent] gave, "" where none was given.
func TraceParentOf(ctx context.Context) string {
	value, _ := ctx.Value(traceParentKey{}).(string)
	return value
}
