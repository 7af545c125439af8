package browser

import (
	"strings"
	"testing"
)

// TestK01ArchiveIsShown above the next message, at once and in both languages,
// and the reader's name is text.
func TestK01ArchiveIsShown(t *testing.T) {
	const notice = `document.querySelector('#compose-archived')`
	st, _ := withCharlie(t, PageOptions{})
	if !eval[bool](st, notice+`.hidden`) {
		t.Error("it says that somebody archives, and nobody does")
	}
	st.s.Archive("<b>keeper</b>")
	st.must(st.Wait("the notice", `!`+notice+`.hidden && `+notice+`.innerText.includes('Archived by') && `+notice+`.innerText.includes('<b>keeper</b>')`))
	st.must(st.Open(st.s.URL() + "/?lang=de"))
	st.must(st.OpenChat("Charlie"))
	st.must(st.Wait("the German notice", notice+`?.innerText.includes('Archiviert von')`))
	if got := eval[string](st, notice+`.getBoundingClientRect().width <= document.documentElement.clientWidth ? 'fits' : 'too wide'`); !strings.Contains(got, "fits") {
		t.Error(got)
	}
	st.s.Archive()
	st.must(st.Wait("no notice any more", notice+`.hidden`))
}
