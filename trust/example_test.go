package trust_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// A trust store from the files of a folder. A file that holds no certificate, or a private key, is an
// error that says so: a store never has fewer certificates than was meant.
func ExampleNewStore() {
	dir, err := os.MkdirTemp("", "roots")
	must(err)
	defer os.RemoveAll(dir)
	for _, name := range []string{"build", "release"} {
		chain, err := testca.New(testca.Options{Root: testca.Spec{Subject: testca.Subject(name + " root")}})
		must(err)
		must(os.WriteFile(filepath.Join(dir, name+".pem"), chain.Root().PEM(), 0o600))
	}

	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	must(err)
	var stores []*trust.Store
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(err)
		certificates, err := trust.ParseCertificates(content)
		must(err)
		name := strings.TrimSuffix(filepath.Base(file), ".pem")
		store, err := trust.NewStore(trust.TypeCA, name, certificates)
		must(err)
		stores = append(stores, store)
	}
	for _, store := range stores {
		fmt.Println(store.Name(), store.Certificates()[0].Subject.CommonName)
	}
	// Output:
	// build build root
	// release release root
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
