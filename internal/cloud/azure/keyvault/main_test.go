package keyvault_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs more tests side by side than there are processors: most of the
// time they wait for an interval to pass.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
