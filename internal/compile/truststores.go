package compile

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/trust"
)

const (
	fieldCertStores = "spec.parameters.verificationCertStores"
	fieldCerts      = "spec.parameters.verificationCerts"
)

// declared is a trust store as a Verifier declares it.
type declared struct {
	kind      trust.Type
	name      string
	node      strict.Node
	providers []strict.Node
}

func (d declared) String() string { return string(d.kind) + ":" + d.name }

// declaredStores reads verificationCertStores in either of its shapes, or mixed:
// trust store → providers, which means type ca, or type → trust store → providers.
func declaredStores(v resource[v1beta1.VerifierSpec]) (stores []declared, problems strict.Problems) {
	n, ok := v.node.Get(strings.Split(fieldCertStores, ".")...)
	if !ok {
		return nil, nil
	}
	if !n.IsMapping() {
		return nil, strict.Problems{v.own(n.Problem("must map trust stores to lists of providers, and is %s", n.What()))}
	}
	add := func(kind trust.Type, m strict.Member) {
		if !m.Node.IsList() {
			problems = append(problems, v.own(m.Node.Problem("must be a list of providers, and is %s", m.Node.What())))
			return
		}
		for i := range stores {
			if stores[i].kind == kind && stores[i].name == m.Name {
				stores[i].providers = append(stores[i].providers, m.Node.Items()...)
				return
			}
		}
		stores = append(stores, declared{kind, m.Name, m.Node, m.Node.Items()})
	}
	for _, m := range n.Members() {
		switch {
		case !m.Node.IsMapping():
			add(trust.TypeCA, m)
		case !slices.Contains(trust.Types(), m.Name):
			problems = append(problems, v.own(m.Node.Problem("%s is no type of trust store; it must be one of %s%s", strict.Label(m.Name), strings.Join(trust.Types(), ", "), nearest.Hint(m.Name, trust.Types()))))
		default:
			for _, inner := range m.Node.Members() {
				add(trust.Type(m.Name), inner)
			}
		}
	}
	return stores, problems
}

// trustStores makes the trust stores of a notation verifier. names are all that
// it declares, those with problems too; nil where that cannot be known. Where
// lenient is set, stores that have problems are there too, with the certificates
// that could be had. lacking are the certificates that could not be fetched; their
// stores are there without them in any case.
func (k keyring) trustStores(v resource[v1beta1.VerifierSpec], p notationParameters, read *files, lenient bool) (stores []*trust.Store, names []string, problems, lacking strict.Problems) {
	all, problems := declaredStores(v)
	unclear := len(problems) > 0
	if len(all) == 0 && len(problems) == 0 {
		st, ps, lacks := fileStore(v, p, read, lenient)
		if st != nil {
			stores = append(stores, st)
		}
		return stores, []string{string(trust.TypeCA) + ":" + fileStoreName}, ps, lacks
	}
	for _, d := range all {
		names = append(names, d.String())
		certs, ps, lacks := k.certificates(v, d)
		problems, lacking = append(problems, ps...), append(lacking, lacks...)
		if len(ps) > 0 && !lenient {
			continue
		}
		st := trust.EmptyStore(d.kind, d.name)
		if len(certs) > 0 || len(ps) == 0 && len(lacks) == 0 {
			var err error
			if st, err = trust.NewStore(d.kind, d.name, certs); err != nil {
				problems = append(problems, v.own(d.node.Problem("%s", trim(err))))
				if !lenient {
					continue
				}
				st = trust.EmptyStore(d.kind, d.name)
			}
		}
		if why := told(lacks); why != "" {
			st = st.Lacking(why)
		}
		stores = append(stores, st)
	}
	if unclear {
		names = nil
	}
	return stores, names, problems, lacking
}

// told is what a verdict tells of certificates that are lacking.
func told(lacking strict.Problems) string {
	var texts []string
	for _, p := range lacking {
		texts = append(texts, p.Message)
	}
	return truncateReason(strings.Join(texts, "; "))
}

