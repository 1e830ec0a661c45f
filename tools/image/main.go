// Command image packs Boltseal's static binaries into a container image, without a container engine.
//
// The same binaries always make the same image: every time in it is that of SOURCE_DATE_EPOCH, or the epoch.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, epoch string) error {
	fl := flag.NewFlagSet("image", flag.ContinueOnError)
	binaries := fl.String("binaries", "dist", "folder with the programs, each named boltseal-linux-ARCH")
	platforms := fl.String("platforms", "linux/amd64,linux/arm64", "what to pack, comma-separated")
	out := fl.String("out", "dist/image", "OCI layout to write; what is there is replaced")
	version := fl.String("version", "", "version for the image's annotations, and its tag in the layout")
	revision := fl.String("revision", "", "commit for the image's annotations")
	push := fl.String("push", "", "where to push it too: REPOSITORY:TAG, with the credentials of the docker configuration")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if *version == "" || fl.NArg() > 0 {
		return errors.New("-version is needed, and there are no arguments")
	}
	created := time.Unix(0, 0).UTC()
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		created = time.Unix(seconds, 0).UTC()
	}
	b := builder{binaries: *binaries, created: created, version: *version, revision: *revision}
	index, err := b.index(strings.Split(*platforms, ","))
	if err != nil {
		return err
	}
	if err := write(*out, index, *version); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s@%s\n", *out, digest)
	if *push == "" {
		return nil
	}
	ref, err := name.ParseReference(*push)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(ref, index, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return err
	}
	fmt.Printf("%s@%s\n", ref.Context(), digest)
	return nil
}

// write makes an OCI layout that holds nothing but the index.
func write(dir string, index v1.ImageIndex, tag string) error {
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return l.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag}))
}
