// Package gcp says who Boltseal is in Google Cloud, and gets tokens of it for all that is asked there.
package gcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential/keeper"
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
	maxLife         = 24 * time.Hour

	maxConfigBytes = 64 << 10
	maxTokenBytes  = 16 << 10 // of one that Google gives

	// MaxAnswer bounds one answer of those who sign in, in bytes.
	MaxAnswer = 256 << 10

	envConfig = "GOOGLE_APPLICATION_CREDENTIALS"
)

// Options say how tokens are kept. The zero value is for those who wait between their
// attempts themselves.
type Options struct {
	// KeepFailures has a failure kept for a moment, so that many who ask do not each ask
	// Google. False means that each who asks tries anew.
	KeepFailures bool
	// Jitter returns a number in [0,1) that spreads renewals. Nil means math/rand.
	Jitter func() float64
	// Timeout bounds getting one token. 0 means keeper.DefaultTimeout.
	Timeout time.Duration
}

// Identity is who signs in: as $GOOGLE_APPLICATION_CREDENTIALS says, if that is set,
// else whom the metadata server knows. It is safe for concurrent use.
type Identity struct {
	env  keys.Env
	far  *http.Client
	near *http.Client // for the metadata server, by no proxy
	kept *keeper.Of[Token]
}

// New makes an Identity, and asks nobody. The environment is read when somebody signs in.
func New(o Options, env keys.Env) *Identity {
	env.Limits.AnswerBytes = MaxAnswer
	id := &Identity{env: env.Complete()}
	id.far, id.near = id.env.Client(), id.env.Direct()
	id.kept = keeper.NewOf(keeper.OptionsOf[Token]{
		Fetch: id.fetch, Clock: id.env.Clock, Jitter: o.Jitter, Timeout: o.Timeout, AskAgain: !o.KeepFailures,
		Ends: func(t Token) time.Time { return t.Ends },
		Same: func(a, b Token) bool { return a.Value == b.Value },
	})
	return id
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

// Token returns a token and when it ends. It is kept, had once for all who wait, and
// renewed ahead of its end. Errors are [keys.Error] and hold nothing of a token.
func (id *Identity) Token(ctx context.Context) (Token, error) {
	file := id.env.Getenv(envConfig)
	t, err := id.kept.Get(ctx, file)
	if err != nil && ctx.Err() != nil { // whoever waits gives up before the identity does
		host := metadataHost
		if file != "" {
			host = ""
		}
		return Token{}, keys.NoAnswer(Op, "", host, ctx.Err())
	}
	return t, err
}

// Drop forgets a token that was refused. It does nothing where there is another one by now.
func (id *Identity) Drop(t Token) { id.kept.Drop(id.env.Getenv(envConfig), t) }

// fetch gets a token now, by a credential configuration, or with none ("") from the
// metadata server.
func (id *Identity) fetch(ctx context.Context, file string) (Token, error) {
	before := id.env.Clock()
	var value string
	var life time.Duration
	var err error
	if file == "" {
		value, life, err = id.metadata(ctx)
	} else {
		value, life, err = id.federated(ctx, file)
	}
	switch {
	case err != nil:
		return Token{}, err
	case len(value) > maxTokenBytes || !keys.IsToken(value):
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
	if err := Do(id.near, id.env.Clock, req, Op, "", &g); err != nil {
		if e, ok := err.(*keys.Error); ok && e.Status == 0 {
			e.Remedy = "give Boltseal's ServiceAccount Workload Identity on GKE; elsewhere name a credential configuration in $GOOGLE_APPLICATION_CREDENTIALS"
		}
		return "", 0, err
	}
	return g.Token, g.life(), nil
}

func (id *Identity) federated(ctx context.Context, file string) (string, time.Duration, error) {
	refuse := func(format string, a ...any) (string, time.Duration, error) {
		return "", 0, &keys.Error{Op: Op, Target: "by " + file, Err: boltseal.ErrConfiguration, Detail: fmt.Sprintf(format, a...)}
	}
	b, err := keys.ReadFile(Op, file, maxConfigBytes)
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
	subject, err := keys.ReadToken(Op, x.Source.File)
	if err != nil {
		return "", 0, err
	}
	var g grant
	if err := id.form(ctx, stsURL, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {x.Audience}, "scope": {scope},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "subject_token_type": {x.SubjectTokenType},
		"subject_token": {subject}}, &g); err != nil {
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
	return answer.Token, answer.Until.Sub(id.env.Clock()), nil
}

// impersonation reports whether a URL asks for a token of a service account, at
// Google's.
func impersonation(at string) bool {
	name, ok := strings.CutPrefix(at, impersonateBase)
	account, ok2 := strings.CutSuffix(name, ":generateAccessToken")
	return ok && ok2 && account != "" && !strings.ContainsAny(account, "/?#%\\")
}
