package gcpkms

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

	maxConfigBytes = 64 << 10
	maxTokenBytes  = 16 << 10
)

// identity is who signs in: as $GOOGLE_APPLICATION_CREDENTIALS says, if that is set,
// else whom the metadata server knows.
type identity struct {
	c    *client
	file string
	now  func() time.Time

	mu    sync.Mutex
	known string
	until time.Time
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

// token returns a token; the one that is known is not used where anew is set.
func (id *identity) token(ctx context.Context, anew bool) (string, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := id.now()
	if id.known != "" && !anew && now.Before(id.until) {
		return id.known, nil
	}
	fetch := id.metadata
	if id.file != "" {
		fetch = id.federated
	}
	token, life, err := fetch(ctx)
	if err != nil {
		return "", err
	}
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", &keys.Error{Op: opSignIn, Err: boltseal.ErrMalformed, Detail: "it gave no token"}
	}
	// Half of a life that is short, so that a token is used at all.
	id.known, id.until = token, now.Add(max(life-ahead, life/2))
	return token, nil
}

type grant struct {
	Token string `json:"access_token"`
	Life  int64  `json:"expires_in"` // seconds
	Type  string `json:"token_type"`
}

func (g grant) life() time.Duration { return time.Duration(min(max(g.Life, 0), 24*3600)) * time.Second }

func (id *identity) metadata(ctx context.Context) (string, time.Duration, error) {
	at := url.URL{Scheme: "http", Host: metadataHost, Path: metadataPath, RawQuery: url.Values{"scopes": {scope}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Metadata-Flavor", "Google") // without it, it refuses: forged requests lack it
	var g grant
	if err := id.c.do(req, opSignIn, "", &g); err != nil {
		if e, ok := err.(*keys.Error); ok && e.Status == 0 {
			e.Remedy = "give Boltseal's ServiceAccount Workload Identity on GKE; elsewhere name a credential configuration in $GOOGLE_APPLICATION_CREDENTIALS"
		}
		return "", 0, err
	}
	return g.Token, g.life(), nil
}

func (id *identity) federated(ctx context.Context) (string, time.Duration, error) {
	refuse := func(format string, a ...any) (string, time.Duration, error) {
		return "", 0, &keys.Error{Op: opSignIn, Target: "by " + id.file, Err: boltseal.ErrConfiguration, Detail: fmt.Sprintf(format, a...)}
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
	if err := id.c.form(ctx, stsURL, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {x.Audience}, "scope": {scope},
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
	if err := id.c.json(ctx, x.Impersonation, g.Token, map[string]any{"scope": []string{scope}}, &answer); err != nil {
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
		return &keys.Error{Op: opSignIn, Target: "by " + path, Detail: detail, Err: boltseal.ErrConfiguration}
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
