package credential

import "errors"

// ErrNotForHost says that a source has no business with a registry: the next
// one in the list is asked. It is never returned for a host that the source is
// meant for, whatever fails there.
var ErrNotForHost = errors.New("the credential is not for this registry")
