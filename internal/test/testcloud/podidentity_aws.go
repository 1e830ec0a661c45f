package testcloud

import (
	"errors"
	"net/http"
	"time"
)

// Where EKS Pod Identity's agent is on each node, by IPv4 and by IPv6.
const (
	PodIdentityAgent  = "169.254.170.23"
	PodIdentityAgent6 = "fd00:ec2::23"
)

// podIdentityAudience is for whom a Pod's token must be made out.
const podIdentityAudience = "pods.eks.amazonaws.com"

// Associate associates a subject, system:serviceaccount:NAMESPACE:NAME, with a role by
// EKS Pod Identity; "" = no longer with any.
func (a *AWS) Associate(subject, role string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.associations[subject] = role
}

// PodIdentity starts EKS Pod Identity's agent of a node (Amazon EKS User Guide, "How
// EKS Pod Identity works"; EKS Auth API, AssumeRoleForPodIdentity).
func (a *AWS) PodIdentity() {
	for _, at := range []string{PodIdentityAgent, PodIdentityAgent6, "[" + PodIdentityAgent6 + "]"} {
		a.c.Serve(at, http.HandlerFunc(a.agent))
	}
}

func (a *AWS) agent(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("Authorization")
	a.c.keep(token)
	fail := func(status int, text string) { http.Error(w, text, status) }
	if r.Method != http.MethodGet || r.URL.Path != "/v1/credentials" {
		fail(http.StatusNotFound, "404 page not found")
		return
	}
	if token == "" {
		fail(http.StatusBadRequest, "Service account token cannot be empty")
		return
	}
	claims, err := a.issuer.verify(token, a.c.clock())
	a.mu.Lock()
	role := a.associations[claims.Subject]
	a.mu.Unlock()
	switch {
	case errors.Is(err, errExpired):
		fail(http.StatusBadRequest, "(ExpiredTokenException): Token in the request is expired.")
	case err != nil || claims.Issuer != a.issuer.Name:
		fail(http.StatusBadRequest, "(InvalidTokenException): Token in the request cannot be validated: "+token)
	case claims.Audience != podIdentityAudience:
		fail(http.StatusBadRequest, "(InvalidTokenException): Audience in the token is not "+podIdentityAudience)
	case role == "":
		fail(http.StatusNotFound, "(ResourceNotFoundException): No pod identity association found for the service account.")
	default:
		id, secret, session, until := a.Session(role)
		replyJSON(w, http.StatusOK, map[string]string{"AccessKeyId": id, "SecretAccessKey": secret, "Token": session, "AccountId": accountOf(role), "Expiration": until.UTC().Format(time.RFC3339)})
	}
}
