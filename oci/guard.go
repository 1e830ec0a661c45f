package oci

import (
	"context"
	"net/netip"
	"syscall"
)

// refuse is a dialer's control function: addresses further inside than most are
// not connected to.
func refuse(most addressKind) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return refused("cannot judge the address %q", address)
		}
		switch kind := kindOf(ap.Addr()); {
		case kind <= most:
			return nil
		case kind == internalAddress:
			return refused("it leads to %s, a link-local or metadata address", ap.Addr())
		}
		return refused("it leads to %s, a private address", ap.Addr())
	}
}
