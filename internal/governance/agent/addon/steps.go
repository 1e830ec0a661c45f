package addon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// kindRetry is how often is looked whether the API server serves a definition.
const kindRetry = 100 * time.Millisecond

// install makes everything of the set, then removes what an earlier version had.
func (in *Installer) install(ctx context.Context, inv inventory, r v1alpha1.AddOnReport) error {
	set := in.o.Set
	done := inv.Version == set.Version && inv.Digest == set.digest() && !inv.Removing
	if !done {
		r.State = v1alpha1.AddOnInstalling
		in.tell(r)
	}
	// What may have been made is known before the first thing is.
	var wanted []item
	here := map[string]bool{}
	for _, u := range set.Objects {
		wanted = append(wanted, itemOf(u))
		here[itemOf(u).key()] = true
	}
	all := slices.Clone(wanted)
	for _, i := range inv.Items {
		if !here[i.key()] {
			all = append(all, i)
		}
	}
	if !done {
		if err := in.o.Inventory.Save(ctx, inventory{Version: inv.Version, Items: all}); err != nil {
			return err
		}
	}
	for _, u := range set.Objects {
		if err := in.apply(ctx, u); err != nil {
			return err
		}
	}
	for n := len(all) - 1; n >= len(wanted); n-- {
		if holdsUserData(all[n].Kind) {
			continue // it holds users' things, whatever the version
		}
		if err := in.drop(ctx, all[n]); err != nil {
			return err
		}
	}
	keptToo := slices.Clone(wanted)
	for _, i := range all[len(wanted):] {
		if holdsUserData(i.Kind) {
			keptToo = append(keptToo, i)
		}
	}
	if err := in.o.Inventory.Save(ctx, inventory{Version: set.Version, Digest: set.digest(), Items: keptToo}); err != nil {
		return err
	}
	waiting, err := in.waiting(ctx)
	if err != nil {
		return err
	}
	if waiting != "" {
		r.State, r.Message = v1alpha1.AddOnInstalling, waiting+" is installed, and does not run yet"
		in.tell(r)
		return fmt.Errorf("%s: %w", waiting, errNotReady)
	}
	r.State = v1alpha1.AddOnInstalled
	in.tell(r)
	return nil
}

// apply makes one object stand. What somebody else made in its place is left as it
// is: a definition or a namespace will do as well, and anything else is an error.
func (in *Installer) apply(ctx context.Context, u *unstructured.Unstructured) error {
	i := itemOf(u)
	live, err := in.get(ctx, i)
	if err != nil {
		return err
	}
	if live != nil && !isOurs(live) {
		if holdsUserData(i.Kind) {
			return nil
		}
		return fmt.Errorf("%s was made by somebody else, and is left as it is; rename or remove it", i)
	}
	if live != nil && live.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s is still being removed: %w", i, errNotReady)
	}
	u = u.DeepCopy()
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationAddOn] = u.GetName()
	u.SetAnnotations(annotations)
	body, err := json.Marshal(u.Object)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	force := live != nil // an object that somebody makes in this moment is not overwritten
	_, err = in.at(i).Patch(ctx, i.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: FieldManager, Force: &force})
	in.o.Wrote("addon", err)
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	if i.Kind == "CustomResourceDefinition" {
		return in.served(ctx, i)
	}
	return nil
}

// served waits until the API server serves a definition.
func (in *Installer) served(ctx context.Context, i item) error {
	for {
		u, err := in.get(ctx, i)
		if err != nil || u == nil {
			return fmt.Errorf("%s is not there any more: %w", i, err)
		}
		if conditionTrue(u, "Established") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not served yet: %w", i, context.Cause(ctx))
		case <-time.After(kindRetry):
		}
	}
}

func conditionTrue(u *unstructured.Unstructured, typ string) bool {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(in any) bool {
		c, _ := in.(map[string]any)
		return c["type"] == typ && c["status"] == "True"
	})
}

// waiting names a Deployment of the set that does not run yet.
func (in *Installer) waiting(ctx context.Context) (string, error) {
	for _, u := range in.o.Set.Objects {
		if u.GetKind() != "Deployment" {
			continue
		}
		live, err := in.get(ctx, itemOf(u))
		if err != nil {
			return "", err
		}
		if live == nil || !conditionTrue(live, "Available") {
			return itemOf(u).String(), nil
		}
	}
	return "", nil
}

// drop removes one object that the add-on made, and no other of its name.
func (in *Installer) drop(ctx context.Context, i item) error {
	live, err := in.get(ctx, i)
	if err != nil || live == nil || !isOurs(live) || live.GetDeletionTimestamp() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	uid, background := live.GetUID(), metav1.DeletePropagationBackground
	err = in.at(i).Delete(ctx, i.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background})
	in.o.Wrote("addon", err)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	return nil
}

// remove removes what was made, last things first.
func (in *Installer) remove(ctx context.Context, inv inventory, known, purge bool, r v1alpha1.AddOnReport) error {
	r.InstalledBy = ""
	if !known {
		r.State = v1alpha1.AddOnAbsent
		in.tell(r)
		return nil
	}
	active := slices.ContainsFunc(inv.Items, func(i item) bool { return purge || !holdsUserData(i.Kind) })
	if active {
		r.State = v1alpha1.AddOnRemoving
		in.tell(r)
		inv.Removing = true
		if err := in.o.Inventory.Save(ctx, inv); err != nil {
			return err
		}
	}
	for _, i := range slices.Backward(inv.Items) {
		if holdsUserData(i.Kind) {
			continue
		}
		if err := in.drop(ctx, i); err != nil {
			return err
		}
	}
	left := inventory{Version: inv.Version}
	for _, i := range inv.Items {
		if holdsUserData(i.Kind) {
			left.Items = append(left.Items, i)
		}
	}
	if purge {
		if err := in.purge(ctx); err != nil {
			return err
		}
		for _, i := range slices.Backward(left.Items) {
			if i.Kind == "Namespace" {
				continue // the inventory may be in it, and things of others
			}
			if err := in.drop(ctx, i); err != nil {
				return err
			}
		}
		left.Items = slices.DeleteFunc(left.Items, func(i item) bool { return i.Kind != "Namespace" })
	}
	var err error
	if len(left.Items) == 0 {
		err = in.o.Inventory.Delete(ctx)
	} else {
		err = in.o.Inventory.Save(ctx, left)
	}
	if err != nil {
		return err
	}
	r.State = v1alpha1.AddOnAbsent
	in.tell(r)
	return nil
}

// purge removes every object in which users configured the add-on.
func (in *Installer) purge(ctx context.Context) error {
	for _, gvr := range in.o.Set.Configuration {
		for more := ""; ; {
			list, err := in.o.Dynamic.Resource(gvr).List(ctx, metav1.ListOptions{Limit: pageSize, Continue: more})
			if apierrors.IsNotFound(err) {
				break
			}
			if err != nil {
				return fmt.Errorf("purging %s: %w", gvr.Resource, err)
			}
			for n := range list.Items {
				u := &list.Items[n]
				uid := u.GetUID()
				err := in.within(gvr, u.GetNamespace()).Delete(ctx, u.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
				in.o.Wrote("addon", err)
				if err != nil && !apierrors.IsNotFound(err) {
					return fmt.Errorf("purging %s %s: %w", gvr.Resource, u.GetName(), err)
				}
			}
			if more = list.GetContinue(); more == "" {
				break
			}
		}
	}
	return nil
}
