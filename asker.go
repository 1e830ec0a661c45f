package boltseal

import "context"

type askerKey struct{}

// WithAsker returns a context of work that is done for whoever has this name, such
// as a namespace: what many want at a time is shared by name, so that who asks much
// waits for itself. It has no bearing on what is found.
func WithAsker(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, askerKey{}, name)
}

// AskerOf is the name that [WithAsker] gave, "" where none was given.
func AskerOf(ctx context.Context) string {
	name, _ := ctx.Value(askerKey{}).(string)
	return name
}

type turnKey struct{}

// WithTurns returns a context of work that takes turns with others' where it uses
// a processor for long: turn waits, and done is to be called after the work.
func WithTurns(ctx context.Context, turn func(context.Context) (done func(), err error)) context.Context {
	return context.WithValue(ctx, turnKey{}, turn)
}

// TakeTurn waits until work that uses a processor, and waits for nothing else, may
// be done; done is to be called after it. An error says that nobody waits for the
// work any more; it wraps [ErrUnavailable].
func TakeTurn(ctx context.Context) (done func(), err error) {
	turn, _ := ctx.Value(turnKey{}).(func(context.Context) (func(), error))
	if turn == nil {
		return func() {}, nil
	}
	ctx, end := BeginStep(ctx, Step{Stage: StageTurn})
	done, err = turn(ctx)
	end(Ending{Err: err})
	return done, err
}
