package oci

import (
	"slices"
	"testing"
)

// TestOwnRealms: only the hosts of registries whose token server is known are joined
// with it, and each with that of its own region.
func TestOwnRealms(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"docker.io": {"auth.docker.io"},
		"acme-registry.cn-hangzhou.cr.aliyuncs.com":              {"dockerauth-ee.cn-hangzhou.aliyuncs.com", "dockerauth-ee-vpc.cn-hangzhou.aliyuncs.com"},
		"acme-registry-vpc.us-west-1.cr.aliyuncs.com":            {"dockerauth-ee.us-west-1.aliyuncs.com", "dockerauth-ee-vpc.us-west-1.aliyuncs.com"},
		"registry.cn-hangzhou.aliyuncs.com":                      {"dockerauth.cn-hangzhou.aliyuncs.com", "dockerauth-vpc.cn-hangzhou.aliyuncs.com"},
		"acme-registry.cn-hangzhou.aliyuncs.com":                 nil,
		"acme-registry.oss-cn-hangzhou.aliyuncs.com":             nil,
		"registry.oss-cn-hangzhou.aliyuncs.com":                  nil,
		"acme-registry.cn-hangzhou.cr.aliyuncs.com:443":          nil,
		"acme-registry.cn-hangzhou.cr.aliyuncs.com.evil.example": nil,
		"evil.example/acme-registry.cn-hangzhou.cr.aliyuncs.com": nil,
		"acme-registry.cn-hangzhou.evil.cr.aliyuncs.com":         nil,
		"acme-registry.cn-hangzhou.cr.aliyuncs.com\n":            nil,
		"index.docker.io.evil.example":                           nil,
		"registry.example":                                       nil,
		"127.0.0.1:5000":                                         nil,
	} {
		if got := ownRealms(name); !slices.Equal(got, want) {
			t.Errorf("%q: %v", name, got)
		}
	}
}
