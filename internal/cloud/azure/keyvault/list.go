package keyvault

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

// maxPages bounds how often a vault may say that there is more.
const maxPages = 100

// versions lists the versions of a certificate.
func (v *provider) versions(ctx context.Context, name string) ([]version, error) {
	if !v.secretsOnly.Load() {
		out, err := v.certificateVersions(ctx, name)
		if !forbidden(err) {
			return out, err
		}
	}
	out, err := v.secretVersions(ctx, name)
	if forbidden(err) {
		return nil, listRights(err)
	}
	return out, err
}

func (v *provider) certificateVersions(ctx context.Context, name string) (out []version, err error) {
	pager := v.certificates.NewListCertificatePropertiesVersionsPager(name, nil)
	for more := newPages(v, "list versions of certificate", name); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err := more.next(err, page.Value == nil, len(out)+len(page.Value), page.NextLink); err != nil {
			return nil, err
		}
		for _, c := range page.Value {
			if c == nil || c.ID == nil || c.Attributes == nil {
				continue
			}
			out = append(out, version{c.ID.Version(), c.Attributes.Enabled == nil || *c.Attributes.Enabled, value(c.Attributes.Created), value(c.Attributes.Expires)})
		}
	}
	return out, nil
}

func (v *provider) secretVersions(ctx context.Context, name string) (out []version, err error) {
	pager := v.secrets.NewListSecretPropertiesVersionsPager(name, nil)
	for more := newPages(v, "list versions of the secret of certificate", name); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err := more.next(err, page.Value == nil, len(out)+len(page.Value), page.NextLink); err != nil {
			return nil, err
		}
		for _, s := range page.Value {
			if s == nil || s.ID == nil || s.Attributes == nil {
				continue
			}
			out = append(out, version{s.ID.Version(), s.Attributes.Enabled == nil || *s.Attributes.Enabled, value(s.Attributes.Created), value(s.Attributes.Expires)})
		}
	}
	return out, nil
}

func (v *provider) keyVersions(ctx context.Context, name string) (out []version, err error) {
	pager := v.keys.NewListKeyPropertiesVersionsPager(name, nil)
	for more := newPages(v, "list versions of key", name); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err := more.next(err, page.Value == nil, len(out)+len(page.Value), page.NextLink); err != nil {
			return nil, err
		}
		for _, k := range page.Value {
			if k == nil || k.KID == nil || k.Attributes == nil {
				continue
			}
			out = append(out, version{k.KID.Version(), k.Attributes.Enabled == nil || *k.Attributes.Enabled, value(k.Attributes.Created), value(k.Attributes.Expires)})
		}
	}
	return out, nil
}

// pages counts the pages of a list.
type pages struct {
	v          *provider
	op, target string
	n          int
}

func newPages(v *provider, op, target string) *pages { return &pages{v: v, op: op, target: target} }

// next judges a page, given its error, whether it has no list at all, how many entries
// there are by now, and where it says that there is more: the token goes there.
func (p *pages) next(err error, none bool, entries int, link *string) error {
	switch {
	case err != nil:
		return p.v.wrap(p.op, p.target, err)
	case none:
		return p.v.garbled(p.op, p.target)
	case link != nil && *link != "":
		if u, err := url.Parse(*link); err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, p.v.host) || u.User != nil {
			return &keys.Error{Op: p.op, Target: p.target, Host: p.v.host, Err: boltseal.ErrRefused, Detail: "its list goes on elsewhere, where an identity's token is not sent"}
		}
	}
	if p.n++; p.n > maxPages || entries > keys.MaxListed {
		return &keys.Error{Op: p.op, Target: p.target, Host: p.v.host, Err: boltseal.ErrLimit,
			Detail: fmt.Sprintf("more than %d versions or %d pages", keys.MaxListed, maxPages), Remedy: "name a version"}
	}
	return nil
}
