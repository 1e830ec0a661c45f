// Package nearest finds the word that somebody probably meant.
package nearest

import "strings"

// maxLength bounds what is compared: nobody mistypes longer names.
const maxLength = 64

// Word returns the candidate nearest to word, ignoring upper and lower case, or
// "" where none is near: at most a third of the word's letters may differ, be
// missing, be too many or be swapped with their neighbour.
func Word(word string, candidates []string) string {
	if len(word) > maxLength {
		return ""
	}
	best, distance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if len(c) > maxLength {
			continue
		}
		if d := edits(strings.ToLower(word), strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// Hint is ` (did you mean "x"?)`, or "" where no candidate is near.
func Hint(word string, candidates []string) string {
	if w := Word(word, candidates); w != "" {
		return ` (did you mean "` + w + `"?)`
	}
	return ""
}

// edits is the optimal string alignment distance.
func edits(a, b string) int {
	var before, above [maxLength + 1]int
	var row [maxLength + 1]int
	for j := range len(b) + 1 {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
