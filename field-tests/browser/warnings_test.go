package browser

import (
	"strings"
	"testing"

	"outrider/field-tests/browser/fakeapi"
)

// TestWarningsOfTheNode: what the node warns of is on the status screen in the
// reader's language, one that this page does not know in the node's words, and
// the way there is marked unless nobody loses by it.
func TestWarningsOfTheNode(t *testing.T) {
	const unseen, marked = `document.querySelector('#nav-warn').hidden`, `!document.querySelector('#nav-warn').hidden`
	st := in(t, PageOptions{}, func(s *fakeapi.Server) { s.Warn(fakeapi.Warning{Code: "clock_unconfirmed"}) })
	st.must(st.Go("#/status"))
	st.must(st.Wait("the warning", `document.querySelector('#warnings [data-code="clock_unconfirmed"]')?.innerText.includes('has confirmed the node’s clock')`))
	if !eval[bool](st, unseen) {
		t.Error("a warning that many nodes have for ever marks the way to it")
	}

	st.s.Warn(fakeapi.Warning{Code: "node_ends"}, fakeapi.Warning{Code: "of_tomorrow", Message: "<b>the mast leans</b>", Hint: "hold it"})
	st.must(st.Wait("the mark", marked))
	st.must(st.Wait("what the page has no words for", `document.querySelector('#warnings [data-code="of_tomorrow"]')?.innerText.includes('<b>the mast leans</b>')`))
	st.must(st.Open(st.s.URL() + "/?lang=de"))
	st.must(st.Go("#/status"))
	st.must(st.Wait("the German words", `document.querySelector('#warnings [data-code="node_ends"]')`))
	if got := eval[string](st, `document.querySelector('#warnings').innerText`); !strings.Contains(got, "Das Zertifikat dieses Knotens läuft") || !strings.Contains(got, "Bitten Sie einen Administrator") {
		t.Errorf("in German: %s", got)
	}

	st.s.Warn()
	st.must(st.Wait("no warning any more", `!document.querySelector('#warnings') && `+unseen))
}
