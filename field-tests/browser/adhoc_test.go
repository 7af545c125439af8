package browser

import (
	"os"
	"testing"
)

func TestAdhoc(t *testing.T) {
	url := "http://127.0.0.1:27480"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	a, c := newPage(t, PageOptions{}), newPage(t, PageOptions{Width: 360, Height: 740, Mobile: true})
	must(a.Open(url))
	if err := a.Login("Alice", "nope"); err == nil {
		t.Error("wrong password taken")
	} else {
		t.Log(err)
	}
	must(a.Login("Alice", "alice password here"))
	must(c.Open(url))
	must(c.Login("Charlie", "alice password here"))
	must(a.OpenChat("Charlie"))
	must(a.Send("Bridge is open."))
	must(a.WaitState("Bridge is open.", "delivered 1/1"))
	must(c.OpenChat("Alice"))
	must(c.WaitMessage("Bridge is open."))
	must(a.WaitState("Bridge is open.", "read"))
	must(c.Send("Thanks"))
	must(a.WaitMessage("Thanks"))
	f := t.TempDir() + "/route.bin"
	must(os.WriteFile(f, make([]byte, 5_000_000), 0o600))
	must(a.Attach(f))
	must(a.WaitMessage("route.bin"))
	must(c.Wait("download", `document.querySelector('a[download="route.bin"]')`))
	must(a.SetPosition(&[3]float64{46.94809, 7.44744, 12}))
	must(a.ClickText("Share position"))
	must(a.ClickText("Use this device’s position"))
	must(a.WaitText("32T LT 81852 00565"))
	must(a.ClickText("Share"))
	must(c.WaitMessage("32T LT 81852 00565"))
	must(a.Click(".message.own:last-child .state-button"))
	must(a.Wait("why", `document.querySelector('#why .why-summary')`))
	must(a.SaveScreenshot("/tmp/h7/real-a.png"))
	must(a.Press("\u001b"))
	must(c.SaveScreenshot("/tmp/h7/real-c.png"))
	must(a.Go("#/status"))
	must(a.WaitText("eagle"))
	must(a.Go("#/mesh"))
	must(a.WaitText("No other node has been heard yet"))
	must(a.Go("#/settings"))
	must(a.Click("#logout"))
	must(a.Wait("login", `document.querySelector('#login-submit')`))
}
