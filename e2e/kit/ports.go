package kit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"

	"github.com/boltseal/boltseal/e2e/process"
)

// Ports are taken from below the range that Linux and macOS give to outgoing connections (32768 and 49152
// upwards), so that hardly any connection grabs one between the moment it is found free and the moment a server binds it.
const (
	firstPort = 20000
	lastPort  = 29999
	portTries = 200
)

// bindTries is how often programs that did not get their ports are started.
const bindTries = 5

// freePorts returns n different ports on which nobody listens. It is for programs of others, which must be told a
// port beforehand: another program may have taken it when they bind it, so they are started by untilBound.
func freePorts(n int) ([]int, error) {
	seen := map[int]bool{}
	var ports []int
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if seen[port] {
			continue
		}
		l, err := net.Listen("tcp", hostPort(port))
		if err != nil {
			continue
		}
		l.Close()
		seen[port] = true
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no free port on 127.0.0.1 between %d and %d in %d tries", firstPort, lastPort, portTries)
}

// untilBound calls start, which chooses ports and starts programs at them, again as long as one of them did not get
// its port.
func untilBound(start func() error) (err error) {
	for range bindTries {
		if err = start(); err == nil || !portTaken(err) {
			return err
		}
	}
	return err
}

// portTaken reports whether a process ended because another had its port.
func portTaken(err error) bool {
	return errors.Is(err, process.ErrExited) && strings.Contains(err.Error(), "address already in use")
}

func hostPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
