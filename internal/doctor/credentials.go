package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/oci"
)

// AreaCredentials is about what registries are shown.
const AreaCredentials = "credentials"

// maxStores bounds how many pairs of a Store and a registry are asked about.
const maxStores = 100

// checkCredentials asks each Store's auth providers what they have for each registry that
// the Store names. from says where to ask instead where what tells a provider who it
// is, which is in Boltseal's Pod, is not here; "" where this is as good a place.
func checkCredentials(ctx context.Context, stores []compile.SurveyedStore, from string, o Options) []Finding {
	type pair struct {
		store    compile.SurveyedStore
		registry string
	}
	var pairs []pair
	for _, s := range stores {
		for _, r := range s.Registries {
			pairs = append(pairs, pair{s, r})
		}
	}
	var out []Finding
	if len(pairs) > maxStores {
		out = append(out, Finding{AreaCredentials, "", Warning, fmt.Sprintf("Stores name %d registries; credentials were asked for the first %d", len(pairs), maxStores), "check the other Stores by themselves, with --config"})
		pairs = pairs[:maxStores]
	}
	found := make([]Finding, len(pairs))
	var wg sync.WaitGroup
	room := make(chan struct{}, parallel)
	for i, p := range pairs {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			found[i] = credentialFor(ctx, p.store, p.registry, from)
		})
	}
	wg.Wait()
	return append(out, found...)
}

// credentialFor asks as a request for an image would: the first that has one counts.
func credentialFor(ctx context.Context, s compile.SurveyedStore, registry, from string) Finding {
	f := Finding{Area: AreaCredentials, Subject: s.Resource + ", " + registry, Level: OK}
	host, repository, _ := strings.Cut(registry, "/")
	explicit, perPod := false, false
	for _, src := range s.Sources {
		explicit = explicit || src.Place != ""
		perPod = perPod || src.Name == kube.PodName
		c, err := src.Source.Credential(ctx, host, repository)
		switch {
		case errors.Is(err, credential.ErrNotForHost), err == nil && c.Anonymous():
			continue
		case err == nil:
			f.Message = describeSource(src) + " has " + describeCredential(c) + " for it"
			return f
		}
		f.Level, f.Message = Problem, describeSource(src)+": "+err.Error()
		f.Remedy = "docs/registries.md says which rights and settings it needs; images from there are not read anonymously in its place"
		if from != "" && errors.Is(err, boltseal.ErrConfiguration) {
			f.Level, f.Message, f.Remedy = Warning, "seen from here: "+f.Message, "ask where Boltseal's identity is: "+from
		}
		return f
	}
	f.Message = "it is read anonymously: " + describeSources(len(s.Sources))
	switch {
	case perPod:
		f.Message = "each Pod's own pull Secrets count for it, which cannot be asked from here; where no Pod is known it is read anonymously"
	case explicit:
		f.Level, f.Remedy = Warning, "see whether it is meant to be: an auth provider's endpoints may leave it out"
	}
	return f
}

func describeSources(sources int) string {
	if sources == 0 {
		return "the Store has no credentials"
	}
	return "no auth provider of the Store has a credential for it"
}

func describeSource(s credential.Named) string {
	if s.Place == "" {
		return "the default docker configuration"
	}
	return s.Place + ", " + s.Name + ","
}

// describeCredential says what kind of credential it is, and nothing that is in it.
func describeCredential(c oci.Credential) string {
	text := "a user and a password"
	switch {
	case c.AccessToken != "":
		text = "a token"
	case c.RefreshToken != "":
		text = "a refresh token"
	}
	if !c.Expires.IsZero() {
		text += ", good until " + c.Expires.UTC().Format(time.RFC3339) + ","
	}
	return text
}
