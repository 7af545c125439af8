package browser

import (
	"testing"

	"outrider/field-tests/browser/fakeapi"
)

// TestF03ForbiddenIsDisabled: what a policy forbids cannot be pressed and says
// why; what is withheld says by whom; the settings tell the rest, in both
// languages; and all of it goes when the policy does.
func TestF03ForbiddenIsDisabled(t *testing.T) {
	const attach = `document.querySelector('#compose-attach')`
	st, _ := withCharlie(t, PageOptions{})
	st.must(st.Wait("the button", `!`+attach+`.disabled`))
	st.s.Forbid("<i>convoy</i>")
	st.must(st.Wait("the disabled button", attach+`.disabled && `+bare(attach+`.title`)+` === 'The policy of group <i>convoy</i> forbids files'`))
	if n := eval[int](st, `document.querySelectorAll('.compose-tools button:disabled').length`); n != 2 {
		t.Errorf("%d buttons are disabled, want files and position", n)
	}
	st.must(st.Send("a text goes"))
	m := last(st)
	st.s.Update(m.ID, func(m *fakeapi.Message) { m.Type, m.Text, m.Withheld = "file", nil, "convoy" })
	st.must(st.Wait("what is withheld", bare(`document.querySelector('.message .withheld')?.innerText`)+`.includes('withheld by the policy of group convoy')`))

	st.must(st.Open(st.s.URL() + "/?lang=de#/settings"))
	st.must(st.Wait("the card", bare(`document.querySelector('#policy-files')?.innerText`)+`.includes('aus, durch die Richtlinie der Gruppe <i>convoy</i>')`))
	st.must(st.Wait("its date", bare(`document.querySelector('#policy').innerText`)+`.includes('12 Tage nach Ablauf') && document.querySelectorAll('#policy .notice').length === 2`))
	st.s.Forbid("")
	st.must(st.Wait("nothing any more", `document.querySelector('#policy').innerText.includes('Alles ist erlaubt')`))
}

// bare is a text without the marks that keep names from turning it around.
func bare(js string) string { return `String(` + js + ` ?? '').replace(/[\u2066-\u2069]/g, '')` }
