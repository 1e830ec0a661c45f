package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

const (
	// lockPort is listened at for as long as a Network is somebody's.
	lockPort = 29998
	// networkTries bounds the search for a Network that nobody has.
	networkTries = 50
	// hostAddress is the last part of the node's own address, and lockAddress that of lockPort.
	hostAddress, lockAddress = "255.253", "255.254"
	// podsPerBlock is how many Pods have an address in a /24.
	podsPerBlock, firstPodBlock, lastPodBlock = 250, 128, 254
)

// Network is a part of the loopback network, 127.N.0.0/16: the lower half has the Services' addresses, the upper half
// the Pods'. So each Pod has all ports for itself, as in a network namespace, and nothing needs rights of root. Only
// Linux has all these addresses.
type Network struct {
	octet int
	lock  net.Listener
}

// Reserve takes a part of the loopback network that no other process has.
func Reserve() (*Network, error) {
	var errs []error
	for range networkTries {
		n := &Network{octet: 1 + rand.IntN(254)}
		var err error
		if n.lock, err = net.Listen("tcp", net.JoinHostPort(n.address(lockAddress), strconv.Itoa(lockPort))); err == nil {
			return n, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no part of the loopback network 127.0.0.0/8 is free; systems other than Linux have none: %w", errors.Join(errs[:1]...))
}

// Release gives it back.
func (n *Network) Release() { _ = n.lock.Close() }

// APIServerArgs are flags of an API server that dials this network's Services, for kit.Options.
func (n *Network) APIServerArgs() []string {
	return []string{"--service-cluster-ip-range=" + n.address("0.0") + "/17"}
}

func (n *Network) address(rest string) string { return fmt.Sprintf("127.%d.%s", n.octet, rest) }

// podAddress is the address of the Pod of that number, from 0: where its process listens, and what the API server is
// told. The two differ since an EndpointSlice refuses loopback addresses.
func (n *Network) podAddress(number int) (listens, told string, err error) {
	block := firstPodBlock + number/podsPerBlock
	if block > lastPodBlock {
		return "", "", fmt.Errorf("no address is left for Pod number %d", number)
	}
	rest := fmt.Sprintf("%d.%d", block, 1+number%podsPerBlock)
	return n.address(rest), "10." + strings.TrimPrefix(n.address(rest), "127."), nil
}

// listensAt is where the Pod listens that the API server was told this address of.
func listensAt(told string) string { return "127." + strings.TrimPrefix(told, "10.") }
