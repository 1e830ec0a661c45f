package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The picture in the README is well-formed, runs no script, loads nothing, and names nothing of the machine that made it.
func TestPictureOfTheREADME(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "images", "terminal.svg"))
	if err != nil {
		t.Fatal(err)
	}
	checkPicture(t, string(b))
	for _, want := range []string{"boltseal", "trusted", registry} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
}

func checkPicture(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = true
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			if e.Name.Local == "script" || e.Name.Local == "image" || e.Name.Local == "a" {
				t.Errorf("the picture has an element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") {
					t.Errorf("the picture has an attribute %s", a.Name.Local)
				}
			}
		}
	}
	for _, no := range []string{`127\.0\.0\.1`, `localhost:\d`, `/(tmp|root|home|work|Users|var)/`, `url\(`} {
		if found := regexp.MustCompile(no).FindString(text); found != "" {
			t.Errorf("%q is in the picture", found)
		}
	}
}

func TestSameAnswersMakeTheSamePicture(t *testing.T) {
	dir := t.TempDir()
	script, prelude := filepath.Join(dir, "script"), filepath.Join(dir, "prelude")
	if err := errors.Join(os.WriteFile(script, []byte("# <who> & what\n$SAY one\n\nfalse\n"), 0o600), os.WriteFile(prelude, []byte(
		`SAY() { echo "$1 127.0.0.1:$RANDOM/app (decision $(head -c8 /dev/urandom | od -An -tx1 | tr -d ' \n')) at $PWD/x.yaml"; }; SAY=SAY`), 0o600)); err != nil {
		t.Fatal(err)
	}
	var made [2]string
	for i := range made {
		out := filepath.Join(dir, "out.svg")
		if err := record([]string{"-script", script, "-prelude", prelude, "-out", out}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		made[i] = string(b)
		checkPicture(t, made[i])
	}
	if made[0] != made[1] {
		t.Errorf("two pictures of the same:\n%s\n%s", made[0], made[1])
	}
	for _, want := range []string{"# &lt;who&gt; &amp; what", "one " + registry + "/app", "$ false"} {
		if !strings.Contains(made[0], want) {
			t.Errorf("%q is not in\n%s", want, made[0])
		}
	}
	if err := record([]string{"-script", script, "-out", filepath.Join(dir, "no.svg")}); err == nil {
		t.Error("a command that is not there was recorded")
	}
}

func TestLongLinesAreBroken(t *testing.T) {
	for _, text := range []string{strings.Repeat("word ", 60), strings.Repeat("x", 350), strings.Repeat("…", 250), strings.Repeat(" ", 300) + "x"} {
		rows := breakLine(line{text: text})
		if len(rows) < 2 {
			t.Errorf("%q is one line", text)
		}
		for _, r := range rows {
			if n := len([]rune(r.text)); n > columns {
				t.Errorf("%d columns: %q", n, r.text)
			}
		}
	}
}

func TestOnlyVerdictsAreColoured(t *testing.T) {
	for text, want := range map[string]string{
		"app:signed    trusted  sha256":             `app:signed    <tspan class="g">trusted</tspan>  sha256`,
		"app:unsigned  not trusted  -":              `app:unsigned  <tspan class="r">not trusted</tspan>  -`,
		"2 images: 1 trusted, 1 not trusted":        `2 images: 1 <tspan class="g">trusted</tspan>, 1 <tspan class="r">not trusted</tspan>`,
		"  trusted (decision 1)":                    "  trusted (decision 1)", // the end of "the image is not trusted"
		`webhook "x": policy "only-trusted-images"`: `webhook "x": policy "only-trusted-images"`,
	} {
		if got := colourWords(text); got != want {
			t.Errorf("%s", got)
		}
	}
}
