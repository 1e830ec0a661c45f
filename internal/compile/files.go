package compile

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/trust"
)

// files are what one compilation read of files, each once. What a resource is made of
// is in them as much as in its text.
type files struct {
	// part says that those that are not there may be elsewhere.
	part bool
	// none says that nothing is read: every file is taken for one that is elsewhere.
	none  bool
	read  map[string]fileRead
	trees map[string]tree
	// used are those that the resource which is compiled now was made of.
	used []fileUse
}

type fileRead struct {
	data []byte
	err  error
}

// tree is what is below a path of certificates.
type tree struct {
	certs []*x509.Certificate
	state [sha256.Size]byte
	err   error
}

// fileUse is one use of a file, or of all below a path, and what was there.
type fileUse struct {
	path  string
	tree  bool
	state [sha256.Size]byte
}

func newFiles() *files { return &files{read: map[string]fileRead{}, trees: map[string]tree{}} }

// look is what a path has now.
func (f *files) look(path string, whole bool) [sha256.Size]byte {
	if whole {
		return f.tree(path).state
	}
	r := f.file(path)
	if r.err != nil {
		return sha256.Sum256([]byte("error " + r.err.Error()))
	}
	return sha256.Sum256(append([]byte("data "), r.data...))
}

func (f *files) file(path string) fileRead {
	r, known := f.read[path]
	if f.none {
		return fileRead{err: fs.ErrNotExist}
	}
	if !known {
		r.data, r.err = readBounded(path, trust.MaxPEMBytes)
		f.read[path] = r
	}
	return r
}

func (f *files) tree(path string) tree {
	t, known := f.trees[path]
	if f.none {
		return tree{err: fs.ErrNotExist}
	}
	if !known {
		sum := sha256.New()
		t.certs, t.err = readCertificates(path)
		for _, c := range t.certs {
			_, _ = fmt.Fprintf(sum, "%d ", len(c.Raw))
			_, _ = sum.Write(c.Raw)
		}
		if t.err != nil {
			_, _ = sum.Write([]byte(t.err.Error()))
		}
		sum.Sum(t.state[:0])
		f.trees[path] = t
	}
	return t
}

// get reads a file that a resource is made of.
func (f *files) get(path string) ([]byte, error) {
	f.used = append(f.used, fileUse{path, false, f.look(path, false)})
	r := f.file(path)
	return r.data, r.err
}

// certificates reads a file, or all files below a directory.
func (f *files) certificates(path string) ([]*x509.Certificate, error) {
	t := f.tree(path)
	f.used = append(f.used, fileUse{path, true, t.state})
	return t.certs, t.err
}

// same reports whether all is as it was.
func (f *files) same(uses []fileUse) bool {
	return !slices.ContainsFunc(uses, func(u fileUse) bool { return f.look(u.path, u.tree) != u.state })
}

// state is the content of all that was used since the first n.
func (f *files) state(n int) string {
	sum := sha256.New()
	for _, u := range f.used[n:] {
		_, _ = fmt.Fprintf(sum, "%q %x\n", u.path, u.state)
	}
	return string(sum.Sum(nil))
}

// Files returns the files, and folders, that Stores and Verifiers are made of beside
// their text. Certificates of providers are fetched by those.
func (s *Set) Files() []string {
	var out []string
	for _, r := range s.stores {
		var p orasParameters
		if r.parameters(&p) != nil {
			continue
		}
		out = append(out, p.CAFile)
		for _, reg := range p.Registries {
			out = append(out, reg.CAFile, reg.ClientCertFile, reg.ClientKeyFile)
		}
	}
	for _, r := range s.verifiers {
		var p notationParameters
		if r.parameters(&p) == nil {
			out = append(out, p.VerificationCerts...)
		}
	}
	return distinct(out)
}

// Files is [Set.Files] of all resources, as they are and as they were.
func (c *Cluster) Files() []string {
	var out []string
	for _, e := range c.entries {
		if c.over[e.Current.key] {
			continue
		}
		for _, r := range []*Resource{e.Current, e.Good} {
			if r != nil {
				out = append(out, r.fileNames()...)
			}
		}
	}
	return distinct(out)
}

func distinct(paths []string) []string {
	slices.Sort(paths)
	paths = slices.Compact(paths)
	return slices.DeleteFunc(paths, func(p string) bool { return p == "" })
}

// fileNames is Files of one resource, read once.
func (r *Resource) fileNames() []string {
	switch r.key.base() {
	case v1beta1.KindStore, v1beta1.KindVerifier:
	default:
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.listed {
		r.listed = true
		_ = guarded(func() error { r.files = r.set.Files(); return nil }) // compiling it tells what is wrong
	}
	return r.files
}

func (f *files) rootCAs(file, inline string) (*x509.CertPool, error) {
	if file == "" && inline == "" {
		return nil, nil
	}
	if file != "" && inline != "" {
		return nil, errors.New("caFile and caCert are both there; keep one")
	}
	pem, what := []byte(inline), "caCert"
	if file != "" {
		var err error
		if pem, err = f.get(file); err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		what = "caFile " + file
	}
	certs, err := trust.ParseCertificates(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", what, trim(err))
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func (f *files) clientCertificates(r registrySettings) ([]tls.Certificate, error) {
	if r.ClientCertFile == "" && r.ClientKeyFile == "" {
		return nil, nil
	}
	if r.ClientCertFile == "" || r.ClientKeyFile == "" {
		return nil, errors.New("clientCertFile and clientKeyFile belong together")
	}
	certPEM, err := f.get(r.ClientCertFile)
	if err != nil {
		return nil, fmt.Errorf("clientCertFile: %w", err)
	}
	keyPEM, err := f.get(r.ClientKeyFile)
	if err != nil {
		return nil, fmt.Errorf("clientKeyFile: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("clientCertFile %s and clientKeyFile %s: %w", r.ClientCertFile, r.ClientKeyFile, err)
	}
	return []tls.Certificate{cert}, nil
}

// readBounded reads a regular file: anything else might never end.
func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, err
}
