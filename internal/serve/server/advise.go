package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/boltseal/boltseal/internal/admission"
)

// PathAdvise is where the API server asks about changes of Boltseal's own kinds.
const PathAdvise = "/admission/advise"

// Limits on advice. It has a room and places of its own: nothing of what judging
// Pods needs is taken for it.
const (
	// adviceTime bounds the work for one answer.
	adviceTime = 500 * time.Millisecond
	// maxAdvised bounds a review with two objects; a larger one is answered without
	// warnings, as is one beyond maxAdvising at a time.
	maxAdvised  = 512 << 10
	maxAdvising = 16
	adviceBytes = 8 << 20
	// maxWarnings and maxWarning bound what is said: from 4,096 characters on the API
	// server cuts each warning to 256.
	maxWarnings = 8
	maxWarning  = 480
)

// advise answers a review of one of Boltseal's own kinds. It allows in any case:
// what is wrong is refused by the schema, or told in the status.
func (s *Server) advise(in *question) reply {
	c, err := admission.DecodeChange(in.body)
	switch {
	case c.UID == "":
		return refusedReply(http.StatusBadRequest, "%v", err)
	case err != nil, s.o.Advise == nil:
		return encodeAnswer(c.UID, admission.Answer{Allowed: true})
	}
	select {
	case s.advising <- struct{}{}:
		defer func() { <-s.advising }()
	default:
		return encodeAnswer(c.UID, admission.Answer{Allowed: true})
	}
	deadline := in.start.Add(adviceTime)
	if in.deadline.Before(deadline) {
		deadline = in.deadline
	}
	ctx, cancel := context.WithDeadline(in.ctx, deadline)
	defer cancel()
	return encodeAnswer(c.UID, admission.Answer{Allowed: true, Warnings: fewWarnings(s.o.Advise(ctx, c, in.proven))})
}

// fewWarnings bounds warnings, and makes each one line.
func fewWarnings(texts []string) []string {
	var out []string
	for i, text := range texts {
		if i == maxWarnings {
			break
		}
		text = strings.Join(strings.Fields(text), " ")
		if len(text) > maxWarning {
			text = strings.ToValidUTF8(text[:maxWarning], "") + "…"
		}
		out = append(out, text)
	}
	return out
}

// roomOf is the room for an endpoint's requests.
func (s *Server) roomOf(endpoint string) *room {
	if endpoint == endpointAdvise {
		return &s.advice
	}
	return &s.room
}
