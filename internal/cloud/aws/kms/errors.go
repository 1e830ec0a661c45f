package kms

import (
	"context"
	"errors"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/keys"
)

// wrap says what the SDK's errors mean, and which rights are missing.
func (v *provider) wrap(ctx context.Context, op, target, host string, err error) error {
	e := v.who.Failure(ctx, aws.Question{Op: op, Target: target, Host: host}, err)
	if aws.SessionRefused(e) {
		v.who.Drop(v.region)
	}
	if errors.Is(e.Err, boltseal.ErrUnauthorized) && !aws.IsSignIn(e) {
		e.Remedy = aws.ClockRemedy(e, "let Boltseal's role do kms:DescribeKey, kms:GetPublicKey, acm-pca:DescribeCertificateAuthority and acm-pca:GetCertificateAuthorityCertificate here")
	}
	return e
}

func notFound(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && errors.Is(e.Err, boltseal.ErrNotFound) && !aws.IsSignIn(err)
}
