package pageserver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/lru"
)

// Audience that a token may be made for, so that it opens the page and nothing else.
const Audience = "boltseal-page"

// Limits on who is asked about, and how long an answer holds.
const (
	maxToken   = 8 << 10 // bytes
	maxReaders = 1000    // whose answers are kept
	keepYes    = 30 * time.Second
	keepNo     = 5 * time.Second
	askTimeout = 10 * time.Second
	asksAtOnce = 8

	asksPerSecond = 20
)

// shownKinds are the kinds that the page shows: a reader must have the right to list all of them.
func shownKinds() []string {
	return []string{"clusters", "policyassignments", "policyexemptions", "clusterreports"}
}

// ReaderRules are the rights that a reader of the page needs.
func ReaderRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: shownKinds(), Verbs: []string{"list"}}}
}

// ReviewRules are the rights that the server of the page needs for asking about readers.
func ReviewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{authenticationv1.GroupName}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
		{APIGroups: []string{authorizationv1.GroupName}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}}}
}

// Reviewed are Readers by the API server's own word: TokenReview says who somebody is, and
// SubjectAccessReview whether they may list what the page shows.
type Reviewed struct {
	client client.Client
	clock  func() time.Time
	kept   *lru.Cache[[sha256.Size]byte, verdict] // by the token's hash
	slots  chan struct{}
}

// verdict is what was answered about a token, and until when it holds.
type verdict struct {
	err   error
	until time.Time
}

// NewReviewed returns Readers that ask the API server of config. clock may be nil, for
// time.Now.
func NewReviewed(config *rest.Config, clock func() time.Time) (*Reviewed, error) {
	scheme := runtime.NewScheme()
	if err := authenticationv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	own := rest.CopyConfig(config) // strangers can make us ask, and must not crowd out anything else
	own.QPS, own.Burst, own.RateLimiter = asksPerSecond, 2*asksPerSecond, nil
	c, err := client.New(own, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	if clock == nil {
		clock = time.Now
	}
	return &Reviewed{client: c, clock: clock, kept: lru.NewWhole[[sha256.Size]byte, verdict](maxReaders), slots: make(chan struct{}, asksAtOnce)}, nil
}

// Check asks about the token of a request: Bearer, or the password of Basic, since browsers
// ask for that by themselves. Neither the token nor its hash is logged or kept beyond
// the answer's time.
func (r *Reviewed) Check(req *http.Request) error {
	token := tokenOf(req)
	if token == "" || len(token) > maxToken {
		return ErrUnauthenticated
	}
	key := sha256.Sum256([]byte(token))
	if v, ok := r.kept.Get(key); ok && r.clock().Before(v.until) {
		return v.err
	}
	ctx, cancel := context.WithTimeout(req.Context(), askTimeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	user, err := r.authenticate(ctx, token)
	if err != nil {
		return err // not known: nothing to keep
	}
	v := verdict{err: ErrUnauthenticated, until: r.clock().Add(keepNo)}
	if user != nil {
		missing, err := r.missing(ctx, user)
		switch {
		case err != nil:
			return err
		case missing != "":
			v.err = fmt.Errorf("%w: you need the right to list %s of %s at the hub", ErrForbidden, missing, v1alpha1.GroupVersion.Group)
		default:
			v = verdict{until: r.clock().Add(keepYes)}
		}
	}
	r.kept.Put(key, v, 1)
	return v.err
}

func tokenOf(req *http.Request) string {
	if _, password, ok := req.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// authenticate returns whose token it is, nil where it is nobody's: of the page's own
// audience, or of the API server's.
func (r *Reviewed) authenticate(ctx context.Context, token string) (*authenticationv1.UserInfo, error) {
	for _, audiences := range [][]string{{Audience}, nil} {
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}
		if err := r.client.Create(ctx, review); err != nil {
			return nil, fmt.Errorf("asking whose token it is: %w", err)
		}
		// An authenticator that knows no audiences answers without them.
		if s := review.Status; s.Authenticated && s.User.Username != "" && (audiences == nil || slices.Contains(s.Audiences, Audience)) {
			return &s.User, nil
		}
	}
	return nil, nil
}

// missing returns the first kind that a user may not list, "" where there is none.
func (r *Reviewed) missing(ctx context.Context, user *authenticationv1.UserInfo) (string, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range user.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	for _, kind := range shownKinds() {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Group: v1alpha1.GroupVersion.Group, Resource: kind, Verb: "list"}}}
		if err := r.client.Create(ctx, review); err != nil {
			return "", fmt.Errorf("asking what they may list: %w", err)
		}
		if !review.Status.Allowed || review.Status.Denied {
			return kind, nil
		}
	}
	return "", nil
}
