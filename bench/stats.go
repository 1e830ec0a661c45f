package main

import (
	"fmt"
	"slices"
)

func medianOf(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// spreadOf is the smallest and the largest value.
func spreadOf(v []float64) string { return fmt.Sprintf("%.2f to %.2f", slices.Min(v), slices.Max(v)) }
