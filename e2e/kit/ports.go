package kit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux and macOS give to outgoing connections (32768 and 49152
// upwards), so that no connection grabs one between the moment it is found free and the moment a server binds it.
const (
	firstPort = 20000
	lastPort  = 29999
	portTries = 200
)

// FreePort returns a TCP port of the loopback interface on which nobody listens.
func FreePort() (int, error) {
	ports, err := freePorts(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}

// freePorts returns n different free ports.
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

func hostPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
