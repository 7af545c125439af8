package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"outrider/field-tests/browser/fakeapi"
)

// crowded tells which words and marks of the mesh picture lie over each other,
// and which of them lie outside of it. The node's own name lies in its own mark.
const crowded = `(() => {
	const picture = document.querySelector('.mesh-svg').getBoundingClientRect();
	const own = document.querySelector('.mesh-svg .self');
	const parts = [...document.querySelectorAll('.mesh-svg text, .mesh-svg .neighbour > :first-child, .mesh-svg .self > rect')].map((e) => ({ e, r: e.getBoundingClientRect(), what: e.textContent || e.tagName }));
	const over = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
	const inside = (a, b) => a.left >= b.left - 0.5 && a.right <= b.right + 0.5 && a.top >= b.top - 0.5 && a.bottom <= b.bottom + 0.5;
	const wrong = parts.filter((p) => !inside(p.r, picture)).map((p) => p.what + ' sticks out');
	parts.forEach((p, i) => parts.slice(i + 1).forEach((q) => {
		if (own.contains(p.e) && own.contains(q.e)) {
			if (!inside(q.r, p.r)) wrong.push(q.what + ' sticks out of its node');
		} else if (over(p.r, q.r)) wrong.push(p.what + ' over ' + q.what);
	}));
	return wrong;
})()`

// drawings fills the picture with up to 13 neighbours of all conditions, with
// short and very long names, and returns what is wrong with each drawing.
const drawings = `
	const { picture } = ${picture};
	const names = ['Bravo', 'W'.repeat(40), 'm9zt8x2q', '指挥所第二移动通信中继车', 'Tamsin Reyes, vehicle 4'];
	const wrong = [];
	for (let n = 1; n <= 13; n++) {
		const nodes = Array.from({ length: n }, (_, i) => ({ name: names[(i + n) % 5], link: ['LAN', 'Radio', 'Wi-Fi', 'a link of a new kind'][i % 4], condition: ['up', 'down', 'up', 'blocked'][i % 4], line: 'lan' }));
		document.querySelector('.mesh-picture').replaceChildren(...picture(['this node', 'Alpha', 'M'.repeat(40)][n % 3], nodes).filter(Boolean));
		const drawn = document.querySelectorAll('.mesh-svg .neighbour').length;
		const more = document.querySelector('.mesh-picture .quiet')?.textContent ?? '';
		if (drawn !== Math.min(n, ${most})) wrong.push(n + ' neighbours: ' + drawn + ' are drawn');
		if (more !== (n > drawn ? 'and ' + (n - drawn) + ' more' : '')) wrong.push(n + ' neighbours, ' + drawn + ' drawn: ' + more);
		wrong.push(...${crowded}.map((w) => n + ' neighbours: ' + w));
	}
	return wrong;`

// However many neighbours there are, no word of the picture lies over another
// or over a mark, from the two machines of the first try on.
func TestMeshPictureHasRoomForItsWords(t *testing.T) {
	for name, c := range map[string]struct {
		o    PageOptions
		most int // that are drawn; the others are counted
	}{"phone": {phone, 8}, "desk": {desk, 12}, "between": {PageOptions{Width: 560, Height: 800}, 12}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := in(t, c.o, func(s *fakeapi.Server) {
				s.SetName("")
				s.SetLinks(fakeapi.Link{Node: "bravo7x2qk5n", Name: "Bravo", Class: "lan", Up: true})
			})
			st.must(st.Go("#/mesh"))
			st.must(st.Wait("the picture", `document.querySelector('.mesh-svg .neighbour')`))
			keep(st, "two")
			for _, wrong := range eval[[]string](st, crowded) {
				t.Errorf("two machines: %s", wrong)
			}
			if got := eval[string](st, `document.querySelector('.mesh-svg').textContent`); got != "BravoLANthis node" {
				t.Errorf("the picture of two machines says %q", got)
			}
			script := strings.NewReplacer("${picture}", module("ui/picture.mjs"), "${most}", fmt.Sprint(c.most), "${crowded}", crowded).Replace(drawings)
			for _, wrong := range eval[[]string](st, called(script)) {
				t.Error(wrong)
			}
			keep(st, "many")
		})
	}
}

// A phone that is turned gets the picture of its new width.
func TestMeshPictureFollowsTheWidth(t *testing.T) {
	t.Parallel()
	st := in(t, phone, func(s *fakeapi.Server) {
		var links []fakeapi.Link
		for i := range 9 {
			links = append(links, fakeapi.Link{Node: fmt.Sprintf("node%02dm9zt8", i), Class: "lan", Up: true})
		}
		s.SetLinks(links...)
	})
	st.must(st.Go("#/mesh"))
	st.must(st.Wait("the picture", `document.querySelector('.mesh-svg')`))
	for _, c := range []struct{ width, drawn int64 }{{360, 8}, {740, 9}, {360, 8}} {
		turned := emulation.SetDeviceMetricsOverrideParams{Width: c.width, Height: 1100 - c.width, DeviceScaleFactor: 1, Mobile: true}
		st.must(chromedp.Do(st.ctx, do(emulation.SetDeviceMetricsOverride, turned)))
		st.must(st.Wait("the new width", fmt.Sprintf(`innerWidth === %d`, c.width)))
		drawn := called(`await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); return document.querySelectorAll('.mesh-svg .neighbour').length;`)
		if n := eval[int64](st, drawn); n != c.drawn { // at once, not when the node has news
			t.Errorf("%d px wide: %d neighbours are drawn, want %d", c.width, n, c.drawn)
		}
		for _, wrong := range eval[[]string](st, crowded) {
			t.Errorf("%d px wide: %s", c.width, wrong)
		}
	}
}
