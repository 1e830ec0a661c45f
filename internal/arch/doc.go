// Package arch holds the rules of the code's structure as tests.
package arch
