package api

import (
	"errors"
	"regexp"
	"strings"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/deeplink"
)

// sentences are what people are told where the chain of causes would be a
// programmer's. The first that matches wins.
var sentences = []struct {
	is   error
	text string
}{
	{ErrAdminPassword, "the admin password is wrong; nothing was changed"},
	{ErrNotAdmin, strings.TrimPrefix(ErrNotAdmin.Error(), "api: ")},
	{deeplink.ErrNoLink, "this is no join link and no config of Outrider"},
	{deeplink.ErrDamaged, "the link is damaged or not whole: copy it again, whole"},
	{deeplink.ErrPassword, "wrong password: it does not open this link; nothing was changed"},
	{identity.ErrForeign, "it is signed by an admin of another network"},
}

// silent are classes whose text adds nothing to the cause they stand beside.
var silent = []error{ErrConfig, ErrLink, ErrLoopback, ErrConflict, ErrNoNetwork, chat.ErrPassword, chat.ErrState, chat.ErrInvalid}

// packages are names of ours that begin errors and say nothing to a person.
var packages = regexp.MustCompile(`(^|: )(?:(?:api|atak|carry|chat|compliance|config|coresync|deeplink|identity|kdf|node|policy|roster|store): )+`)

// Sentence is an error as people read it: one sentence for what everybody
// meets, else the causes without the names of packages and classes.
func Sentence(err error) string {
	for _, s := range sentences {
		if errors.Is(err, s.is) {
			return s.text
		}
	}
	text := err.Error()
	for _, class := range silent {
		text = strings.TrimSuffix(strings.TrimPrefix(text, class.Error()+": "), ": "+class.Error())
	}
	return Plain(text)
}

// Plain leaves the names of packages out of an error's text.
func Plain(text string) string { return packages.ReplaceAllString(text, "$1") }

// Classified tells how the API answers with an error; ok is false for one that
// is the node's own fault.
func Classified(err error) (status int, code, hint string, ok bool) {
	f := classify(err)
	return f.Status, f.Code, f.Hint, f.Code != "internal"
}
