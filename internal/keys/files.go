package keys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// MaxToken bounds a token in a file, in bytes. AWS STS and Alibaba Cloud's STS take none that is longer.
const MaxToken = 20_000

// ReadFile reads a regular file of at most so many bytes, for op. Errors are [Error] that name the file and hold nothing
// of it: they wrap boltseal.ErrLimit where it is longer, boltseal.ErrConfiguration otherwise.
func ReadFile(op, path string, most int64) ([]byte, error) {
	fail := func(is error, detail string) ([]byte, error) {
		return nil, &Error{Op: op, Err: is, Detail: strict.Label(path) + ": " + detail}
	}
	unread := func(err error) ([]byte, error) {
		var cause *os.PathError
		if errors.As(err, &cause) {
			return fail(boltseal.ErrConfiguration, cause.Err.Error())
		}
		return fail(boltseal.ErrConfiguration, "it cannot be read")
	}
	// A pipe would wait for whoever writes to it when it is opened.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return unread(err)
	case !info.Mode().IsRegular():
		return fail(boltseal.ErrConfiguration, "it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return unread(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return unread(err)
	case int64(len(b)) > most:
		return fail(boltseal.ErrLimit, fmt.Sprintf("it is too long: it has more than %d bytes", most))
	}
	return b, nil
}

// ReadToken reads a file with one token, such as a ServiceAccount's, without the blanks around it. Kubernetes renews such
// files: whoever signs in reads them again each time. Errors are those of [ReadFile], and boltseal.ErrConfiguration where
// the file holds something else.
func ReadToken(op, path string) (string, error) {
	b, err := ReadFile(op, path, MaxToken)
	token := strings.TrimSpace(string(b))
	if err == nil && !IsToken(token) {
		err = &Error{Op: op, Err: boltseal.ErrConfiguration, Detail: strict.Label(path) + ": the file contains no token"}
	}
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Remedy = "see that the volume with the token is mounted, and that it is a projected ServiceAccount token"
		}
		return "", err
	}
	return token, nil
}

// IsToken reports whether a text can be a token: visible ASCII, and not empty.
func IsToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
