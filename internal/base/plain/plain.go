// Package plain tells whether text can stand between the quotes of a JSON string as it is.
package plain

import "unsafe"

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// JSON reports whether s is ASCII without control characters, quotes and
// backslashes (RFC 8259, section 7). It looks at eight bytes at a time.
func JSON(s string) bool {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	for len(b) >= 8 {
		x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		if hasSpecial(x) {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// hasSpecial reports whether any of eight bytes is over 0x7f, below a space, a
// quote or a backslash. A byte is zero where (y-1)&^y has its high bit; borrows
// from lower bytes can only follow a byte that was found already.
func hasSpecial(x uint64) bool {
	quote, back := x^(ones*'"'), x^(ones*'\\')
	return (x|(x-ones*' ')&^x|(quote-ones)&^quote|(back-ones)&^back)&highs != 0
}
