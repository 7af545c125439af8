package main

import (
	"strings"

	"outrider/node/chat"
)

// whyAnswer is what the node tells of a message: sentences as codes, to be
// said in the user's language.
type whyAnswer struct {
	SummarySaid chat.Sentence   `json:"summary_said"`
	FactsSaid   []chat.Sentence `json:"facts_said"`
	NextSaid    chat.Sentence   `json:"next_said"`
	TodoSaid    chat.Sentence   `json:"todo_said"`
}

var whyWords = map[string]struct{ next, todo string }{
	"en": {"Next", "To do"},
	"de": {"Als Nächstes", "Zu tun"},
}

func (a *app) showWhy(w whyAnswer) {
	lang := a.language()
	a.printf("%s\n", clean(w.SummarySaid.In(lang)))
	for _, f := range w.FactsSaid {
		a.printf("  - %s\n", clean(f.In(lang)))
	}
	if s := w.NextSaid.In(lang); s != "" {
		a.printf("%s: %s\n", whyWords[lang].next, clean(s))
	}
	if s := w.TodoSaid.In(lang); s != "" {
		a.printf("%s: %s\n", whyWords[lang].todo, clean(s))
	}
}

// language is that of the user's locale if sentences can be said in it, else
// English (POSIX.1-2024, 8.2: the first of these that is set counts).
func (a *app) language() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := a.env(name); v != "" {
			for _, lang := range chat.Languages {
				if code, _, _ := strings.Cut(strings.ToLower(v), "_"); code == lang {
					return lang
				}
			}
			return "en"
		}
	}
	return "en"
}
