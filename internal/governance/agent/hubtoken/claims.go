package hubtoken

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// maxToken bounds a token that is looked into, in bytes.
const maxToken = 64 << 10

// claims are what a ServiceAccount's token says of itself (RFC 7519).
type claims struct {
	namespace, account string
	issued, ends       time.Time
}

// parseClaims reads a token without verifying it: it is one's own, and whoever takes
// it verifies it. It reports false for anything but a ServiceAccount's token with an
// end.
func parseClaims(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return claims{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, false
	}
	var in struct {
		Subject string `json:"sub"`
		Issued  int64  `json:"iat"`
		Ends    int64  `json:"exp"`
	}
	if json.Unmarshal(payload, &in) != nil || in.Ends <= in.Issued || in.Issued <= 0 {
		return claims{}, false
	}
	name := strings.Split(in.Subject, ":")
	if len(name) != 4 || name[0] != "system" || name[1] != "serviceaccount" || name[2] == "" || name[3] == "" {
		return claims{}, false
	}
	return claims{namespace: name[2], account: name[3], issued: time.Unix(in.Issued, 0), ends: time.Unix(in.Ends, 0)}, true
}

// lifetime is how long the token was made for.
func (c claims) lifetime() time.Duration { return c.ends.Sub(c.issued) }

// renewal is when the token is renewed: after half of its life, so that there is as
// much time again to do it.
func (c claims) renewal() time.Time { return c.issued.Add(c.lifetime() / 2) }
