package doctor

import "slices"

// maxSubjects is how many subjects a finding about several of them names.
const maxSubjects = 3

// mergeRepeats makes one finding of those that say the same of several subjects, in
// the place of the first.
func mergeRepeats(all []Finding) []Finding {
	type same struct {
		area            string
		level           Level
		message, remedy string
	}
	at, subjects := map[same]int{}, map[int][]string{}
	var out []Finding
	for _, f := range all {
		k := same{f.Area, f.Level, f.Message, f.Remedy}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k], out = i, append(out, f)
		}
		if f.Subject != "" && !slices.Contains(subjects[i], f.Subject) {
			subjects[i] = append(subjects[i], f.Subject)
		}
	}
	for i := range out {
		out[i].Subject = firstOf(subjects[i], maxSubjects)
	}
	return out
}
