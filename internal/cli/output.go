package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputFlag is -o: table for people, json and yaml for programs.
type outputFlag string

// Set implements pflag.Value.
func (o *outputFlag) Set(s string) error {
	switch s {
	case "table", "json", "yaml":
		*o = outputFlag(s)
		return nil
	}
	return fmt.Errorf("%q is not table, json or yaml", s)
}

// String implements pflag.Value.
func (o *outputFlag) String() string {
	if *o == "" {
		return "table"
	}
	return string(*o)
}

// Type implements pflag.Value.
func (o *outputFlag) Type() string { return "FORMAT" }

func (o *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// data tells whether the output is for a program.
func (o *outputFlag) data() bool { return *o == "json" || *o == "yaml" }

func (o *outputFlag) encode(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
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
	_, err = w.Write(append(b, '\n'))
	return err
}
