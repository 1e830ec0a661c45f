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
		a, b := strings.ToLower(word), strings.ToLower(c)
		if d := editDistance(a, b); d < distance && !otherWord(a, b, d) {
			best, distance = c, d
		}
	}
	return best
}

// otherWord reports whether two words differ by another word in them, and are no slip:
// of what is left without their common beginning and end, most is different.
func otherWord(a, b string, distance int) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return distance > 3 && min(len(a), len(b)) > 0 && 2*distance > max(len(a), len(b))
}

// Hint is ` (did you mean "x"?)`, or "" where no candidate is near.
func Hint(word string, candidates []string) string {
	if w := Word(word, candidates); w != "" {
		return ` (did you mean "` + w + `"?)`
	}
	return ""
}

// editDistance is the optimal string alignment distance.
func editDistance(a, b string) int {
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
