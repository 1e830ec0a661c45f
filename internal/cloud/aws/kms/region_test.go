package kms_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/boltseal/boltseal"
	awskms "github.com/boltseal/boltseal/internal/cloud/aws/kms"
)

// TestAnotherRegion: a signature for another region is refused, as AWS does it, and
// a provider asks the region that it names, and no other.
func TestAnotherRegion(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id, secret, token := h.kms.AccessKey(time.Hour)
	host := "https://kms." + region + ".amazonaws.com"
	for _, c := range []struct{ region, code string }{{region, "NotFoundException"}, {"eu-west-1", "InvalidSignatureException"}} {
		client := kms.New(kms.Options{Region: c.region, BaseEndpoint: &host, HTTPClient: &http.Client{Transport: h.Transport()}, Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)})
		_, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/nobody")})
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != c.code {
			t.Errorf("%s: %v, want %s", c.region, err, c.code)
		}
	}
	h.env = map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}
	before := len(h.Requests(""))
	g, err := h.fetch(t, awskms.Parameters{Region: "eu-west-1", Keys: []awskms.Key{{Name: "alias/release"}}})
	if err != nil || !errors.Is(g[0].Err, boltseal.ErrUnavailable) || len(h.Requests("")) != before {
		t.Errorf("%+v %v", g, err)
	}
}
