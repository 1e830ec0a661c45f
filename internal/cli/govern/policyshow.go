package govern

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jmespath/go-jmespath"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/cli/frame"
)

// maxQuery bounds a query, in bytes.
const maxQuery = 4096

// showFlags say how something is shown: as az does.
type showFlags struct{ output, query string }

var showFormats = []string{"table", "json", "yaml", "tsv"}

func (f *showFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "`FORMAT`: table, json, yaml or tsv (default table, with --query json)")
	cmd.Flags().StringVar(&f.query, "query", "", "show what this JMESPath `EXPRESSION` finds, such as id")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(showFormats, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses what cannot be shown before anything is asked.
func (f *showFlags) check(cmd *cobra.Command) error {
	if f.output != "" && !slices.Contains(showFormats, f.output) {
		return frame.BadUsage(cmd, "--output: %q is not table, json, yaml or tsv%s", f.output, nearest.Hint(f.output, showFormats))
	}
	if len(f.query) > maxQuery {
		return frame.BadUsage(cmd, "--query is longer than %d bytes", maxQuery)
	}
	if f.query != "" {
		if _, err := jmespath.Compile(f.query); err != nil {
			return frame.BadUsage(cmd, "--query: %v", err)
		}
	}
	return nil
}

// show prints v, which encodes as JSON; table prints it for people.
func (f *showFlags) show(env frame.Env, v any, table func(io.Writer, frame.Style) error) error {
	format := f.output
	if format == "" {
		format = "table"
		if f.query != "" {
			format = "json"
		}
	}
	if format == "table" && f.query == "" {
		return table(env.Stdout, frame.Style(env.Colour(env.Stdout)))
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var data any
	if err := json.Unmarshal(b, &data); err != nil {
		return err
	}
	if f.query != "" {
		if data, err = jmespath.Search(f.query, data); err != nil {
			return fmt.Errorf("--query: %w", err)
		}
	}
	switch format {
	case "json":
		if f.query == "" {
			return printJSON(env.Stdout, v) // in the order of the fields
		}
		return printJSON(env.Stdout, data)
	case "yaml":
		out, err := yaml.Marshal(data)
		if err != nil {
			return err
		}
		_, err = env.Stdout.Write(out)
		return err
	}
	var out strings.Builder
	rowsOf(data, func(cells []string) { out.WriteString(strings.Join(cells, "\t") + "\n") })
	_, err = io.WriteString(env.Stdout, out.String())
	return err
}

func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// rowsOf turns data into rows as az does for tsv: a list has a row for each item,
// an object a cell for each value, in the order of the names.
func rowsOf(data any, row func([]string)) {
	list, ok := data.([]any)
	if !ok {
		row(cellsOf(data))
		return
	}
	for _, item := range list {
		row(cellsOf(item))
	}
}

func cellsOf(item any) []string {
	var cells []string
	switch v := item.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			cells = append(cells, cellText(v[k]))
		}
	case []any:
		for _, c := range v {
			cells = append(cells, cellText(c))
		}
	default:
		cells = []string{cellText(v)}
	}
	return cells
}

// cellText is a value on one line.
func cellText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return frame.SafeText(v)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		return strconv.Itoa(len(v))
	}
	return "{}"
}

// printYAML prints objects as documents that kubectl applies.
func printYAML(w io.Writer, objects ...any) error {
	for i, o := range objects {
		b, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		var fields map[string]any
		if err := yaml.Unmarshal(b, &fields); err != nil {
			return err
		}
		delete(fields, "status")
		if m, ok := fields["metadata"].(map[string]any); ok {
			delete(m, "creationTimestamp")
		}
		if b, err = yaml.Marshal(fields); err != nil {
			return err
		}
		if i > 0 {
			b = append([]byte("---\n"), b...)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
