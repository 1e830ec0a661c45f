package frame

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// OutputFlag is -o: table for people, json and yaml for programs.
type OutputFlag string

// Set implements pflag.Value.
func (o *OutputFlag) Set(s string) error {
	switch s {
	case "table", "json", "yaml":
		*o = OutputFlag(s)
		return nil
	}
	return fmt.Errorf("%q is not table, json or yaml", s)
}

// String implements pflag.Value.
func (o *OutputFlag) String() string {
	if *o == "" {
		return "table"
	}
	return string(*o)
}

// Type implements pflag.Value.
func (o *OutputFlag) Type() string { return "FORMAT" }

// Register adds the flag --output.
func (o *OutputFlag) Register(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// outputVersion is the version of what commands print for programs. It changes where a
// field is renamed or removed, or where a value gets another meaning; docs/words.md says so.
const outputVersion = "cli.boltseal.dev/v1"

// EncodeVersioned encodes an object with its apiVersion in front, and a list as the items of one.
func EncodeVersioned(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	head := `{"apiVersion":"` + outputVersion + `"`
	rest, object := bytes.CutPrefix(b, []byte("{"))
	switch {
	case !object:
		return fmt.Appendf(nil, `%s,"items":%s}`, head, b), nil
	case !bytes.HasPrefix(rest, []byte("}")):
		head += ","
	}
	return append([]byte(head), rest...), nil
}

// IsData tells whether the output is for a program.
func (o *OutputFlag) IsData() bool { return *o == "json" || *o == "yaml" }

// Encode writes v as JSON or YAML, with the version of the output.
func (o *OutputFlag) Encode(w io.Writer, v any) error {
	b, err := EncodeVersioned(v)
	if err != nil {
		return err
	}
	if *o == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	var out bytes.Buffer
	if err = json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}
