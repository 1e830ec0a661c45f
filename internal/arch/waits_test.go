package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hangs is the shortest deadline that only a hang reaches, whatever else the machine does.
const hangs = time.Minute

// notYet are the test files that the rule does not hold for yet. Give each wait in one of them a reason, or an event
// to wait for, and delete its line; add none.
var notYet = []string{}

// TestNoVerdictDependsOnSpeed finds what makes a test depend on how fast the machine is: sleeps, and times shorter than
// a minute that something real is given or is compared with. What waits, waits for an event, with a deadline that only a
// hang reaches; what is about time runs in a synctest bubble, where all of this is allowed, or has a clock of its own.
//
// What must stay has the reason in a comment that begins with "waits:", in its line or in the lines just above:
//
//	// waits: the registry never answers, so any time shows it; a slow machine only makes the test longer
//	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
//
// A reason says why a slow machine cannot change the verdict.
func TestNoVerdictDependsOnSpeed(t *testing.T) {
	t.Parallel()
	var clean []string
	goFiles(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		found, err := findWaits(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if rel = filepath.ToSlash(rel); slices.Contains(notYet, rel) {
			if len(found) == 0 {
				clean = append(clean, rel)
			}
			return
		}
		for _, w := range found {
			t.Errorf("%s:%d: %s: wait for an event, use testing/synctest, or say in a comment that begins with \"waits:\" why a slow machine cannot change the verdict", rel, w.line, w.what)
		}
	})
	for _, rel := range clean {
		t.Errorf("%s is clean: delete its line in notYet", rel)
	}
}

type wait struct {
	line int
	what string
}

// waiters are functions whose durations are real time, by package and name.
var waiters = map[string]bool{
	"context.WithTimeout": true, "context.WithTimeoutCause": true, "time.After": true, "time.AfterFunc": true,
	"time.NewTimer": true, "time.NewTicker": true, "time.Tick": true,
}

// deadlines are methods of connections that take a time.
var deadlines = map[string]bool{"SetDeadline": true, "SetReadDeadline": true, "SetWriteDeadline": true}

// waiting matches the names of fields, variables and constants that hold how long something real may take.
var waiting = regexp.MustCompile(`(?i)(timeout|deadline|patience)$`)

// findWaits returns what has no reason. src is for go/parser.
func findWaits(path string, src any) ([]wait, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	reasons := map[int]bool{} // the lines that a reason is for
	for _, group := range file.Comments {
		if text := group.Text(); strings.Contains("\n"+text, "\nwaits: ") {
			for line := set.Position(group.Pos()).Line; line <= set.Position(group.End()).Line+1; line++ {
				reasons[line] = true
			}
		}
	}
	var found []wait
	add := func(at ast.Node, format string, args ...any) {
		line := set.Position(at.Pos()).Line
		if w := (wait{line, fmt.Sprintf(format, args...)}); !reasons[line] && !slices.Contains(found, w) {
			found = append(found, w)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := nameOf(n.Fun)
			switch {
			case name == "synctest.Test":
				return false // its time is not real
			case name == "time.Sleep":
				add(n, "sleeps")
			case waiters[name] || deadlines[name[strings.LastIndex(name, ".")+1:]]:
				for _, arg := range n.Args {
					if d, ok := shortest(arg); ok && d < hangs {
						add(n, "%s with %s", name, d)
					}
				}
			}
		case *ast.BinaryExpr:
			if slices.Contains([]token.Token{token.LSS, token.LEQ, token.GTR, token.GEQ}, n.Op) {
				for _, side := range []ast.Expr{n.X, n.Y} {
					if d, ok := shortest(side); ok && d < hangs {
						add(n, "compares with %s", d)
					}
				}
			}
		case *ast.KeyValueExpr:
			holds(n.Key, n.Value, add)
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if len(n.Lhs) == len(n.Rhs) {
					holds(left, n.Rhs[i], add)
				}
			}
		case *ast.ValueSpec:
			for i, left := range n.Names {
				if len(n.Names) == len(n.Values) {
					holds(left, n.Values[i], add)
				}
			}
		}
		return true
	})
	return found, nil
}

