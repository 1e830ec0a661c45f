package frame

// ExitPage is the page about the exit codes of all commands.
const ExitPage = "https://github.com/boltseal/boltseal/blob/main/docs/exit-codes.md"

// Annotations of a command: what each exit code means where that is more than writeHelp says of all.
const (
	Exit0 = "exit-0"
	Exit1 = "exit-1" // absent: the command never ends with 1
	Exit2 = "exit-2"
)

// ExitCodes are the annotations of a command whose exit codes mean what the texts say.
// docs/exit-codes.md has the same texts.
func ExitCodes(zero, one, two string) map[string]string {
	return map[string]string{Exit0: zero, Exit1: one, Exit2: two}
}
