// Package gcp gets tokens of Google Cloud for whoever Boltseal is there.
package gcp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

const (
	// scope is what a token may be used for; roles narrow it.
	scope = "https://www.googleapis.com/auth/cloud-platform"
	// metadataHost answers within Google's machines and on GKE, where it knows which
	// ServiceAccount a Pod has (Workload Identity).
	metadataHost = "metadata.google.internal"
	metadataPath = "/computeMetadata/v1/instance/service-accounts/default/token"
	// Where a Pod's token is exchanged (Workload Identity Federation).
	stsURL          = "https://sts.googleapis.com/v1/token"
	impersonateBase = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
	// ahead is how long before its end a token is renewed.
	ahead = 5 * time.Minute
	// timeout bounds getting one that is kept.
	timeout = 20 * time.Second
	maxLife = 24 * time.Hour

	maxConfigBytes = 64 << 10
	maxTokenBytes  = 16 << 10
)

// Identity is who signs in: as $GOOGLE_APPLICATION_CREDENTIALS says, if that is set,
// else whom the metadata server knows. It is safe for concurrent use.
type Identity struct {
	file string
	far  *http.Client
	near *http.Client // for the metadata server, by no proxy
	now  func() time.Time

	flight singleflight.Group
	mu     sync.Mutex
	known  Token
	renew  time.Time
}

// New makes an Identity, and asks nobody.
func New(env keys.Env) *Identity {
	env = env.Complete()
	return &Identity{file: env.Getenv("GOOGLE_APPLICATION_CREDENTIALS"), far: env.Client(), near: env.Direct(), now: env.Clock}
}

// Token is what Google's services take for an identity.
type Token struct {
	Value string
	Ends  time.Time
}

// external is a file that says how a Pod's token is exchanged (Google Cloud,
// "Workload Identity Federation": credential configuration; AIP-4117). What is asked
// of us beside it, such as running a program, is refused.
type external struct {
	Type             string `json:"type"`
	Audience         string `json:"audience"`
	SubjectTokenType string `json:"subject_token_type"`
	TokenURL         string `json:"token_url"`
	Impersonation    string `json:"service_account_impersonation_url"`
	Source           struct {
		File   string `json:"file"`
		Format struct {
			Type string `json:"type"`
		} `json:"format"`
	} `json:"credential_source"`
}

