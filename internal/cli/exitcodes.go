package cli

// exitPage is the page about the exit codes of all commands.
const exitPage = "https://github.com/boltseal/boltseal/blob/main/docs/exit-codes.md"

// Annotations of a command: what each exit code means where that is more than writeHelp says of all.
const (
	exit0 = "exit-0"
	exit1 = "exit-1" // absent: the command never ends with 1
	exit2 = "exit-2"
)

// exitCodes are the annotations of a command whose exit codes mean what the texts say.
// docs/exit-codes.md has the same texts.
func exitCodes(zero, one, two string) map[string]string {
	return map[string]string{exit0: zero, exit1: one, exit2: two}
}
