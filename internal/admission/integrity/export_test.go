package integrity

// Judge is JudgeAll for policies that ask the same verifiers.
func Judge(policies []*Policy, images []Image, c Context) Verdict {
	return JudgeAll(c, Group{policies, images})
}
