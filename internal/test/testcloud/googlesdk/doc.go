// Package googlesdk holds the fakes of Google's services against Google's own SDK, which is no part of the program.
package googlesdk
