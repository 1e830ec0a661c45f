package service

import "errors"

func (s *Service) reloadTLS() {
	err := s.loadClientFiles()
	if !s.o.SelfSigned {
		err = errors.Join(s.tls.Reload(), err)
	}
	s.metrics.Loaded("tls", s.o.Clock(), err)
	if err != nil {
		s.o.Log.Error("the TLS files do not work; the last good ones go on serving", "error", err.Error())
		return
	}
	s.o.Log.Info("TLS files reloaded")
}

// tlsPaths are the files of certificates that are watched.
func (s *Service) tlsPaths() []string {
	var out []string
	if !s.o.InsecureHTTP && !s.o.SelfSigned {
		out = s.o.TLS.Paths()
	}
	for _, p := range []string{s.o.AdmissionCA, s.o.BundleFile} {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}
