package verify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

func newExplain(env frame.Env) *cobra.Command {
	var log string
	var out frame.OutputFlag
	cmd := &cobra.Command{
		Use:   "explain [ID] [--audit-log FILE]",
		Short: "Explain a recorded decision, and what would change it",
		Long: `Read one decision from an audit log, decide again from the evidence in that log, and
print what would have led to another decision. It needs no network, and it does not
use today's configuration.

ID is the decision that the message of a denial names, or the traceID of an answer to
Gatekeeper. Without ID, the last decision in the log is explained. Without --audit-log,
the first argument may be the FILE with the log.`,
		Example: `    boltseal explain 7c3f0a9d51e2b846 --audit-log /var/log/boltseal.jsonl
    kubectl -n boltseal-system logs -l app.kubernetes.io/name=boltseal --tail=-1 |
      boltseal explain 7c3f0a9d51e2b846 --audit-log -`,
		GroupID: "serve",
		Args:    frame.CheckArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			if st, err := os.Stat(id); log == "" && err == nil && st.Mode().IsRegular() {
				id, log = "", id
			}
			if log == "" {
				log = env.Getenv("BOLTSEAL_AUDIT_LOG")
			}
			if log == "" {
				return frame.UsageFailure(cmd, errors.New("no audit log: name it with --audit-log, - for standard input"))
			}
			return runExplain(env, id, log, out)
		},
	}
	cmd.Flags().StringVar(&log, "audit-log", "", "`FILE` that the server wrote its decisions to, - for standard input (default $BOLTSEAL_AUDIT_LOG)")
	out.Register(cmd)
	return cmd
}

// explained is what -o json prints.
type explained struct {
	Decision *audit.Decision  `json:"decision,omitempty"`
	Images   []explainedImage `json:"images"`
}

type explainedImage struct {
	// Exempt are exemptions that let it in, as POLICY/EXEMPTION and until when.
	Exempt []string `json:"exempt,omitempty"`
	// Unpinned is set where it is trusted and was named by a tag where a policy demands
	// its digest.
	Unpinned bool          `json:"unpinned,omitempty"`
	Image    string        `json:"image"`
	Digest   string        `json:"digest,omitempty"`
	Evidence string        `json:"evidence,omitempty"`
	Replay   *audit.Replay `json:"replay,omitempty"`
	// Spent is where the time of its verification went, nil where it was known already.
	Spent *audit.ImageSpent `json:"spentNanoseconds,omitempty"`
	// Missing says why there is no replay.
	Missing string `json:"missing,omitempty"`
}

// allLogs reads what all replicas wrote; kubectl logs deploy/… reads one of them.
const allLogs = "kubectl -n boltseal-system logs -l app.kubernetes.io/name=boltseal --tail=-1"

func runExplain(env frame.Env, id, log string, out frame.OutputFlag) error {
	in, done, err := openLog(env, log)
	if err != nil {
		return err
	}
	defer done()
	c, err := audit.Find(in, id)
	if errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("%w in %s: search the log of the replica that answered, and older logs. In a cluster, \"%s\" reads the logs of all replicas", err, log, allLogs)
	}
	if err != nil {
		return err
	}
	e, err := explainCase(c)
	if err != nil {
		return err
	}
	if out.IsData() {
		return out.Encode(env.Stdout, e)
	}
	writeExplained(env, e)
	return nil
}

// openLog opens a log that can be read twice; what comes through a pipe is
// kept in a file meanwhile.
func openLog(env frame.Env, name string) (io.ReadSeeker, func(), error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		return f, func() { _ = f.Close() }, nil
	}
	f, err := os.CreateTemp("", "boltseal-explain-")
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = f.Close(); _ = os.Remove(f.Name()) }
	if _, err = io.Copy(f, env.Stdin); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return f, done, nil
}

func explainCase(c *audit.Case) (explained, error) {
	e := explained{Decision: c.Decision}
	if c.Decision == nil {
		for id, ev := range c.Evidence {
			re, err := ev.Replay()
			if err != nil {
				return e, err
			}
			e.Images = append(e.Images, explainedImage{Image: ev.Result.Image, Digest: ev.Result.Subject.Digest.String(), Evidence: id, Replay: &re})
		}
		return e, nil
	}
	for _, img := range c.Decision.Images {
		x := explainedImage{Image: img.Image, Digest: img.Digest, Evidence: img.Evidence, Exempt: img.Exempt, Unpinned: img.Unpinned, Spent: img.Spent}
		switch ev := c.Evidence[img.Evidence]; {
		case img.Decision == audit.Excluded:
			x.Missing = "not checked: every policy that applies to it excludes this image (excludedImages)"
		case img.Evidence == "" && img.Message != "":
			x.Missing = img.Message // there was nothing to look at
		case ev == nil:
			x.Missing = "its evidence is not in this log"
		default:
			re, err := ev.Replay()
			if err != nil {
				return e, err
			}
			x.Replay = &re
		}
		e.Images = append(e.Images, x)
	}
	return e, nil
}

func writeExplained(env frame.Env, e explained) {
	st := frame.Style(env.Colour(env.Stdout))
	w := env.Stdout
	if d := e.Decision; d != nil {
		what := d.Source + " request"
		if q := d.Request; q != nil {
			what = strings.TrimSpace(fmt.Sprintf("%s %s %s/%s by %s", q.Operation, q.Kind, q.Namespace, q.Name, q.User))
		}
		fmt.Fprintf(w, "Decision %s: %s\n  %s, %s\n", d.ID, frame.SafeText(d.Decision), d.Time.Format("2006-01-02 15:04:05 MST"), frame.SafeText(what))
		if len(d.Policies) > 0 {
			fmt.Fprintf(w, "  policies: %s\n", frame.SafeText(strings.Join(d.Policies, ", ")))
		}
		if d.TraceID != "" {
			fmt.Fprintf(w, "  trace: %s\n", frame.SafeText(d.TraceID))
		}
		fmt.Fprintf(w, "  took %s%s\n", roundTime(d.Took), spentParts(d.Spent.Parts()))
	}
	for _, img := range e.Images {
		fmt.Fprintf(w, "\n%s\n", frame.SafeText(img.Image))
		writeSpent(w, img.Spent)
		for _, e := range img.Exempt {
			fmt.Fprintf(w, "  %s: %s\n", st.Paint(frame.Yellow, "admitted by exemption"), frame.SafeText(e))
		}
		if img.Unpinned {
			fmt.Fprintf(w, "  %s: a policy requires a digest, and the Pod has a tag that was not replaced by its digest\n", st.Paint(frame.Yellow, "not pinned"))
		}
		if img.Missing != "" {
			fmt.Fprintf(w, "  %s\n", img.Missing)
			continue
		}
		word, colour := frame.VerdictWord(img.Replay.Decision)
		fmt.Fprintf(w, "  %s: %s\n", st.Paint(colour, word), frame.SafeText(img.Replay.Reason.Message))
		if !img.Replay.Agrees {
			fmt.Fprintln(w, "  the log says something else, and its evidence does not support that: the log was changed, or another version of Boltseal wrote it")
		}
		for _, ch := range img.Replay.Changes {
			to, _ := frame.VerdictWord(ch.To)
			lead := "would be " + to
			if ch.To == boltseal.Unknown && img.Replay.Decision != boltseal.Allow {
				lead = "may change" // to what is not known before its signatures are checked
			}
			fmt.Fprintf(w, "  %s %s\n", lead, frame.SafeText(ch.What))
			if ch.How != "" {
				fmt.Fprintf(w, "    %s\n", frame.SafeText(ch.How))
			}
		}
	}
}