func holds(left, right ast.Expr, add func(ast.Node, string, ...any)) {
	name := nameOf(left)
	if !waiting.MatchString(name) {
		return
	}
	if d, ok := shortest(right); ok && d < hangs {
		add(left, "%s of %s", name, d)
	}
}

// nameOf is a.b for a selector and a for an identifier; otherwise empty.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return nameOf(e.X) + "." + e.Sel.Name
	}
	return ""
}

var units = map[string]time.Duration{
	"time.Nanosecond": time.Nanosecond, "time.Microsecond": time.Microsecond, "time.Millisecond": time.Millisecond,
	"time.Second": time.Second, "time.Minute": time.Minute, "time.Hour": time.Hour,
}

// shortest is the shortest literal duration other than 0 in an expression, such as 20*time.Second in
// time.Now().Add(20*time.Second).
func shortest(e ast.Expr) (time.Duration, bool) {
	least, ok := time.Duration(0), false
	ast.Inspect(e, func(n ast.Node) bool {
		d, is := time.Duration(0), false
		switch n := n.(type) {
		case *ast.FuncLit, *ast.CompositeLit:
			return false
		case *ast.BinaryExpr:
			d, is = product(n)
		case *ast.SelectorExpr:
			d, is = units[nameOf(n)]
		default:
			return true
		}
		if is && d != 0 && (!ok || d < least) {
			least, ok = d, true
		}
		return !is
	})
	return least, ok
}

// product is what N*time.Unit stands for, in either order.
func product(e *ast.BinaryExpr) (time.Duration, bool) {
	if e.Op != token.MUL {
		return 0, false
	}
	for _, s := range [][2]ast.Expr{{e.X, e.Y}, {e.Y, e.X}} {
		unit, isUnit := units[nameOf(s[1])]
		number, isNumber := s[0].(*ast.BasicLit)
		if !isUnit || !isNumber {
			continue
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(number.Value, "_", ""), 0, 64)
		if err != nil {
			return 0, false
		}
		return time.Duration(n) * unit, true
	}
	return 0, false
}

func TestWaitsAreFound(t *testing.T) {
	t.Parallel()
	const head = "package p\n\nfunc f() {\n"
	for text, want := range map[string]string{
		"time.Sleep(d)":                         "sleeps",
		"// waits: for a reason\ntime.Sleep(d)": "",
		"// waits: for a reason\n// that has two lines\ntime.Sleep(d)": "",
		"time.Sleep(d) // waits: for a reason":                         "",
		"// waits: for a reason\n\ntime.Sleep(d)":                      "sleeps",
		"// waits for no reason\ntime.Sleep(d)":                        "sleeps",
		"for ; ; time.Sleep(d) { // waits: for a reason\n}":            "",
		"synctest.Test(t, func() { time.Sleep(d) })":                   "",
		"<-time.After(10 * time.Second)":                               "time.After with 10s",
		"<-time.After(time.Minute)":                                    "",
		"context.WithTimeout(c, 1_000*time.Millisecond)":               "context.WithTimeout with 1s",
		"context.WithTimeout(c, time.Second)":                          "context.WithTimeout with 1s",
		"context.WithTimeout(c, patience)":                             "",
		"c.SetReadDeadline(time.Now().Add(time.Second))":               "c.SetReadDeadline with 1s",
		"if took > 2*time.Second { }":                                  "compares with 2s",
		"if time.Since(start) >= time.Millisecond*5 { }":               "compares with 5ms",
		"if age > 2*time.Hour { }":                                     "",
		"deadline := time.Now().Add(20 * time.Second)":                 "deadline of 20s",
		"const patience = 20 * time.Second":                            "patience of 20s",
		"o.Timeout = 5 * time.Second":                                  "o.Timeout of 5s",
		"x = T{ReadTimeout: time.Second, Age: time.Second}":            "ReadTimeout of 1s",
		"x = T{ReadTimeout: 2*time.Minute}":                            "",
		"const timeoutText = \"1s\"":                                   "",
		"if n < 3 { }":                                                 "",
	} {
		found, err := findWaits("x_test.go", head+text+"\n}\n")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		switch {
		case want == "" && len(found) > 0, want != "" && (len(found) != 1 || found[0].what != want):
			t.Errorf("%s: %v, want %q", text, found, want)
		}
	}
}
