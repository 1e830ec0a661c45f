package govern

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// object is a pointer to an object at the hub.
type object[T any] interface {
	*T
	client.Object
}

// noun is a kind of objects at the hub, which has the same verbs as all: list, and those about one of them.
type noun[T any, P object[T]] struct {
	name  string // for people, such as "assignment"
	path  string // of its commands, such as "policy assignment"
	list  func(ctx context.Context, h *hub) ([]T, error)
	shape func(o *T) any // what programs get of one, in az's shape
	table func(w io.Writer, st frame.Style, all []T) error
}

// verbFlags are those of every verb.
type verbFlags struct {
	hub  hubFlags
	show showFlags
	name string
}

// listVerb makes cmd list the objects. within is called before anything is asked, and returns which objects are meant; nil
// means all. Its errors are about the command line.
func (n noun[T, P]) listVerb(env frame.Env, cmd *cobra.Command, within func() (func(*T) bool, error)) *cobra.Command {
	var f verbFlags
	cmd.Args = frame.CheckArgs(cobra.NoArgs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.show.check(cmd); err != nil {
			return err
		}
		var meant func(*T) bool
		if within != nil {
			var err error
			if meant, err = within(); err != nil {
				return frame.UsageFailure(cmd, err)
			}
		}
		h, err := f.hub.open(env)
		if err != nil {
			return err
		}
		all, err := n.list(cmd.Context(), h)
		if err != nil {
			return err
		}
		if meant != nil {
			all = slices.DeleteFunc(all, func(o T) bool { return !meant(&o) })
		}
		shown := []any{}
		for i := range all {
			shown = append(shown, n.shape(&all[i]))
		}
		return f.show.show(env, shown, func(w io.Writer, st frame.Style) error { return n.table(w, st, all) })
	}
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

// verbAbout is what a verb about one object does.
type verbAbout[T any] struct {
	naming string       // what --name is: "its `NAME`"
	check  func() error // of the command line, before anything is asked; nil checks nothing
	find   func(ctx context.Context, h *hub, name string) (*T, error)
	do     func(ctx context.Context, h *hub, o *T, show showFlags) error
	quiet  bool // it has no --output: there is nothing to show
}

// oneVerb makes cmd do something with the object that --name, or the argument, names.
func (n noun[T, P]) oneVerb(env frame.Env, cmd *cobra.Command, v verbAbout[T]) *cobra.Command {
	var f verbFlags
	cmd.Args = frame.CheckArgs(cobra.MaximumNArgs(1))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := oneName(cmd, f.name, args)
		if err != nil {
			return err
		}
		if err := f.show.check(cmd); err != nil {
			return err
		}
		if v.check != nil {
			if err := v.check(); err != nil {
				return frame.UsageFailure(cmd, err)
			}
		}
		h, err := f.hub.open(env)
		if err != nil {
			return err
		}
		o, err := v.find(cmd.Context(), h, name)
		if err != nil {
			return err
		}
		return v.do(cmd.Context(), h, o, f.show)
	}
	cmd.Flags().StringVarP(&f.name, "name", "n", "", v.naming)
	f.hub.register(cmd)
	if !v.quiet {
		f.show.register(cmd)
	}
	return cmd
}

// deleteOne is what a verb does that deletes an object: that it is gone already is an error that names the nearest.
func (n noun[T, P]) deleteOne(env frame.Env) func(context.Context, *hub, *T, showFlags) error {
	return func(ctx context.Context, h *hub, o *T, _ showFlags) error {
		name := P(o).GetName()
		err := h.client.Delete(ctx, P(o))
		if apierrors.IsNotFound(err) {
			all, err := n.list(ctx, h)
			if err != nil {
				return err
			}
			return noSuchName(n.name, name, namesOf[T, P](all), "boltseal "+n.path+" list")
		}
		if err != nil {
			return explainAnswer("deleting the "+n.name, err)
		}
		_, err = fmt.Fprintf(env.Stdout, "%s %s: deleted\n", n.name, name)
		return err
	}
}

// showOne is what a verb does that shows an object.
func (n noun[T, P]) showOne(env frame.Env) func(context.Context, *hub, *T, showFlags) error {
	return func(_ context.Context, _ *hub, o *T, show showFlags) error {
		return show.show(env, n.shape(o), func(w io.Writer, st frame.Style) error { return n.table(w, st, []T{*o}) })
	}
}
