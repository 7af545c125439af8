package deeplink

import (
	"errors"
	"strings"
	"testing"
)

func TestP04SheetReadsBack(t *testing.T) {
	for _, secret := range [][32]byte{{}, {31: 1}, {0: 0xff, 15: 0x80, 31: 0x7f}} {
		text := SheetFrom(secret)
		list := strings.Fields(text)
		if len(list) != SheetWords {
			t.Fatalf("%d words", len(list))
		}
		for i, w := range list {
			if len(w) > 4 {
				list[i] = strings.ToUpper(w[:4])
			}
		}
		numbered := ""
		for i, w := range list {
			numbered += string(rune('0'+i%10)) + ". " + w + "\n"
		}
		for _, typed := range []string{text, numbered, strings.ReplaceAll(text, " ", "-")} {
			if got, err := ReadSheet(typed); err != nil || got != secret {
				t.Errorf("%q: %x %v", typed, got, err)
			}
		}
	}
}

func TestP04SheetRefusesWhatIsNone(t *testing.T) {
	good := strings.Fields(SheetFrom([32]byte{1, 2, 3}))
	swapped := strings.Join(append([]string{good[1], good[0]}, good[2:]...), " ")
	for what, text := range map[string]string{
		"nothing": "", "too few": strings.Join(good[1:], " "), "one past the limit": strings.Join(append(good, good[0]), " "),
		"a strange word": strings.Join(good[1:], " ") + " xyzzy", "two swapped": swapped,
	} {
		if _, err := ReadSheet(text); !errors.Is(err, ErrSheet) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzSheet(f *testing.F) {
	f.Add(SheetFrom([32]byte{7}))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if secret, err := ReadSheet(text); err == nil {
			if again, err := ReadSheet(SheetFrom(secret)); err != nil || again != secret {
				t.Fatalf("%x %v", again, err)
			}
		} else if !errors.Is(err, ErrSheet) {
			t.Fatal(err)
		}
	})
}
