package browser

import (
	"net/http/httptest"
	"testing"

	"outrider/node/pageca"
)

// TestN04HandoutLooks: the plain-HTTP page that hands out the CA, in three
// themes without a script and both languages, on a small phone and on a desk:
// nothing sticks out, all can be read, hit, and reached by keyboard.
func TestN04HandoutLooks(t *testing.T) {
	t.Parallel()
	ca, err := pageca.New([32]byte{1}, "eaglesnest-17")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(ca.Handout(func() []string {
		return []string{"https://192.168.7.1:7443/", "https://[fd00:1234:5678:9abc:def0:1234:5678:9abc]:7443/", "https://outrider-abcdef.local:7443/"}
	}))
	t.Cleanup(srv.Close)
	for name, o := range map[string]PageOptions{"phone": {Width: 360, Height: 640, Mobile: true}, "desk": desk} {
		for _, lang := range []string{"en", "de"} {
			t.Run(name+"-"+lang, func(t *testing.T) {
				st := newStage(t, o)
				st.must(st.Show(srv.URL+"/"+lang, "the instructions", `document.documentElement.lang === `+quote(lang)+` && document.querySelector('#fingerprint')`))
				for _, theme := range []string{"day", "night", "red"} {
					st.must(st.Click("#" + theme))
					eval[bool](st, `(document.querySelectorAll('details').forEach((d) => { d.open = false; }), scrollTo(0, 0), true)`)
					doorSound(st, theme, theme)
					eval[bool](st, `(document.querySelectorAll('details').forEach((d) => { d.open = true; }), document.querySelector('details:nth-of-type(5)').scrollIntoView(), true)`)
					doorSound(st, theme+" open", theme)
				}
			})
		}
	}
}

// By keyboard alone: the themes, then each system's instructions are opened and
// its download reached.
func TestN04HandoutByKeyboard(t *testing.T) {
	ca, err := pageca.New([32]byte{1}, "eaglesnest-17")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(ca.Handout(func() []string { return []string{"https://192.168.7.1:7443/"} }))
	t.Cleanup(srv.Close)
	st := newStage(t, PageOptions{Width: 360, Height: 640, Mobile: true})
	st.must(st.Show(srv.URL+"/en", "the instructions", `document.querySelector('#fingerprint')`))
	focus := func() string {
		return eval[string](st, `document.activeElement.textContent.trim() + ' ' + getComputedStyle(document.activeElement).outlineStyle`)
	}
	want := []string{"Day", "Night", "Red light", "Deutsch"}
	for _, system := range []string{"Android", "iPhone and iPad", "Windows", "macOS", "Linux", "Firefox, on any system"} {
		want = append(want, system, map[string]string{"iPhone and iPad": "Download the profile", "Linux": "Download the certificate (PEM)"}[system])
		if want[len(want)-1] == "" {
			want[len(want)-1] = "Download the certificate"
		}
	}
	for i, w := range append(want, "https://192.168.7.1:7443/") {
		st.must(st.Press("\t"))
		if got := focus(); got != w+" solid" {
			t.Fatalf("stop %d: the focus is on %q, want %q with a ring", i, got, w)
		}
		if i >= 4 && i%2 == 0 && i < len(want) {
			st.must(st.Press("\r"))
			st.must(st.Wait(w+" to open", `document.activeElement.closest('details').open`))
		}
	}
}
