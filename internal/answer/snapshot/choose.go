package snapshot

import (
	"context"

	"github.com/boltseal/boltseal"
)

// Choice is the engine for some images: the one place where it is decided whose
// resources and whose credentials they are verified with.
type Choice struct {
	// Engine is nil where there is none; Why then says so.
	Engine *boltseal.Engine
	Why    boltseal.Reason
	// Withheld reports that credentials were left out, since nothing proves who asks.
	Withheld bool
	// PerPod reports that registries are read by the credentials of each Pod: see ForPod.
	PerPod bool

	engines Engines
	base    *boltseal.Engine
}

// Pod is whose credentials registries are read by.
type Pod struct {
	Namespace string
	Secrets   []string // its imagePullSecrets
	Account   string   // its ServiceAccount
}

// Choose returns the engine for images by the resources of a namespace, or the cluster's
// where owner is "". Who has not proven who they are may name any namespace, and is
// answered without the credentials that it has. Nothing is read for it.
func (s *Snapshot) Choose(owner string, proven bool) Choice {
	c := Choice{engines: s.Engines, Engine: s.Engines.EngineFor(owner)}
	if c.Engine != nil && !proven {
		c.Engine, c.Withheld = s.Engines.ForStranger(c.Engine)
	}
	if c.Engine == nil {
		c.Why = boltseal.Reason{Cause: boltseal.CauseNoVerifier, Message: "no Store or no Verifier exists for the namespace \"" + owner + "\"", Remedy: "add a Store and a Verifier for the cluster"}
		return c
	}
	c.base = c.Engine
	c.PerPod = !c.Withheld && s.Engines.PerPod(c.Engine)
	return c
}

// ForPod returns the choice for the images of one Pod: it reads the Pod's pull Secrets
// where they count, and is c itself where they do not. Asked once more it reads Secrets
// anew that a registry has refused meanwhile.
func (c Choice) ForPod(ctx context.Context, p Pod) Choice {
	if !c.PerPod {
		return c
	}
	if c.Engine = c.engines.ForPod(ctx, c.base, p.Namespace, p.Secrets, p.Account); c.Engine == nil {
		c.Why = boltseal.Reason{Cause: boltseal.CauseInternal, Message: "no engine could be made for the Pod's pull Secrets"}
	}
	return c
}
