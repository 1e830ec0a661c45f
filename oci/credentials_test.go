package oci_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// The ways in which a registry could have its credentials carried elsewhere. Nobody
// but the registry gets to see any, and the refusal says why.
func TestCredentialsStayAtTheRegistry(t *testing.T) {
	t.Parallel()
	shown := map[string]oci.CredentialSource{"password": rightPassword, "identity token": passwords{RefreshToken: user + ":" + password}, "token": passwords{AccessToken: secret}}
	for name, c := range map[string]struct {
		tls    bool
		set    func(i image, other *other) (realm string)
		want   error
		says   []string
		asked  bool     // the other host may be asked, with nothing
		except []string // kinds of credentials that do not get so far
	}{
		"redirect of a manifest": {
			set: func(i image, other *other) string {
				i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Manifest, Host: "http://" + other.host})
				return ""
			},
			want: boltseal.ErrUnauthorized, says: []string{"it redirects to "}, asked: true,
		},
		"redirect of the question for a token": {
			set: func(i image, other *other) string {
				i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Token, Host: "http://" + other.host})
				return ""
			},
			want: boltseal.ErrUnauthorized, says: []string{"sends the question for a token elsewhere, where no credentials go"}, except: []string{"token"},
		},
		"realm elsewhere": {
			set:  func(_ image, other *other) string { return "http://" + other.host + "/token" },
			want: boltseal.ErrRefused, says: []string{"wants its credentials sent to ", "authRealms"}, except: []string{"token"},
		},
		"realm without TLS": {
			tls:  true,
			set:  func(_ image, other *other) string { return "http://" + other.host + "/token" },
			want: boltseal.ErrRefused, says: []string{"sends to a token server without TLS"}, except: []string{"token"},
		},
		"redirect without TLS": {
			tls: true,
			set: func(i image, other *other) string {
				i.reg.Inject(testregistry.Fault{Kind: testregistry.Redirect, Class: testregistry.Manifest, Host: "http://" + other.host})
				return ""
			},
			want: boltseal.ErrRefused, says: []string{"a redirect to http://", "without TLS"},
		},
	} {
		for kind, source := range shown {
			skip := false
			for _, e := range c.except {
				skip = skip || e == kind
			}
			if skip {
				continue
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				other := newOther(t, status(http.StatusUnauthorized))
				auth := &testregistry.TokenOptions{Users: users}
				var i image
				if strings.HasPrefix(name, "realm") {
					auth.Realm = c.set(i, other)
					i = newImage(t, testregistry.Options{TLS: c.tls, Token: auth}, 0)
				} else {
					i = newImage(t, testregistry.Options{TLS: c.tls, Token: auth}, 0)
					c.set(i, other)
				}
				o := oci.Options{Credentials: source}
				if c.tls {
					o.Hosts = map[string]oci.HostOptions{i.reg.Host: {RootCAs: i.reg.RootCAs()}}
				}
				_, err := newRegistry(t, o).Resolve(testContext(t), i.byTag())
				wantError(t, err, c.want, i.reg.Host, c.says...)
				for _, h := range other.seen() {
					if !c.asked {
						t.Errorf("asked with %v", h)
					}
					for k := range h {
						if k != "User-Agent" && k != "Accept" {
							t.Errorf("shown the header %s", k)
						}
					}
				}
			})
		}
	}
}