// Token returns a token that is kept, and gets another one ahead of its end, or where
// it is the one that was refused. One call asks for all who wait. Errors are those of
// Fetch.
func (id *Identity) Token(ctx context.Context, refused string) (string, error) {
	if t, ok := id.kept(refused); ok {
		return t, nil
	}
	done := id.flight.DoChan("", func() (v any, err error) {
		defer func() { // a panic here, in a goroutine of its own, would end the process
			if p := recover(); p != nil {
				v, err = nil, &keys.Error{Op: Op, Err: boltseal.ErrMalformed, Detail: "signing in panicked"}
			}
		}()
		if t, ok := id.kept(refused); ok {
			return t, nil // the one that everybody waited for came in between
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		t, err := id.Fetch(ctx)
		if err != nil {
			return nil, err
		}
		id.mu.Lock()
		defer id.mu.Unlock()
		// Half of a life that is short, so that a token is used at all.
		now := id.now()
		life := t.Ends.Sub(now)
		id.known, id.renew = t, now.Add(max(life-ahead, life/2))
		return t.Value, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", &keys.Error{Op: Op, Err: fmt.Errorf("%w: %w", boltseal.ErrUnavailable, ctx.Err())}
	}
}

func (id *Identity) kept(refused string) (string, bool) {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.known.Value, id.known.Value != "" && id.known.Value != refused && id.now().Before(id.renew)
}

// Fetch gets a token now, and when it ends. Errors are [keys.Error], and hold nothing
// of a token.
func (id *Identity) Fetch(ctx context.Context) (Token, error) {
	fetch := id.metadata
	if id.file != "" {
		fetch = id.federated
	}
	before := id.now()
	value, life, err := fetch(ctx)
	switch {
	case err != nil:
		return Token{}, err
	case value == "" || len(value) > maxTokenBytes || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		return Token{}, &keys.Error{Op: Op, Err: boltseal.ErrMalformed, Detail: "it gave no token"}
	case life <= 0:
		return Token{}, &keys.Error{Op: Op, Err: boltseal.ErrMalformed, Detail: "the token that it gave has ended"}
	}
	return Token{value, before.Add(min(life, maxLife))}, nil
}

type grant struct {
	Token string `json:"access_token"`
	Life  int64  `json:"expires_in"` // seconds
	Type  string `json:"token_type"`
}

func (g grant) life() time.Duration {
	return time.Duration(min(max(g.Life, 0), int64(maxLife/time.Second))) * time.Second
}

func (id *Identity) metadata(ctx context.Context) (string, time.Duration, error) {
	at := url.URL{Scheme: "http", Host: metadataHost, Path: metadataPath, RawQuery: url.Values{"scopes": {scope}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Metadata-Flavor", "Google") // without it, it refuses: forged requests lack it
	var g grant
	if err := Do(id.near, id.now, req, Op, "", &g); err != nil {
		if e, ok := err.(*keys.Error); ok && e.Status == 0 {
			e.Remedy = "give Boltseal's ServiceAccount Workload Identity on GKE; elsewhere name a credential configuration in $GOOGLE_APPLICATION_CREDENTIALS"
		}
		return "", 0, err
	}
	return g.Token, g.life(), nil
}

func (id *Identity) federated(ctx context.Context) (string, time.Duration, error) {
	refuse := func(format string, a ...any) (string, time.Duration, error) {
		return "", 0, &keys.Error{Op: Op, Target: "by " + id.file, Err: boltseal.ErrConfiguration, Detail: fmt.Sprintf(format, a...)}
	}
	b, err := readFile(id.file, maxConfigBytes)
	if err != nil {
		return "", 0, err
	}
	var x external
	switch err := json.Unmarshal(b, &x); {
	case err != nil:
		return refuse("it is no credential configuration")
	case x.Type != "external_account":
		return refuse("its type is %q: only external_account is used here, since a key that was downloaded is a password that never ends", keys.Clean(x.Type))
	case x.TokenURL != stsURL:
		return refuse("its token_url is not %s, and gets no token", stsURL)
	case x.Source.File == "" || x.Source.Format.Type != "" && x.Source.Format.Type != "text":
		return refuse("its credential_source is not a file with a token as text")
	case x.Impersonation != "" && !impersonation(x.Impersonation):
		return refuse("its service_account_impersonation_url does not lead to a service account at iamcredentials.googleapis.com, and gets no token")
	}
	subject, err := readFile(x.Source.File, maxTokenBytes)
	if err != nil {
		return "", 0, err
	}
	var g grant
	if err := id.form(ctx, stsURL, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {x.Audience}, "scope": {scope},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "subject_token_type": {x.SubjectTokenType},
		"subject_token": {strings.TrimSpace(string(subject))}}, &g); err != nil {
		return "", 0, err
	}
	if x.Impersonation == "" {
		return g.Token, g.life(), nil
	}
	var answer struct {
		Token string    `json:"accessToken"`
		Until time.Time `json:"expireTime"`
	}
	if err := id.impersonate(ctx, x.Impersonation, g.Token, &answer); err != nil {
		return "", 0, err
	}
	return answer.Token, answer.Until.Sub(id.now()), nil
}

// impersonation reports whether a URL asks for a token of a service account, at
// Google's.
func impersonation(at string) bool {
	name, ok := strings.CutPrefix(at, impersonateBase)
	account, ok2 := strings.CutSuffix(name, ":generateAccessToken")
	return ok && ok2 && account != "" && !strings.ContainsAny(account, "/?#%\\")
}

// readFile reads a file. Errors hold nothing of it.
func readFile(path string, most int64) ([]byte, error) {
	fail := func(detail string) error {
		return &keys.Error{Op: Op, Target: "by " + path, Detail: detail, Err: boltseal.ErrConfiguration}
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, fail("there is no such file, or it may not be read")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail("it may not be read")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil || int64(len(b)) > most {
		return nil, fail(fmt.Sprintf("it cannot be read, or has more than %d bytes", most))
	}
	return b, nil
}
