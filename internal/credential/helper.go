package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/oci"
)

// The protocol of docker's credential helpers (docker/docker-credential-helpers):
// the server on standard input, JSON or a message on standard output.
const (
	helperPrefix  = "docker-credential-"
	tokenUser     = "<token>" // the secret is an identity token
	helperUnknown = "credentials not found in native keychain"
)

// Limits on a credential helper.
const (
	maxHelperOutput = 1 << 20
	// helperGrace is how long its children may keep its output open after it has
	// ended.
	helperGrace = 500 * time.Millisecond
)

// answer is what a helper says about one server.
type answer struct {
	credential oci.Credential
	found      bool
}

// runHelper asks a helper for a server's credentials. What the helper writes is
// in no error: it may be a secret.
func runHelper(ctx context.Context, name, server string) (answer, error) {
	program := helperPrefix + name
	if strings.ContainsFunc(name, func(r rune) bool { return !helperLetter(r) }) {
		return answer{}, fmt.Errorf("%.100q is no name of a credential helper", name)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return answer{}, fmt.Errorf("the credential helper %s is not in $PATH: install it, or take it out of the configuration", program)
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	out := bounded{full: cancel}
	cmd := exec.CommandContext(run, path, "get")
	cmd.Stdin, cmd.Stdout = strings.NewReader(server), &out
	// Without these a child that holds the output open would hold us up with it.
	cmd.WaitDelay = helperGrace
	endTogether(cmd)
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case out.over:
		return answer{}, fmt.Errorf("the credential helper %s wrote more than %d bytes", program, maxHelperOutput)
	case ctx.Err() != nil:
		return answer{}, fmt.Errorf("%w: the credential helper %s did not answer in time for %s", boltseal.ErrUnavailable, program, server)
	case errors.As(err, &exit):
		if string(bytes.TrimSpace(out.b)) == helperUnknown {
			return answer{}, nil
		}
		return answer{}, fmt.Errorf("the credential helper %s failed for %s (%s): see what it says to 'echo %s | %s get'", program, server, exit, server, program)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return answer{}, fmt.Errorf("the credential helper %s could not be run: %w", program, err)
	}
	var doc struct{ Username, Secret string }
	if json.Unmarshal(out.b, &doc) != nil {
		return answer{}, fmt.Errorf("the credential helper %s did not answer in JSON for %s", program, server)
	}
	a := answer{credential: oci.Credential{Username: doc.Username, Password: doc.Secret}, found: doc.Secret != ""}
	if doc.Username == tokenUser {
		a.credential = oci.Credential{RefreshToken: doc.Secret}
	}
	return a, nil
}

func helperLetter(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
}

// bounded is a buffer that takes so much and no more.
type bounded struct {
	b    []byte
	over bool
	full func() // is called when it is over
}

var errTooMuch = errors.New("too much output")

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.b)+len(p) > maxHelperOutput {
		b.over = true
		b.full()
		return 0, errTooMuch
	}
	b.b = append(b.b, p...)
	return len(p), nil
}
