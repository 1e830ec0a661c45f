// Package quickstart runs the commands of docs/quickstart.md as they stand there, from the build to the removal.
package quickstart