// certificates are those of all providers of a trust store that could be had.
// lacking are those that could not be fetched.
func (k keyring) certificates(v resource[v1beta1.VerifierSpec], d declared) (certs []*x509.Certificate, problems, lacking strict.Problems) {
	for _, n := range d.providers {
		var provider string
		if err := n.Decode(&provider); err != nil {
			problems = collect(problems, v.owned(err))
			continue
		}
		if provider == "" {
			problems = append(problems, v.own(n.Problem("the trust store %s names a provider without a name", strict.Label(d.name))))
			continue
		}
		found := k.lookup(v.namespace, provider)
		switch {
		case !found.ok && k.part:
			lacking = append(lacking, v.own(n.Problem("%s is no KeyManagementProvider or CertificateStore in these files%s: it must be in the cluster", strict.Label(provider), found.hint)))
		case !found.ok:
			problems = append(problems, v.own(n.Problem("the trust store %s names the KeyManagementProvider or CertificateStore %s, which is not there%s", strict.Label(d.name), strict.Label(provider), found.hint)))
		case found.bad:
			problems = append(problems, v.own(n.Problem("the trust store %s names %s, which has a problem of its own", strict.Label(d.name), strict.Label(provider))))
		case found.lacks != "":
			lacking = append(lacking, v.own(n.Problem("the trust store %s lacks certificates of %s: %s", strict.Label(d.name), strict.Label(provider), found.lacks)))
		}
		roots := trust.Anchors(d.kind, found.certs)
		if len(roots) == 0 && !found.fetched {
			roots = found.certs // whoever makes the store says why they may not stand there
		}
		certs = append(certs, roots...)
	}
	return certs, problems, lacking
}

// fileStoreName is the trust store that verificationCerts make, as in Ratify.
const fileStoreName = "certs"

// maxCertFiles bounds the files of all directories in verificationCerts.
const maxCertFiles = 1000

var errTooManyFiles = fmt.Errorf("more than %d files", maxCertFiles)

// fileStore reads verificationCerts: paths of files, or of directories with all
// that is below them.
func fileStore(v resource[v1beta1.VerifierSpec], p notationParameters, read *files, lenient bool) (st *trust.Store, problems, lacking strict.Problems) {
	if len(p.VerificationCerts) == 0 {
		return nil, strict.Problems{v.problem(fieldCertStores, "it is missing, and so is verificationCerts: nobody would be trusted")}, nil
	}
	list, _ := v.node.Get(strings.Split(fieldCerts, ".")...)
	var certs []*x509.Certificate
	for i, path := range p.VerificationCerts {
		found, err := read.certificates(path)
		switch {
		case read.none:
			return nil, nil, strict.Problems{v.own(list.Items()[i].Problem(nothingFetched))}
		case err != nil && read.part && errors.Is(err, fs.ErrNotExist):
			return nil, nil, strict.Problems{v.own(list.Items()[i].Problem("%s is not on this machine: it must be where Boltseal runs", path))}
		case err != nil:
			problems = append(problems, v.own(list.Items()[i].Problem("%s", trim(err))))
		}
		certs = append(certs, found...)
	}
	if len(problems) > 0 && (!lenient || len(certs) == 0) {
		return nil, problems, nil
	}
	if roots := trust.Anchors(trust.TypeCA, certs); len(roots) > 0 {
		certs = roots
	}
	st, err := trust.NewStore(trust.TypeCA, fileStoreName, certs)
	if err != nil {
		return nil, append(problems, v.own(list.Problem("%s", trim(err)))), nil
	}
	return st, problems, nil
}

// readCertificates reads a file, or all files below a directory. Names that
// begin with two dots are Kubernetes' own in a mounted Secret or ConfigMap; the
// files beside them lead there.
func readCertificates(path string) ([]*x509.Certificate, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link to a directory, too
	}
	var files []string
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(name)
		switch {
		case name != path && strings.HasPrefix(d.Name(), "..") && d.IsDir():
			return fs.SkipDir
		case err != nil:
			return err
		case info.IsDir(): // or a link to one, which is not followed
			return nil
		case len(files) == maxCertFiles:
			return errTooManyFiles
		}
		files = append(files, name)
		return nil
	})
	if errors.Is(err, errTooManyFiles) {
		return nil, fmt.Errorf("%s has %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no files", path)
	}
	var certs []*x509.Certificate
	for _, file := range files {
		b, err := readBounded(file, trust.MaxPEMBytes)
		if err != nil {
			return nil, err
		}
		found, err := trust.ParseCertificates(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", file, trim(err))
		}
		certs = append(certs, found...)
	}
	return certs, nil
}
