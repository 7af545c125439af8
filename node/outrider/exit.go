package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"outrider/node/api"
)

// An exitCode is a number a script can rely on. New ones are added at the
// end; none changes its meaning.
type exitCode int

const (
	exitOK exitCode = iota
	exitFailed
	exitUsage
	exitNotRunning
	exitLogin
	exitRefused
	exitMissing
	exitConflict
	exitBusy
	exitSetup
	exitFault
)

// exitCodes is the one table: help, man page and tests come from it.
var exitCodes = []struct {
	code exitCode
	text string
}{
	{exitOK, "done"},
	{exitFailed, "failed for a reason that has no number of its own"},
	{exitUsage, "wrong usage: an unknown verb or flag, a missing or malformed argument"},
	{exitNotRunning, "no node is running on this folder"},
	{exitLogin, "nobody is logged in, or the session has ended"},
	{exitRefused, "refused: wrong password, or not allowed"},
	{exitMissing, "no such user, message, node or file"},
	{exitConflict, "not as things stand: exists already, ambiguous, or not complete yet"},
	{exitBusy, "no room or too many tries: try again later"},
	{exitSetup, "the folder or the settings cannot be used as they are"},
	{exitFault, "doctor has found a fault"},
}

// A failure is an error with all an operator needs: what happened, what to do
// about it, and the command to type next.
type failure struct {
	exit    exitCode
	code    string // stable word for programs
	message string
	hint    string
	next    string // a command line
	said    bool   // it was shown already
}

func (f *failure) Error() string { return f.message }

// usageError says that the command line itself is wrong.
func usageError(format string, args ...any) error {
	return &failure{exit: exitUsage, code: "usage", message: fmt.Sprintf(format, args...)}
}

// exitFor gives the exit code of an API error: by its code where that says
// more than the HTTP status does.
func exitFor(status int, code string) exitCode {
	switch {
	case code == "no_network" || code == "loopback":
		return exitSetup
	case code == "bad_password" || code == "bad_link" || code == "bad_config" || code == "bad_words" || code == "bad_code":
		return exitRefused
	case status == http.StatusUnauthorized:
		return exitLogin
	case status == http.StatusForbidden:
		return exitRefused
	case status == http.StatusNotFound || status == http.StatusGone:
		return exitMissing
	case status == http.StatusConflict || status == http.StatusPreconditionFailed:
		return exitConflict
	case status == http.StatusTooManyRequests || status == http.StatusInsufficientStorage || status == http.StatusServiceUnavailable:
		return exitBusy
	case status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity:
		return exitUsage
	}
	return exitFailed
}

// report prints an error for a person, or as JSON, and returns the exit code.
func (a *app) report(err error) exit {
	if err == nil {
		return exit(exitOK)
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{exit: exitFailed, code: "failed", message: api.Sentence(err)}
	}
	shown := *f
	shown.message, shown.next = api.Plain(f.message), a.inDir(f.next)
	f = &shown
	if f.said {
		return exit(f.exit)
	}
	f.message = strings.ReplaceAll(f.message, "\n", "; ") // several errors at once
	if a.json {
		a.reportJSON(f)
		return exit(f.exit)
	}
	fmt.Fprintf(a.err, "outrider: %s\n", clean(f.message))
	if f.hint != "" {
		for _, line := range strings.Split(f.hint, "\n") {
			fmt.Fprintf(a.err, "  %s\n", clean(line))
		}
	}
	if f.next != "" {
		fmt.Fprintf(a.err, "  next: %s\n", clean(f.next))
	}
	return exit(f.exit)
}

// exit is what run returns to main.
type exit = int

func (a *app) reportJSON(f *failure) {
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
		Next    string `json:"next,omitempty"`
		Exit    int    `json:"exit"`
	}
	line, err := json.Marshal(map[string]body{"error": {f.code, f.message, f.hint, f.next, int(f.exit)}})
	if err != nil {
		line = []byte(`{"error":{"code":"failed","exit":1}}`)
	}
	fmt.Fprintf(a.err, "%s\n", cleanJSON(line))
}
