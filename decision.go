package boltseal

import "fmt"

// Decision is the answer to "may this image run?". The zero value denies.
type Decision uint8

const (
	// Deny: the evidence does not satisfy the policy. It is the zero value.
	Deny Decision = iota
	// Allow: the evidence satisfies the policy.
	Allow
	// Unknown: the evidence could not be gathered, so neither answer would be
	// honest. Whoever acts on a decision treats it as Deny unless its owner
	// has chosen otherwise.
	Unknown
)

var decisionNames = [...]string{Deny: "not trusted", Allow: "trusted", Unknown: "unknown"}

// String returns what the decision says of the image: "not trusted", "trusted" or
// "unknown", the words of every output.
func (d Decision) String() string { return enumString(decisionNames[:], int(d)) }

// MarshalText encodes the decision as its name.
func (d Decision) MarshalText() ([]byte, error) { return enumText(decisionNames[:], int(d)) }

// UnmarshalText reads a name that MarshalText wrote; any other text is an error.
func (d *Decision) UnmarshalText(b []byte) error {
	i, err := enumParse("decision", decisionNames[:], b)
	*d = Decision(i)
	return err
}

// Outcome is what one verifier found about one candidate. The zero value rejects.
type Outcome uint8

const (
	// Rejected: the candidate does not prove what it claims. It is the zero value.
	Rejected Outcome = iota
	// Verified: the candidate satisfies its verifier.
	Verified
	// Undetermined: something needed to judge the candidate was out of reach,
	// or it has not been looked at yet.
	Undetermined
)

var outcomeNames = [...]string{Rejected: "rejected", Verified: "verified", Undetermined: "undetermined"}

// String returns "rejected", "verified" or "undetermined".
func (o Outcome) String() string { return enumString(outcomeNames[:], int(o)) }

// MarshalText encodes the outcome as its name.
func (o Outcome) MarshalText() ([]byte, error) { return enumText(outcomeNames[:], int(o)) }

// UnmarshalText reads a name that MarshalText wrote; any other text is an error.
func (o *Outcome) UnmarshalText(b []byte) error {
	i, err := enumParse("outcome", outcomeNames[:], b)
	*o = Outcome(i)
	return err
}

// CheckOutcome is how one check of a verification ended. The zero value failed.
type CheckOutcome uint8

const (
	// CheckFailed: the check ran and did not hold. It is the zero value.
	CheckFailed CheckOutcome = iota
	// CheckPassed: the check ran and held.
	CheckPassed
	// CheckLogged: the check did not hold, and the trust policy only records it.
	CheckLogged
	// CheckSkipped: the trust policy does not ask for the check.
	CheckSkipped
	// CheckUndetermined: the check could not be made.
	CheckUndetermined
)

var checkNames = [...]string{
	CheckFailed: "failed", CheckPassed: "passed", CheckLogged: "logged",
	CheckSkipped: "skipped", CheckUndetermined: "undetermined",
}

// String returns the outcome's name.
func (c CheckOutcome) String() string { return enumString(checkNames[:], int(c)) }

// MarshalText encodes the outcome as its name.
func (c CheckOutcome) MarshalText() ([]byte, error) { return enumText(checkNames[:], int(c)) }

// UnmarshalText reads a name that MarshalText wrote; any other text is an error.
func (c *CheckOutcome) UnmarshalText(b []byte) error {
	i, err := enumParse("check outcome", checkNames[:], b)
	*c = CheckOutcome(i)
	return err
}

func enumString(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("invalid(%d)", i)
}

func enumText(names []string, i int) ([]byte, error) {
	if i < len(names) {
		return []byte(names[i]), nil
	}
	return nil, fmt.Errorf("value %d has no name", i)
}

// enumParse returns 0 with its error: the zero of every enum here is its safe value.
func enumParse(kind string, names []string, b []byte) (int, error) {
	for i, n := range names {
		if n == string(b) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not a %s", b, kind)
}
