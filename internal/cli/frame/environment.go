package frame

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

// SetFromEnvironment sets the flags that the command line leaves open.
func SetFromEnvironment(fl *pflag.FlagSet, getenv func(string) string) error {
	var errs []error
	fl.VisitAll(func(f *pflag.Flag) {
		name := environmentName(f.Name)
		if v := getenv(name); v != "" && !f.Changed {
			if err := fl.Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
			}
		}
	})
	return errors.Join(errs...)
}

func environmentName(flag string) string {
	return "BOLTSEAL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// NewLogger returns a logger to w for --log-format and --log-level. Its errors are about these flags.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: choose debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q: choose text or json", format)
}
