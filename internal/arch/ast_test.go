package arch

import (
	"go/ast"
	"go/token"
)

func initFuncs(f *ast.File) []token.Pos {
	var at []token.Pos
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			at = append(at, fn.Pos())
		}
	}
	return at
}
