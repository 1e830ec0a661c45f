package service

// AddrOf is where an endpoint, "health" or "metrics", can be asked; "" where it is
// left out.
func (s *Service) AddrOf(endpoint string) string {
	for _, e := range s.endpoints {
		if e.Name == endpoint {
			return e.Listener.Addr().String()
		}
	}
	return ""
}
