package govern

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

const (
	// defaultUpdateTimeout is how long an update waits for the cluster.
	defaultUpdateTimeout = 5 * time.Minute
	// updatePoll is how often the hub is asked meanwhile.
	updatePoll = time.Second
)

func newClusterUpdate(env frame.Env) *cobra.Command {
	var f struct{ enable, disable, purge bool }
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "update --name NAME",
		Short: "Enable or disable image integrity in a cluster",
		Long: `Install what verifies images in a cluster, or remove exactly what was installed.
Your own configuration stays, unless --purge says that it goes too.

It waits until the cluster reports that this is done, and prints the cluster's state
then. If the cluster does not report it in time, the hub continues the work;
'boltseal cluster show' shows the progress.`,
		Annotations: map[string]string{frame.Exit0: "done, and the cluster has reported it (or --no-wait)", frame.Exit2: "the cluster has not reported it in time, or the command failed"},
		Example:     "    boltseal cluster update -g myResourceGroup -n mycluster --disable-image-integrity",
	}
	cmd.Flags().BoolVar(&f.enable, "enable-image-integrity", false, "install it")
	cmd.Flags().BoolVar(&f.disable, "disable-image-integrity", false, "remove it")
	cmd.Flags().BoolVar(&f.purge, "purge", false, "with --disable-image-integrity: remove the users' configuration too")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the cluster")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultUpdateTimeout, "`DURATION` to wait for the cluster at the most")
	check := func() error {
		switch {
		case f.enable && f.disable:
			return errors.New("choose one of --enable-image-integrity and --disable-image-integrity")
		case f.purge && !f.disable:
			return errors.New("--purge goes with --disable-image-integrity")
		case !f.enable && !f.disable:
			return errNothingToChange
		case timeout <= 0:
			return errors.New("--timeout must be positive; --no-wait waits for nothing")
		}
		return nil
	}
	return onCluster(env, cmd, check, func(ctx context.Context, h *hub, c *v1alpha1.Cluster, show showFlags) error {
		c.Spec.SecurityProfile.ImageIntegrity = v1alpha1.ImageIntegrity{Enabled: &f.enable, PurgeOnDisable: f.purge}
		if err := explainAnswer("updating the cluster", h.client.Update(ctx, c)); err != nil {
			return err
		}
		why := "" // it was not waited for
		if !noWait {
			var err error
			if why, err = awaitAddOn(ctx, env, h, c, f.enable, timeout); err != nil {
				return err
			}
		}
		if err := showCluster(env, show, c); err != nil || why == "" {
			return err
		}
		fmt.Fprintln(env.Stderr, why)
		return frame.ExitError(frame.ExitUnknown)
	})
}

// takenUp reports whether a cluster's status is about what was changed last.
func takenUp(c *v1alpha1.Cluster) bool { return c.Status.ObservedGeneration >= c.Generation }

// silentSince reports whether a cluster's agent is not in contact, as the hub sees it.
func silentSince(c *v1alpha1.Cluster, now time.Time) bool {
	return c.Status.LastSeen == nil || now.Sub(c.Status.LastSeen.Time) >= compliance.StaleAfter
}

// awaitAddOn reads c anew until the cluster reports that the add-on is as it should be.
// It returns "" then, and why it is not known otherwise.
func awaitAddOn(ctx context.Context, env frame.Env, h *hub, c *v1alpha1.Cluster, enable bool, timeout time.Duration) (string, error) {
	wanted := v1alpha1.AddOnAbsent
	if enable {
		wanted = v1alpha1.AddOnInstalled
	}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for announced := false; ; announced = true {
		switch {
		case !takenUp(c):
		case c.Status.AddOn == wanted:
			return "", nil
		case c.Status.AddOn == v1alpha1.AddOnFailed:
			return fmt.Sprintf("%s reports that it failed; its conditions say why, and it is tried again", c.Name), nil
		case c.Status.AddOn == v1alpha1.AddOnInstalled && h.installedByHand(ctx, c.Name):
			fmt.Fprintf(env.Stderr, "What verifies images in %s was installed by hand, and is left to whoever did that.\n", c.Name)
			return "", nil
		case silentSince(c, time.Now()):
			return fmt.Sprintf("%s does not report to the hub: look whether its agent runs; it does this when it is back", c.Name), nil
		}
		if !announced && env.Interactive(env.Stderr) {
			fmt.Fprintf(env.Stderr, "Waiting until %s reports that it is done (--no-wait does not wait) ...\n", c.Name)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-limit.C:
			return fmt.Sprintf("%s has not reported in %s that it is done; 'boltseal cluster show --name %s' shows the progress", c.Name, timeout, c.Name), nil
		case <-time.After(updatePoll):
		}
		if err := explainAnswer("reading the cluster", h.client.Get(ctx, client.ObjectKeyFromObject(c), c)); err != nil {
			return "", err
		}
	}
}

// installedByHand reports whether a cluster says that its add-on is somebody else's.
func (h *hub) installedByHand(ctx context.Context, cluster string) bool {
	var r v1alpha1.ClusterReport
	err := h.client.Get(ctx, client.ObjectKey{Name: cluster}, &r)
	return err == nil && r.Report.AddOn.InstalledBy == "other"
}
