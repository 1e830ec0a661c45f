package oci

import (
	"context"
	"time"
)

// renewPause is how long after a registry refused a credential no other one is
// asked for: one that refuses all of them must not have its source asked each time.
const renewPause = 15 * time.Second

// Anonymous reports whether there is nothing in it to show.
func (c Credential) Anonymous() bool { return c.Same(Credential{}) }

// Same reports whether both show the same, whenever they end.
func (c Credential) Same(o Credential) bool {
	return c.Username == o.Username && c.Password == o.Password && c.RefreshToken == o.RefreshToken && c.AccessToken == o.AccessToken
}

// renew looks for another credential than the one that was refused, and has it
// dropped where it is kept. It reports whether there is another one by now.
func (t *tokens) renew(ctx context.Context, h *host, repository string, refused Credential) (bool, error) {
	if refused.Anonymous() || t.opts.Credentials == nil {
		return false, nil
	}
	// Of many that are refused at once, the first renews for all.
	select {
	case h.renewing <- struct{}{}:
		defer func() { <-h.renewing }()
	case <-ctx.Done():
		return false, unavailableError(ctx.Err())
	}
	other := func() (bool, error) {
		c, err := t.credential(ctx, h, repository)
		return err == nil && !c.Same(refused) && !c.Anonymous(), err
	}
	if ok, err := other(); ok || err != nil {
		return ok, err
	}
	source, ok := t.opts.Credentials.(Invalidator)
	now := t.opts.Clock()
	if since := now.Sub(h.renewed); !ok || since >= 0 && since < renewPause {
		return false, nil
	}
	h.renewed = now
	source.Invalidate(h.name, repository, refused)
	return other()
}
